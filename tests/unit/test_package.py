"""`import mtpareto`: every public name, none of them loaded before it is used, and a run read from its folder."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mtpareto
from tests.support.paths import ROOT
from tests.support.recorded_run import Made, write_data, write_run


def test_every_public_name_is_there_and_known_to_type_checkers() -> None:
    assert sorted(set(mtpareto.__all__)) == sorted(mtpareto.__all__) == dir(mtpareto)
    tree = ast.parse((ROOT / "mtpareto" / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {
        alias.asname or alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert typed | {"__version__"} == set(mtpareto.__all__)
    for name in mtpareto.__all__:
        assert getattr(mtpareto, name).__doc__ or name == "__version__"
    with pytest.raises(AttributeError, match="no attribute 'sarch'"):
        mtpareto.sarch  # noqa: B018


def test_importing_it_loads_nothing_heavy() -> None:
    code = (
        "import sys, mtpareto; mtpareto.Study, mtpareto.Candidate, mtpareto.GPTQ, mtpareto.StudyError; "
        "print([name for name in ('torch', 'ray', 'mlflow', 'transformers', 'pandas') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_run_is_read_from_its_folder(tmp_path: Path) -> None:
    data = {split: write_data(tmp_path / f"{split}.jsonl") for split in ("dev", "test")}
    trials = [Made(1000, bits=None), Made(500, 0.1), Made(300, -9.0, bits=3)]
    run = mtpareto.load_run(write_run(tmp_path / "run", data, trials, tracking_uri=None))
    assert run.baseline is run.trials[0] and len(run.trials) == 3
    assert {point.bytes for point in run.frontier} <= {1000, 500, 300}
    frame = run.to_frame()
    assert list(frame["trial"]) == [0, 1, 2] and list(frame["bytes"]) == [1000, 500, 300]
    assert run.study.data.endswith("dev.jsonl") and not run.failures and not run.dropped
    assert run.recommendation is None or run.recommendation.endswith(".")


def test_a_folder_without_a_ledger_is_refused(tmp_path: Path) -> None:
    with pytest.raises(mtpareto.StudyError, match=str(tmp_path)):
        mtpareto.load_run(tmp_path)
