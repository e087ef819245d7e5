"""Races inside real searches: hopeless candidates are dropped, and neither a resume nor a lost worker upsets a race."""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray import tune
from rich.console import Console

from orchestrator.cluster import join as cluster
from orchestrator.ledger.records import LedgerWriter, create_ledger, read_hypotheses, read_ledger
from orchestrator.progress import polling
from orchestrator.racing.referee import Referee
from orchestrator.search import driver
from orchestrator.study.spec import spec_from_mapping
from orchestrator.study.yaml_file import read_study
from search_spaces.candidate import Candidate
from search_spaces.methods.quantizers import RTN
from search_spaces.methods.registry import step_to_json
from search_spaces.methods.trainers import Finetune
from search_spaces.outcome import Race
from tests.ray.conftest import ROOT, Command, ledger_lines, trials
from tests.support.examples import dataset
from workers.checkpoints.locate import resolve
from workers.evaluation.trial_actor import CompressionTrial
from workers.plan.evaluation_plan import EvaluationPlan
from workers.reading.dataset import read_dataset
from workers.reading.training_data import training_data
from workers.scoring.rungs import race_order, rung_ends
from workers.translation.decoding import Decoding
from workers.translation.translator import Translator

GPTQ3 = [{"method": "gptq", "bits": 3}]
# Worse than 3 bits for sure, and larger.
HOPELESS = [{"method": "remove_layers", "count": 2}]
# Smaller than anything else, and of no use.
USELESS = [{"method": "remove_layers", "count": 3}, {"method": "rtn", "bits": 2}]
RUNGS = (32, 64)
SEGMENTS = 252


def own_documents(source: Path, target: Path, most: int) -> Path:
    """A data file's rows, each a document of its own, so that few of them are evidence."""
    rows = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines() if line]
    kept = [{"src": row["src"], "ref": row["tgt"], "langs": row["langs"]} for row in rows if row["line_id"] <= most]
    target.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    return target


def study(folder: Path, trials: int, anchors: Sequence[Any], **more: Any) -> Path:
    """A study file for a search in `folder`."""
    spec = {
        "out": str(folder / "run"), "space": "bit-width", "trials": trials, "max_new_tokens": 40, "batch_size": 32,
        "rungs": list(RUNGS), "anchors": list(anchors), "calibration_tokens": 4096,
        "data": str(own_documents(ROOT / "data" / "subset.jsonl", folder / "dev.jsonl", 84)), **more,
    }  # fmt: skip
    (folder / "study.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    return folder / "study.yaml"


def looks(data: Path) -> list[int]:
    """After how many segments a race with seed 0 looks."""
    segments = read_dataset(data).segments
    return rung_ends(segments, race_order(segments, 0), RUNGS)


def test_hopeless_candidates_are_dropped_and_a_resumed_search_knows_its_floor(runs: Path, here: Command) -> None:
    test = own_documents(ROOT / "data" / "test.jsonl", runs / "test.jsonl", 8)
    file, run = study(runs, 3, [GPTQ3, HOPELESS, USELESS], test=str(test)), runs / "run"
    done = here("search", str(file))
    assert done.returncode == 0, done.stdout + done.stderr

    dev = [line for line in trials(run) if line["split"] == "dev"]
    assert [line["number"] for line in dev] == [0, 1, 2]
    assert [line["outcome"]["race"] for line in dev[:2]] == [None, None]
    dropped = dev[2]["outcome"]
    at = dropped["segments"]
    assert dropped["race"]["verdict"] == "dominated" and dropped["race"]["by"] == 1
    assert dropped["race"]["segments"] == at
    assert at in looks(runs / "dev.jsonl")[:-1]
    assert dropped["race"]["low"] < dropped["race"]["high"] < 0.0
    assert f"dropped at {at} of {SEGMENTS} segments: worse than trial 1" in done.stdout
    record = read_ledger(run).on("dev")[2]
    assert len(read_hypotheses(run, record)) == at
    judged = {line["digest"] for line in trials(run) if line["split"] == "test"}
    assert judged == {line["digest"] for line in dev[:2]}
    assert {line["outcome"]["race"] for line in trials(run) if line["split"] == "test"} == {None}

    before = trials(run)
    again = here("resume", str(run), "--trials", "4")
    assert again.returncode == 0, again.stdout + again.stderr
    after = trials(run)
    assert after[: len(before)] == before
    (new,) = after[len(before) :]
    assert new["predicted_bytes"] < min(line["predicted_bytes"] for line in before)
    race = new["outcome"]["race"]
    assert (race["verdict"], race["by"], race["floor"]) == ("below the floor", 0, 0.5)
    assert race["low"] < race["high"] < 0.0
    assert f"of {SEGMENTS} segments: keeps less than 50 % of the baseline's quality, for sure" in again.stdout


class Ties(Referee):
    """A referee to whom every candidate is as good as trial 0."""

    def judge(self, number: int, positions: Sequence[int], scores: Sequence[float], bytes: int) -> Race | None:
        return Race("tie", 0, len(positions), -0.1, 0.2, 55.5)


class Patient(Referee):
    """A referee who never stops a race."""

    def judge(self, number: int, positions: Sequence[int], scores: Sequence[float], bytes: int) -> Race | None:
        return None


@pytest.fixture
def plan(tmp_path: Path) -> EvaluationPlan:
    data = read_dataset(own_documents(ROOT / "data" / "subset.jsonl", tmp_path / "dev.jsonl", 8))
    sets = {"dev": data, "test": dataset(data.segments[:6])}
    return EvaluationPlan(sets, None, ("chrf",), Decoding(40, 8), tmp_path / "store", rungs=(8,))


def trial_of(plan: EvaluationPlan, folder: Path, referee: type[Referee], first: dict[str, Any]) -> Any:
    """A trainable in this process, and the handle that keeps its ledger's actor alive."""
    create_ledger(folder, {"spec": {}})
    ledger = cluster.ledger_actor(folder.name, str(folder), partial(referee, plan.data["dev"].segments, "chrf"))
    return tune.with_parameters(CompressionTrial, plan=plan, ledger=folder.name)(first), ledger


def suggested(number: int, bits: int | None, split: str = "dev") -> dict[str, Any]:
    steps = (RTN(bits=bits),) if bits else ()
    candidate = Candidate(resolve(str(ROOT / "models" / "captions"))[0], steps)
    return {"number": number, "candidate": candidate.to_json(), "split": split, "choices": {}, "predicted_bytes": 1}


class Deadly(LedgerWriter):
    """A ledger at whose first look at a race the process that measured trial 0, and runs this one, is killed."""

    asked = False

    def judge(self, trial: dict[str, Any], positions: list[int], scores: list[float], size: int) -> Race | None:
        if not self.asked:
            self.asked = True
            (baseline,) = self._known.values()
            os.kill(int(baseline["worker"].split(":")[1]), signal.SIGKILL)
        return None


def test_a_worker_that_is_lost_in_mid_race_has_its_trial_measured_from_the_start(
    shared_ray: None, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "LedgerWriter", Deadly)
    data = own_documents(ROOT / "data" / "subset.jsonl", runs / "dev.jsonl", 8)
    file = study(runs, 2, [GPTQ3], rungs=[8], data=str(data), speed=False)
    run, said = runs / "run", io.StringIO()
    driver.run_search(spec_from_mapping(read_study(file)), Console(file=said, width=200))
    assert "was lost; attempt 2 follows" in said.getvalue()
    first, retried = trials(run)
    assert (first["number"], first["attempt"], retried["number"], retried["attempt"]) == (0, 1, 1, 2)
    assert first["worker"] != retried["worker"]
    assert retried["outcome"]["race"] is None
    assert retried["outcome"]["segments"] == len(read_dataset(data).segments)
    assert [line["kind"] for line in ledger_lines(run)] == ["study", "begin", "trial", "trial", "end"]


def test_a_tie_is_on_the_ledger_before_tune_hears_of_it(shared_ray: None, plan: EvaluationPlan, tmp_path: Path) -> None:
    run = tmp_path / "ties"
    trial, _ledger = trial_of(plan, run, Ties, suggested(0, None))
    whole = trial.step()
    assert (whole["done"], whole["raced"], whole["segments"]) == (True, 0, 24)

    trial.reset_config(suggested(1, 8))
    told = trial.step()
    assert told["done"] and told["raced"] == 1
    assert told["quality"] == 55.5
    record = read_ledger(run).trials[1]
    assert record.measurement is not None and record.measurement.race is not None
    assert record.measurement.race.verdict == "tie"
    assert told["segments"] == record.measurement.segments == len(read_hypotheses(run, record)) < 24

    trial.reset_config(suggested(2, 8, split="test"))
    held_out = trial.step()
    assert (held_out["done"], held_out["raced"], held_out["segments"]) == (True, 0, 6)


def test_what_a_trial_tells_of_its_training_is_heard_until_it_ends_and_its_curve_stays(
    shared_ray: None, plan: EvaluationPlan, small_training: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "WAIT_SECONDS", 60.0)
    plan = replace(plan, training=training_data([(str(small_training), 1.0)], plan.data["dev"].pairs))
    run = tmp_path / "trains"
    given = suggested(1, None)
    given["candidate"]["steps"] = [step_to_json(Finetune(tokens=300, batch=4, loss="references"))]
    trial, ledger = trial_of(plan, run, Patient, given)
    heard = polling.TrainingPoller(ledger.trainings, {})
    assert not trial.step()["done"]
    progress = heard()[1]
    assert (progress.name, progress.of) == ("finetune", 300) and progress.tokens >= 300
    assert progress.loss > 0 and progress.tokens_s > 0
    assert trial.step()["done"]
    assert heard() == {}
    (record,) = read_ledger(run).trials
    assert record.measurement is not None
    (curve,) = record.measurement.curves
    assert curve.step == record.candidate.describe() and curve.points[-1][0] == progress.tokens


def test_an_error_at_the_second_rung_is_the_candidates_failure(
    shared_ray: None, plan: EvaluationPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, real, calls = tmp_path / "fails", Translator.__call__, []

    def fails_later(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise MemoryError
        return real(*arguments)

    monkeypatch.setattr(Translator, "__call__", fails_later)
    trial, _ledger = trial_of(plan, run, Patient, suggested(1, 8))
    first = trial.step()
    assert (first["done"], first["failed"]) == (False, 0)
    assert read_ledger(run).trials == ()
    second = trial.step()
    assert (second["done"], second["failed"]) == (True, 1)
    (record,) = read_ledger(run).trials
    assert record.outcome.to_json() | {"message": ""} == {
        "kind": "failure", "reason": "out_of_memory", "stage": "translate", "message": "",
    }  # fmt: skip
    trial.reset_config(suggested(1, 8))
    assert trial.step()["failed"] == 1
    assert len(calls) == 2, "a known failure was measured again"
