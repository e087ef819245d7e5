"""A search that a profile guides, whole: what it says, what its ledger and MLflow hold, and that a larger number of
trials goes on from it."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest

from orchestrator.ledger.records import read_ledger
from search_spaces.outcome import Measurement, Probe
from tests.ray.conftest import Command
from workers.plan.evaluation_plan import PROFILE_SPLIT, RACED_SPLIT

TRIALS = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("guided") / "run"


def test_the_profile_is_measured_first_and_said(here: Command, small_study: list[str], folder: Path) -> None:
    asked = ["--space", "vocabulary", "--trials", str(TRIALS), "--no-speed", "--out", str(folder)]
    done = here("search", *small_study, *asked)
    assert done.returncode == 0, done.stdout + done.stderr
    probed = [line for line in done.stdout.splitlines() if line.startswith("[profile]")]
    ledger = read_ledger(folder)
    probes, dev = ledger.on(PROFILE_SPLIT), ledger.on(RACED_SPLIT)
    # Two vocabularies, 4 and 3 bits, and embeddings of 4.
    assert len(probed) == len(probes) == 5
    assert all("nats from the baseline" in line for line in probed)
    assert all(isinstance(probe.outcome, Probe) and probe.outcome.nats > 0 for probe in probes)
    assert len(dev) == TRIALS
    assert f"[{TRIALS}/{TRIALS}]" in done.stdout
    measured = {trial.candidate.digest: trial.outcome for trial in dev}
    for trial in dev:
        assert isinstance(trial.outcome, Measurement)
        assert trial.outcome.divergence.keys() == {"en-cs", "en-de", "en-fr"}
    # An option that was tried whole has the divergence that its probe had.
    for probe in probes:
        again = measured.get(probe.candidate.digest)
        if isinstance(again, Measurement) and isinstance(probe.outcome, Probe):
            assert again.nats == pytest.approx(probe.outcome.nats, rel=1e-4)
    chosen = [trial for trial in dev if trial.why]
    assert len(chosen) >= TRIALS - 3
    runs = mlflow.MlflowClient(f"sqlite:///{folder.parent / 'mlflow.db'}")
    (experiment,) = [one for one in runs.search_experiments() if one.name != "Default"]
    splits = [run.data.tags.get("split") for run in runs.search_runs([experiment.experiment_id])]
    assert splits.count("dev") == TRIALS and PROFILE_SPLIT not in splits


def test_more_trials_probe_nothing_again(here: Command, folder: Path) -> None:
    done = here("resume", str(folder), "--trials", str(TRIALS + 2))
    assert done.returncode == 0, done.stdout + done.stderr
    ledger = read_ledger(folder)
    assert len(ledger.on(PROFILE_SPLIT)) == 5
    assert len(ledger.on(RACED_SPLIT)) == TRIALS + 2
    assert "[profile]" not in done.stdout


def test_a_target_ends_the_search(here: Command, small_study: list[str], folder: Path) -> None:
    out = folder.parent / "aimed"
    asked = ["--space", "vocabulary", "--trials", "40", "--target", "chrf>=90%", "--no-speed", "--out", str(out)]
    # A study of its own, whose artefacts are there already.
    done = here("search", *small_study, *asked, "--store", str(folder.parent / "store"))
    assert done.returncode == 0, done.stdout + done.stderr
    (said,) = [line for line in done.stdout.splitlines() if line.startswith("target ")]
    assert "chrf>=90% on dev.jsonl: " in said
    assert said.endswith("; no other candidate is expected to save 1 % of the bytes, so the search stopped there")
    dev = read_ledger(out).on(RACED_SPLIT)
    assert 1 < len(dev) < 40
    assert read_ledger(out).complete
    reached = [
        trial.measurement.footprint.bytes
        for trial in dev
        if trial.measurement is not None and trial.measurement.race is None
        and trial.measurement.overall("chrf") >= 0.9 * dev[0].measurement.overall("chrf")  # type: ignore[union-attr]
    ]  # fmt: skip
    assert min(reached) < 0.6 * max(reached)
