"""Which code an artefact's key names: all that its steps can import, and nothing that changes no result."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from search_spaces.methods.registry import METHODS, step_from_json
from workers.evaluation.methods import modules_of
from workers.plan import code_version as version
from workers.plan.code_version import ROOT, code_version, imported_by, without_comments

# Carries steps out in a fresh process, and names every module of the project that was loaded for it and that
# `imported_by` does not know.
LOADED = """
import sys
from pathlib import Path
from search_spaces.methods.registry import step_from_json
from workers.plan.code_version import imported_by
from workers.evaluation.methods import compress, modules_of
from workers.plan.compression_context import CompressionContext
from workers.plan.evaluation_plan import EvaluationPlan
from workers.translation.prompts import PROMPTS
from workers.reading.dataset import read_dataset
import torch

small, shipped, out, data = map(Path, sys.argv[1:5])
context = CompressionContext(
    calibration=read_dataset(str(data)).segments[::20], prompt=PROMPTS["alma"], device=torch.device("cpu"), seed=0,
    trust_remote_code=False, store=out / "store", parent_key="parent", calibration_tokens=1024,
)
before = {name for name in sys.modules if name.partition(".")[0] in ("search_spaces", "workers")}
known = set()
for number, record in enumerate(eval(sys.argv[5])):
    step = step_from_json(record)
    folder = out / str(number)
    folder.mkdir()
    # Its tokenizer alone is of a kind that can be trimmed.
    compress(shipped if step.name == "trim_vocabulary" else small, folder, step, context)
    known |= imported_by(modules_of([step]))
    loaded = {name for name in sys.modules if name.partition(".")[0] in ("search_spaces", "workers")} - before
    print(record["method"], sorted(loaded - known))
"""
STEPS = (
    {"method": "rtn", "bits": 4},
    {"method": "gptq", "bits": 3},
    {"method": "awq", "bits": 4},
    {"method": "mixed", "bits": 4.0, "score": "error"},
    {"method": "embeddings", "bits": 8},
    {"method": "remove_layers", "count": 1},
    {"method": "remove_channels", "share": 0.25},
    {"method": "trim_vocabulary", "tokens": 4032},
    {"method": "sparsegpt"},
)


def test_what_steps_load_is_in_the_code_they_are_known_by(tmp_path: Path, save_llama: Any) -> None:
    small, shipped, data = save_llama(), ROOT / "models" / "captions", ROOT / "data" / "calibration.jsonl.gz"
    command = [sys.executable, "-c", LOADED, str(small), str(shipped), str(tmp_path), str(data), repr(STEPS)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [f"{step['method']} []" for step in STEPS]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_known_by_what_decides_its_bytes(name: str) -> None:
    known = imported_by([METHODS[name].module])
    assert {
        METHODS[name].module,
        "search_spaces.sizes.tensor_table",
        "workers.checkpoints.model_files",
    } <= known


def test_calibrated_methods_are_known_by_prompts_loaders_and_the_pass() -> None:
    known = imported_by(["workers.compression.quantization.gptq"])
    assert {
        "workers.translation.prompts",
        "workers.loading.load",
        "workers.loading.custom_format",
        "workers.checkpoints.adapters",
    } <= known
    assert {"workers.calibration.capture", "workers.calibration.calibrate", "workers"} <= known


def test_training_is_in_the_code_of_trainers_alone() -> None:
    assert "workers.training.loop.run" in imported_by(modules_of([step_from_json({"method": "recover"})]))
    assert "workers.training.loop.run" not in imported_by(modules_of([step_from_json({"method": "gptq", "bits": 4})]))


def test_packages_below_packages_are_followed() -> None:
    assert "workers.training.zero.engine" in imported_by(["workers.training.engines"])


def test_the_version_is_the_same_again_and_another_for_other_modules() -> None:
    assert code_version(["workers.compression.quantization.rtn"]) == code_version(
        iter(["workers.compression.quantization.rtn"])
    )
    assert code_version(["workers.compression.quantization.rtn"]) != code_version(
        ["workers.compression.quantization.hqq"]
    )


def test_a_module_that_is_gone_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"there is no module workers\.compression\.gone"):
        code_version(["workers.compression.gone"])


SOURCE = '''"""About the module."""

LIMIT = 3  # a comment


def work(x: int) -> str:
    """About the function,
    on two lines."""
    # another comment
    return f"# {x} stays"  


class Fault(ValueError):
    """About the class, which holds nothing else: é."""


class Pair:
    first: int = 0
    """About the field: é."""
    second: str = "x"
    """About the other,
    on two lines."""
'''


def test_comments_docstrings_and_blank_lines_are_left_out() -> None:
    assert without_comments(SOURCE).splitlines() == [
        "LIMIT = 3",
        "def work(x: int) -> str:",
        '    return f"# {x} stays"',
        "class Fault(ValueError):",
        "    ...",
        "class Pair:",
        "    first: int = 0",
        '    second: str = "x"',
    ]


def test_a_changed_line_of_code_changes_the_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "workers"
    package.mkdir()
    for name, text in (("__init__", ""), ("one", "from workers import two\n"), ("two", "LIMIT = 3\n")):
        (package / f"{name}.py").write_text(text, encoding="utf-8")

    def hashed() -> str:
        for cached in (version._hash_of, version._code_of, version._imports_of):
            cached.cache_clear()
        return code_version(["workers.one"])

    try:
        monkeypatch.setattr(version, "ROOT", tmp_path)
        first = hashed()
        (package / "two.py").write_text('"""New words."""\n\nLIMIT = 3  # of them\n', encoding="utf-8")
        worded = hashed()
        (package / "two.py").write_text("LIMIT = 4\n", encoding="utf-8")
        changed = hashed()
    finally:
        for cached in (version._hash_of, version._code_of, version._imports_of):
            cached.cache_clear()
    assert first == worded != changed
