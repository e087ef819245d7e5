"""A kept model is loaded by `mlflow.pyfunc` where this project is not, translates alike, and is no larger for it."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from mlflow import MlflowClient
from mlflow.models import Model
from rich.console import Console

from mlflow_tracking.loadable import MLMODEL
from orchestrator.finish.run_folder import report_again
from search_spaces.methods.quantizers import RTN, QuantizeEmbeddings
from tests.support.paths import CAPTIONS, DATA
from tests.support.recorded_run import Made, write_data, write_run
from workers.checkpoints.model_files import bytes_on_disk, needed_files
from workers.evaluation.methods import compress
from workers.loading.load import load_model
from workers.plan.compression_context import CompressionContext
from workers.reading.dataset import read_dataset
from workers.translation.decoding import Decoding
from workers.translation.line_translator import LineTranslator
from workers.translation.prompt_file import PROMPT_FILE, Asking, read_asking, write_asking
from workers.translation.prompts import PROMPTS

TWO_PAIRS, ONE_PAIR = "models:/run/1", "models:/run/2"
LAST = {MLMODEL, "requirements.txt", "python_env.yaml", "conda.yaml", "code"}
# Neither this project nor packages that the model's requirements leave out can be imported.
ALONE = """
import json, sys
class Blocker:
    hidden = ["mtpareto", "orchestrator", "mlflow_tracking", "workers", "search_spaces", "compressed_tensors", "peft"]
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.hidden:
            raise ImportError(f"{name} is hidden")
sys.meta_path.insert(0, Blocker())
import mlflow, pandas
# A module of the user's own with the name of one of the model's.
sys.modules["translate"] = sys.modules["thinking"] = json
asked = json.load(open(sys.argv[1]))
mlflow.set_tracking_uri(asked["store"])
lines, found = asked["lines"], {}
two, one = (mlflow.pyfunc.load_model(uri) for uri in asked["models"])
def said(model, *arguments, **named):
    try:
        return list(model.predict(*arguments, **named))
    except ValueError as error:
        return str(error)
found["pairs"] = said(two, lines)
found["half"] = said(two, lines, params={"source": "en"})
found["other pair"] = said(two, lines, params={"source": "de", "target": "en"})
found["en-de"] = said(two, lines, params={"source": "en", "target": "deu", "batch_size": 8})
found["en-cs"] = said(two, lines, params={"source": "eng", "target": "cs"})
found["one pair"] = said(one, lines)
found["series"] = said(one, pandas.Series(lines, name="src"))
found["table"] = said(one, pandas.DataFrame({"src": lines}))
found["named column"] = said(one, pandas.DataFrame({"id": range(len(lines)), "text": lines}))
found["other columns"] = said(one, pandas.DataFrame({"id": range(len(lines)), "src": lines}))
found["no string"] = said(one, ["A dog runs.", None])
found["no list"] = said(one, {"src": lines})
found["batch"] = said(one, lines, params={"batch_size": 0})
found["modules"] = sorted(set(Blocker.hidden) & {name.split(".")[0] for name in sys.modules})
json.dump(found, open(sys.argv[2], "w"))
"""


@dataclass(frozen=True, slots=True)
class Mirrored:
    """A run with two kept models, of two pairs and of one, that MLflow has. size: each model's bytes before."""

    run: Path
    folders: tuple[Path, Path]
    store: str
    size: int


@pytest.fixture(name="mirrored", scope="module")
def mirrored_run(new_mlflow_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Mirrored:
    """The shipped model at 4 bits, with its embeddings at 8: a form that transformers can't load."""
    scratch = tmp_path_factory.mktemp("loadable")
    shutil.copyfile(new_mlflow_store, scratch / "mlflow.db")
    shown = read_dataset(str(DATA / "calibration.jsonl.gz")).segments[:8]
    context = CompressionContext(
        shown, PROMPTS["alma"], torch.device("cpu"), 0, store=scratch / "store", parent_key="captions"
    )
    made = [CAPTIONS, scratch / "layers", scratch / "embeddings"]
    for parent, folder, step in zip(made, made[1:], (RTN(bits=4), QuantizeEmbeddings(bits=8)), strict=False):
        folder.mkdir()
        compress(parent, folder, step, context)
    size = bytes_on_disk(made[-1])
    data = {"dev": write_data(scratch / "dev.jsonl")}
    trials = [Made(bytes_on_disk(CAPTIONS), bits=None), Made(size, 0.1, 4), Made(size, 0.2, 3)]
    run = write_run(
        scratch / "run", data, trials, model=str(CAPTIONS), max_new_tokens=64, batch_size=4, keep="all", speed=False
    )
    folders = (run / "artefacts" / "trial-1-made", run / "artefacts" / "trial-2-made")
    for folder in folders:
        shutil.copytree(made[-1], folder)
    write_asking(folders[1], Asking(Decoding(64, 4), ("en-de",)))
    report_again(run, Console(quiet=True), loadable=True)
    return Mirrored(run, folders, f"sqlite:///{scratch / 'mlflow.db'}", size)


def state(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Each file with its inode, its time and what it holds."""
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(one): (one.stat().st_ino, one.stat().st_mtime_ns, one.read_bytes()) for one in files}


def test_it_translates_alike_where_this_project_can_not_be_imported(mirrored: Mirrored, tmp_path: Path) -> None:
    segments = [one for one in read_dataset(str(DATA / "subset.jsonl")).segments if one.langs == "en-de"]
    lines = [one.source for one in segments[:8]]
    lines[3:3] = ["", "  "]
    asked = {"store": mirrored.store, "lines": lines, "models": [TWO_PAIRS, ONE_PAIR]}
    (tmp_path / "asked.json").write_text(json.dumps(asked))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    alone = subprocess.run(
        [sys.executable, "-I", "-B", "-c", ALONE, "asked.json", "found.json"],
        cwd=tmp_path, env=clean, capture_output=True, text=True,
    )  # fmt: skip
    assert alone.returncode == 0, alone.stderr[-3000:]
    found = json.loads((tmp_path / "found.json").read_text())
    for target in ("de", "cs"):
        asking = read_asking(mirrored.folders[0])
        assert asking is not None
        ours = LineTranslator(mirrored.folders[0], asking, "en", target, device_map="cpu")(lines)
        assert found[f"en-{target}"] == [line.text for line in ours]
    assert found["en-de"] != found["en-cs"] and found["en-de"][3:5] == ["", ""]
    for given in ("one pair", "series", "table", "named column"):
        assert found[given] == found["en-de"], given
    for asked_for in ("pairs", "half"):
        assert found[asked_for] == (
            "this model was measured on en-cs, en-de; say which, such as predict(..., {'source': 'en', 'target': 'cs'})"
        )
    assert found["other pair"] == "this model was measured on en-cs, en-de, and not on de-en"
    assert "must be the only one or be called 'text'; there are ['id', 'src']" in found["other columns"]
    assert found["no string"] == "text 1 is None; it must be a string"
    assert "and not a dict" in found["no list"]
    assert found["batch"] == "batch_size is 0; it must be at least 1"
    assert found["modules"] == []


def test_no_byte_of_it_counts_and_what_is_loaded_is_what_was(mirrored: Mirrored) -> None:
    for folder in mirrored.folders:
        assert bytes_on_disk(folder) == mirrored.size
        assert not LAST & {file.relative_to(folder).parts[0] for file in needed_files(folder)}
        assert {path.name for path in folder.iterdir()} >= LAST | {PROMPT_FILE}
    assert load_model(mirrored.folders[0], "cpu").config.model_type == "llama"


def test_the_mlmodel_names_the_version_its_environment_and_its_texts(mirrored: Mirrored) -> None:
    client = MlflowClient(mirrored.store)
    for number, folder in enumerate(mirrored.folders, start=1):
        version = client.get_model_version("run", str(number))
        model = Model.load(folder / MLMODEL)
        assert version.source == folder.as_uri()
        logged = client.get_logged_model(model.model_id)
        assert model.run_id == version.run_id == logged.source_run_id
        assert logged.tags["artefact"] == str(folder)
        assert model.model_size_bytes == mirrored.size
        assert [str(one.type) for one in (*model.signature.inputs, *model.signature.outputs)] == ["DataType.string"] * 2
        assert {one.name: one.default for one in model.signature.params} == {
            "source": None, "target": None, "batch_size": 4,
        }  # fmt: skip
        needed = (folder / "requirements.txt").read_text().splitlines()
        assert {line.split("==")[0] for line in needed} == {
            "mlflow", "torch", "transformers", "accelerate", "safetensors", "tokenizers",
        }  # fmt: skip
        assert yaml.safe_load((folder / "conda.yaml").read_text())["dependencies"][-1] == {"pip": needed}
        assert yaml.safe_load((folder / "python_env.yaml").read_text())["dependencies"] == ["-r requirements.txt"]


def test_it_is_written_again_without_a_change_and_mended_where_it_was_cut(mirrored: Mirrored) -> None:
    folder = mirrored.folders[1]
    before = state(folder)
    report_again(mirrored.run, Console(quiet=True), loadable=True)
    assert state(folder) == before
    module = folder / "code" / "mtpareto_translator" / "pyfunc.py"
    whole = module.read_text()
    module.write_text(whole[:100])
    report_again(mirrored.run, Console(quiet=True), loadable=True)
    assert module.read_text() == whole
    assert not list(folder.rglob(".draft-*"))


def test_a_folder_that_can_not_be_written_to_is_registered_with_a_warning(
    mirrored: Mirrored, mlflow_store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = {"dev": write_data(tmp_path / "dev.jsonl")}
    trials = [Made(bytes_on_disk(CAPTIONS), bits=None), Made(mirrored.size, 0.1, 4)]
    run = write_run(tmp_path / "run", data, trials, model=str(CAPTIONS), speed=False)
    folder = run / "artefacts" / "trial-1-made"
    shutil.copytree(mirrored.folders[1], folder, ignore=lambda *_: LAST)
    # A file where the folder of the code would be: root may write anywhere.
    (folder / "code").touch()
    with caplog.at_level(logging.WARNING):
        found: Any = report_again(run, Console(quiet=True), loadable=True)
    assert found.mirrored
    (said,) = [text for text in caplog.messages if "mlflow.pyfunc" in text]
    assert said.startswith("mlflow.pyfunc can't load trial-1-made, for its files could not be made: ")
    assert str(folder / "code") in said and said.endswith(f"mtpareto mirror {run}")
    assert MlflowClient(f"sqlite:///{mlflow_store}").get_model_version("run", "1").source == folder.as_uri()
    assert not (folder / MLMODEL).exists()
