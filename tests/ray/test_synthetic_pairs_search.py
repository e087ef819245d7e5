"""A search whose model writes pairs first: the one before the baseline writes, training reads them, and resume asks for
them again."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import yaml

from orchestrator.ledger.names import LEDGER, SYNTHETIC
from tests.ray.conftest import Command, ledger_lines
from tests.support.paths import CAPTIONS, ROOT


def written(file: Path, rows: slice, turn: bool = True) -> str:
    """German captions; the other way round by default: what the shipped model writes is in the languages that it
    translates into."""
    lines = gzip.decompress((ROOT / "data" / "calibration.jsonl.gz").read_bytes()).decode().splitlines()
    german = [one for one in map(json.loads, lines) if one["langs"] == "en-de"][rows]
    pairs = [{"src": one["ref"], "ref": one["src"], "langs": "de-en"} if turn else one for one in german]
    file.write_text("".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs), encoding="utf-8")
    return str(file)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic")
    train = written(folder / "train.jsonl", slice(8, 40))
    asked = {
        "data": written(folder / "dev.jsonl", slice(8)), "calibration": train, "training": [train],
        "synthetic_pairs": 24, "baseline": [{"method": "remove_layers", "count": 1, "by": "similarity"}],
        "anchors": [[{"method": "rtn", "bits": 4}, {"recipe": "heal", "tokens": 400, "batch": 4}]],
        "space": "bit-width", "trials": 2,
        "max_new_tokens": 24, "calibration_tokens": 1024, "speed": False, "control_arms": 0,
        "out": str(folder / "run"),
    }  # fmt: skip
    (folder / "study.yaml").write_text(yaml.safe_dump(asked), encoding="utf-8")
    return folder / "study.yaml"


def test_the_model_writes_pairs_that_are_trained_on(here: Command, study: Path) -> None:
    done = here("search", str(study))
    assert done.returncode == 0, done.stdout + done.stderr
    run = study.parent / "run"
    # The baseline is made of the pairs of people alone.
    assert not (run / "baseline" / SYNTHETIC).exists()
    assert f"pairs     24 synthetic ones, written by {CAPTIONS}" in done.stdout
    rows = [json.loads(line) for line in (run / SYNTHETIC).read_text(encoding="utf-8").splitlines()]
    assert f"pairs     {len(rows)} written in " in done.stdout
    assert len(rows) >= 6 and {row["langs"] for row in rows} == {"de-en"}
    assert all(row["src"] and row["ref"] for row in rows)
    header, *_ = ledger_lines(run)
    first, *_ = ledger_lines(run / "baseline")
    assert header["training"]["pairs"] != first["training"]["pairs"]
    (trained,) = [line for line in ledger_lines(run) if line["kind"] == "trial" and line["candidate"]["steps"]]
    assert trained["outcome"].get("curves"), trained


def test_a_resume_reads_the_same_pairs_and_none_without_them(here: Command, study: Path) -> None:
    run = study.parent / "run"
    before = (run / SYNTHETIC).read_bytes()
    again = here("resume", str(run))
    assert again.returncode == 0, again.stdout + again.stderr
    assert (run / SYNTHETIC).read_bytes() == before and "synthetic ones" not in again.stdout
    (run / SYNTHETIC).rename(run / "elsewhere")
    refused = here("resume", str(run))
    assert refused.returncode != 0
    assert "the training data of the study" in refused.stderr + refused.stdout


def test_a_model_that_writes_nothing_of_use_is_refused(here: Command, study: Path) -> None:
    asked = yaml.safe_load(study.read_text(encoding="utf-8"))
    dev, train = study.parent / "other_dev.jsonl", study.parent / "other_train.jsonl"
    asked |= {"data": written(dev, slice(8), turn=False), "training": [written(train, slice(8, 40), turn=False)]}
    asked["calibration"] = asked["training"][0]
    del asked["baseline"]
    asked["out"] = str(study.parent / "none")
    (study.parent / "none.yaml").write_text(yaml.safe_dump(asked), encoding="utf-8")
    refused = here("search", str(study.parent / "none.yaml"))
    assert refused.returncode != 0
    assert "of 24 pairs that can be used: it does not write texts in the languages of en-de" in refused.stderr
    assert not (study.parent / "none" / LEDGER).exists()
