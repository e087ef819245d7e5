"""A search whose candidates begin with a training: the uncompressed model is trained once, and is a reference point."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.ray.conftest import Command, ledger_lines

LONGER = {"method": "finetune", "tokens": 600, "batch": 8, "loss": "references", "rate": 1e-4}
SHORTER = {"recipe": "heal", "tokens": 600, "batch": 8}


@pytest.fixture(scope="module")
def run(small_data: Path, small_test: Path, small_training: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's folder of a study that is not begun yet."""
    folder = tmp_path_factory.mktemp("begun")
    asked = {
        "data": str(small_data), "test": str(small_test), "training": [str(small_training)],
        "out": str(folder / "run"), "space": "bit-width", "trials": 5, "max_new_tokens": 24, "speed": False,
        "calibration_tokens": 2048, "start": [LONGER],
        "anchors": [[{"method": "rtn", "bits": 4}], [LONGER, {"method": "rtn", "bits": 4}, SHORTER]],
    }  # fmt: skip
    (folder / "study.yaml").write_text(yaml.safe_dump(asked), encoding="utf-8")
    return folder / "run"


def test_it_is_trained_once_and_all_that_the_space_offers_begins_with_it(here: Command, run: Path) -> None:
    done = here("search", str(run.parent / "study.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "(reference)" in done.stdout
    trials = [line for line in ledger_lines(run) if line["kind"] == "trial"]
    dev = sorted((one for one in trials if one["split"] == "dev"), key=lambda one: one["number"])
    methods = [[step["method"] for step in one["candidate"]["steps"]] for one in dev]
    assert methods[:4] == [[], ["finetune"], ["rtn"], ["finetune", "rtn", "recover"]]
    assert methods[4][0] == "finetune" and len(methods[4]) > 1
    begun = dev[1]
    assert begun["reference"] and [one["split"] for one in trials if one["digest"] == begun["digest"]] == [
        "dev",
        "test",
    ]
    started = [one["outcome"]["curves"][0]["points"] for one in dev if one["outcome"].get("curves")]
    assert len(started) == 3 and all(points == started[0] for points in started)
    # Its own 4 bits lie near it, however far it went from the baseline.
    of = {len(one["candidate"]["steps"]): one["outcome"]["divergence"] for one in dev[1:]}
    assert all(nats > 0 for divergence in of.values() for nats in divergence.values())


def test_its_page_and_its_study_name_it(here: Command, run: Path, tmp_path: Path) -> None:
    done = here("page", str(run), "--to", str(tmp_path / "page"))
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "start:\n- method: finetune" in page
