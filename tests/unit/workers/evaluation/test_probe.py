"""What one option does alone: a divergence, bytes and seconds of a real model, and nothing translated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from search_spaces.candidate import Candidate
from search_spaces.errors import StudyError
from search_spaces.methods.pruners import RemoveLayers
from search_spaces.methods.quantizers import RTN
from search_spaces.methods.registry import Step
from search_spaces.outcome import Failure, Probe
from search_spaces.predicted_size import predicted_bytes
from tests.support.paths import ROOT
from workers.checkpoints.locate import resolve
from workers.checkpoints.model_files import bytes_on_disk, read_checkpoint
from workers.evaluation.attempt import result_or_fault
from workers.evaluation.evaluate import evaluate
from workers.evaluation.probe import probe
from workers.plan.evaluation_plan import EvaluationPlan
from workers.reading.dataset import read_dataset
from workers.runtime.stages import Stages
from workers.translation.decoding import Decoding

CAPTIONS = ROOT / "models" / "captions"
LANGS = {"en-cs", "en-de", "en-fr"}
RTN4 = RTN(bits=4)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> EvaluationPlan:
    """The shipped model's own data, and calibration pairs to compare on."""
    pairs = read_dataset(ROOT / "data" / "calibration.jsonl.gz")
    few = replace(pairs, segments=pairs.segments[::5])
    data = read_dataset(ROOT / "data" / "subset.jsonl")
    small = replace(data, segments=data.segments[:3])
    store = tmp_path_factory.mktemp("store")
    return EvaluationPlan({"dev": small}, few, ("chrf",), Decoding(12, 8), store, divergence=True)


def candidate(*steps: Step) -> Candidate:
    return Candidate(resolve(str(CAPTIONS))[0], steps)


def test_a_probe_measures_divergence_bytes_and_seconds_and_translates_nothing(plan: EvaluationPlan) -> None:
    begun: list[str] = []
    stages = Stages(begins=begun.append)
    found = probe(candidate(RTN4), plan, stages)
    assert found.divergence.keys() == LANGS
    assert all(0.0001 < value < 0.5 for value in found.divergence.values())
    assert found.nats == pytest.approx(sum(found.divergence.values()) / 3)
    # The base model speaks first, and then the candidate is read.
    assert begun == ["compress", "divergence", "load", "divergence"]
    assert found.seconds == stages.seconds
    assert found.seconds.keys() == {"compress", "divergence", "load"}
    assert all(value > 0.0 for value in found.seconds.values())
    assert abs(found.bytes - predicted_bytes(read_checkpoint(CAPTIONS), (RTN4,))) < 1000


def test_the_baselines_probe_is_about_nothing_in_its_own_bytes(plan: EvaluationPlan) -> None:
    found = probe(candidate(), plan, Stages())
    assert found.divergence.keys() == LANGS
    assert all(0.0 <= value < 1e-6 for value in found.divergence.values())
    assert found.bytes == bytes_on_disk(CAPTIONS)
    assert found.notes == ()


def test_a_probe_finds_what_a_trial_of_the_same_candidate_does(plan: EvaluationPlan) -> None:
    steps = (RemoveLayers(count=1, by="similarity"),)
    found = probe(candidate(*steps), plan, Stages())
    whole = evaluate(candidate(*steps), "dev", plan, Stages()).measurement
    assert found.divergence == pytest.approx(whole.divergence, rel=1e-6)
    assert found.bytes == whole.footprint.bytes
    assert found.notes and set(found.notes) <= set(whole.notes)


def test_more_damage_is_more_nats(plan: EvaluationPlan) -> None:
    eight, four, two = (probe(candidate(RTN(bits=bits)), plan, Stages()) for bits in (8, 4, 2))
    assert eight.nats < four.nats < two.nats
    assert eight.bytes > four.bytes > two.bytes


@pytest.mark.parametrize("kept", [None, 0, 7])
def test_without_pairs_that_statistics_leave_out_there_is_no_probe(plan: EvaluationPlan, kept: int | None) -> None:
    # Of fewer than eight sources none is left out.
    assert plan.calibration is not None
    sources = list(dict.fromkeys(pair.source for pair in plan.calibration.segments))[: kept or 0]
    few = tuple(pair for pair in plan.calibration.segments if pair.source in sources)
    calibration = None if kept is None else replace(plan.calibration, segments=few)
    with pytest.raises(StudyError, match=r"no calibration pair is left .* name more with --calibration"):
        probe(candidate(RTN4), replace(plan, calibration=calibration), Stages())


def test_what_a_method_refuses_is_a_failure_of_the_stage_that_binds_its_family(
    plan: EvaluationPlan, save_llama: Any
) -> None:
    # Its rows have 64 weights.
    base, step, stages = resolve(str(save_llama()))[0], RTN(bits=4, group_size=128), Stages()
    found = result_or_fault(lambda: probe(Candidate(base, (step,)), plan, stages), stages)
    assert isinstance(found, Failure)
    assert (found.reason, found.stage) == ("error", "compress")
    assert "group size 128 does not divide 64 columns" in found.message
    assert found.family is not None
    assert found.family.has((step,)) and not found.family.has((RTN4,))


def test_a_probe_that_works_passes_the_border_as_it_is(plan: EvaluationPlan) -> None:
    stages = Stages()
    assert isinstance(result_or_fault(lambda: probe(candidate(RTN4), plan, stages), stages), Probe)
