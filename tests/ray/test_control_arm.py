"""A control arm in a whole search: made once after its last trial, and by resume where a finished study has none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.ledger.names import LEDGER
from tests.ray.conftest import Command, ledger_lines
from workers.plan.evaluation_plan import CONTROL_SPLITS

TRAINING = {"method": "finetune", "tokens": 600, "batch": 8, "loss": "references", "rate": 1e-4}


@pytest.fixture(scope="module")
def run(small_data: Path, small_test: Path, small_training: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's folder of a study that is not begun yet."""
    folder = tmp_path_factory.mktemp("control")
    asked = {
        "data": str(small_data), "test": str(small_test), "training": [str(small_training)],
        "out": str(folder / "run"), "space": "bit-width", "trials": 2, "max_new_tokens": 24, "speed": False,
        "calibration_tokens": 2048, "anchors": [[{"method": "rtn", "bits": 4}, TRAINING]],
    }  # fmt: skip
    (folder / "study.yaml").write_text(yaml.safe_dump(asked), encoding="utf-8")
    return folder / "run"


def ended(run: Path) -> dict[str, list[dict[str, Any]]]:
    """Split -> its trials, in the order in which the splits came."""
    found: dict[str, list[dict[str, Any]]] = {}
    for line in ledger_lines(run):
        if line["kind"] == "trial":
            found.setdefault(line["split"], []).append(line)
    return found


def test_the_training_is_given_to_the_uncompressed_model_after_the_last_trial(here: Command, run: Path) -> None:
    done = here("search", str(run.parent / "study.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr
    found = ended(run)
    assert {split: len(lines) for split, lines in found.items()} == {
        "dev": 2,
        "control": 1,
        "test": 2,
        "control_test": 1,
    }
    (arm,), (held_out,) = found["control"], found["control_test"]
    assert [step["method"] for step in arm["candidate"]["steps"]] == ["finetune"]
    assert arm["digest"] == held_out["digest"]
    baseline = found["dev"][0]["outcome"]
    assert arm["outcome"]["footprint"]["bytes"] == pytest.approx(baseline["footprint"]["bytes"], rel=1e-3)
    assert arm["outcome"]["curves"][0]["points"][-1][0] >= 600, "it was trained"
    # Trained once: held-out data found its artefact in the store.
    assert held_out["outcome"]["artefact"] == arm["outcome"]["artefact"]
    assert held_out["outcome"]["seconds"]["compress"] < arm["outcome"]["seconds"]["compress"]
    assert "[control] finetune" in done.stdout and "[control, held-out] finetune" in done.stdout
    assert "control   finetune" in done.stdout
    assert len(list((run / "artefacts").iterdir())) <= 2, "it is not kept"


def test_a_finished_study_without_it_gets_it_once(here: Command, run: Path) -> None:
    lines = ledger_lines(run)
    before = {key: arms[0]["outcome"]["scores"] for key, arms in ended(run).items() if key in CONTROL_SPLITS}
    without = [line for line in lines if line.get("split") not in CONTROL_SPLITS]
    (run / LEDGER).write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in without), "utf-8")
    for _ in range(2):
        done = here("resume", str(run))
        assert done.returncode == 0, done.stdout + done.stderr
        found = ended(run)
        assert {split: len(found[split]) for split in found} == {"dev": 2, "test": 2, "control": 1, "control_test": 1}
        assert {key: found[key][0]["outcome"]["scores"] for key in CONTROL_SPLITS} == before
