"""A study whose baseline is made first: both studies run by one command, and what was made is what the search knows as
its model; begun again, nothing is made twice."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from orchestrator.ledger.names import BASELINE, LEDGER
from orchestrator.ledger.records import read_ledger
from tests.ray.conftest import Command
from workers.plan.evaluation_plan import RACED_SPLIT

STEPS = [{"method": "remove_layers", "count": 1, "by": "similarity"}]


@pytest.fixture(scope="module")
def study(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    asked = {
        "data": str(small_data), "out": str(folder / "run"), "space": "bit-width", "trials": 2, "baseline": STEPS,
        "max_new_tokens": 32, "calibration_tokens": 2048, "speed": False,
    }  # fmt: skip
    (folder / "study.yaml").write_text(yaml.safe_dump(asked), encoding="utf-8")
    return folder / "study.yaml"


def test_the_steps_make_the_model_that_is_compressed(here: Command, study: Path) -> None:
    done = here("search", str(study))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("baseline  −1 layer, made first\n")
    run = study.parent / "run"
    first, then = (read_ledger(folder).on(RACED_SPLIT) for folder in (run / BASELINE, run))
    assert [len(record.candidate.steps) for record in (*first, *then)] == [0, 1, 0, 1]
    (folder,) = (run / BASELINE / "artefacts").iterdir()
    assert then[0].candidate.base.name == str(folder)
    whole, made, again, _ = (record.measurement for record in (*first, *then))
    assert whole is not None and made is not None and again is not None
    # What was scored as a candidate is scored the same as the model of the search.
    assert again.footprint.bytes == made.footprint.bytes < whole.footprint.bytes
    assert again.overall("chrf") == pytest.approx(made.overall("chrf"))


def test_begun_again_the_baseline_is_not_made_again(here: Command, study: Path) -> None:
    run = study.parent / "run"
    before = (run / BASELINE / LEDGER).read_bytes()
    (run / LEDGER).unlink()
    done = here("search", str(study))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all 2 trials have ended" in done.stdout
    known = [line for line in (run / BASELINE / LEDGER).read_bytes().splitlines() if b'"kind": "trial"' in line]
    assert known == [line for line in before.splitlines() if b'"kind": "trial"' in line]
    assert read_ledger(run).complete
