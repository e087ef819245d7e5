"""A candidate measured rung by rung: the same numbers as in one go, and a race that ends early keeps what it saw."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search_spaces.candidate import Candidate
from search_spaces.methods.quantizers import RTN
from search_spaces.methods.timable import NEEDS_GPU
from search_spaces.outcome import Race
from tests.support.examples import dataset
from tests.support.paths import ROOT
from workers.checkpoints.locate import resolve
from workers.evaluation import candidate_folder
from workers.evaluation import methods as registry
from workers.evaluation.attempt import kept_lines
from workers.evaluation.evaluate import EmptyOutput, Evaluation, Stages, evaluate, races
from workers.evaluation.shipped_speed import shipped_speed
from workers.plan.evaluation_plan import EvaluationPlan
from workers.reading.dataset import read_dataset
from workers.scoring.rungs import race_order
from workers.translation.decoding import Decoding, Hypothesis
from workers.translation.translator import Translator

RTN8 = (RTN(bits=8),)
RACE = Race("dominated", 3, 12, -20.0, -10.0, 41.5)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> EvaluationPlan:
    """The shipped model's own data: 8 segments of each of its three pairs, each a document, raced at 12."""
    whole = read_dataset(ROOT / "data" / "subset.jsonl")
    few = [one for pair in whole.pairs for one in [two for two in whole.segments if two.langs == pair][:8]]
    data = dataset([replace(one, doc_id=one.id) for one in few])
    store = tmp_path_factory.mktemp("store")
    return EvaluationPlan(
        {"dev": data, "test": data}, None, ("chrf", "bleu", "ter"), Decoding(40, 8), store, rungs=(12,)
    )


@pytest.fixture(scope="module")
def candidate() -> Candidate:
    return Candidate(resolve(str(ROOT / "models" / "captions"))[0], RTN8)


def test_a_raced_trial_that_is_not_stopped_measures_what_an_unraced_one_does(
    plan: EvaluationPlan, candidate: Candidate
) -> None:
    seen: list[int] = []
    raced = Evaluation(candidate, "dev", plan, Stages(), seen.append, racing=True)
    raced.advance()
    order = race_order(plan.data["dev"].segments, plan.seed)
    assert raced.positions == order[:12] and not raced.over
    assert len(raced.qualities) == 12
    raced.advance()
    assert raced.over and raced.positions == order
    assert seen == sorted(seen) and seen[-1] == 24

    at_once = evaluate(candidate, "dev", plan, Stages())
    found = raced.evaluated()
    assert found.hypotheses == at_once.hypotheses
    assert found.segments == at_once.segments == plan.data["dev"].segments
    assert found.rows == at_once.rows
    assert replace(found.measurement, seconds={}) == replace(at_once.measurement, seconds={})
    assert list(found.measurement.scores) == ["chrf", "bleu", "ter"]
    assert found.measurement.race is None
    assert found.measurement.footprint.bytes == raced.bytes
    assert set(found.measurement.sanity) >= {"empty", "copied", "repeated", "truncated"}
    assert set(found.measurement.seconds) == {"compress", "load", "translate", "score"}


def test_a_race_that_ends_early_keeps_what_it_translated_in_the_data_sets_order(
    plan: EvaluationPlan, candidate: Candidate
) -> None:
    raced = Evaluation(candidate, "dev", plan, Stages(), racing=True)
    raced.advance()
    qualities = dict(zip(raced.positions, raced.qualities, strict=True))
    found = raced.evaluated(RACE)
    segments = plan.data["dev"].segments
    at = sorted(qualities)
    assert found.measurement.race == RACE
    assert found.measurement.segments == 12
    assert found.segments == tuple(segments[position] for position in at)
    lines = kept_lines(found)
    assert [line["id"] for line in lines] == [segments[position].id for position in at]
    assert [line["scores"]["chrf"] for line in lines] == [qualities[position] for position in at]
    assert sorted(found.measurement.scores["chrf"]) == list(plan.data["dev"].pairs)
    assert all(score.value > 20 for score in found.measurement.scores["chrf"].values())


def test_the_model_is_loaded_once_and_let_go_after_the_last_rung(
    plan: EvaluationPlan, candidate: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[Translator] = []
    real = Translator.__call__

    def watched(self: Translator, *rest: Any) -> list[Hypothesis]:
        used.append(self)
        return real(self, *rest)

    monkeypatch.setattr(Translator, "__call__", watched)
    raced = Evaluation(candidate, "dev", plan, Stages(), racing=True)
    raced.advance()
    raced.advance()
    first, second = used
    assert first is second
    assert raced._ready is not None and raced._ready.translator is None


def test_memory_is_limited_before_anything_is_compressed(
    plan: EvaluationPlan, candidate: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[Any] = []
    real = candidate_folder.compress_candidate
    monkeypatch.setattr(candidate_folder, "limit_memory", order.append)
    monkeypatch.setattr(candidate_folder, "compress_candidate", lambda *rest: order.append("built") or real(*rest))
    Evaluation(candidate, "dev", replace(plan, memory_fraction=0.5), Stages(), racing=True).advance()
    assert order == [0.5, "built"]


def test_warnings_are_told_at_once_and_noted_once_with_those_of_the_artefacts_making(
    plan: EvaluationPlan, candidate: Candidate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real_call, real_compress = Translator.__call__, registry.compress

    def translated(self: Translator, *rest: Any) -> list[Hypothesis]:
        logging.getLogger("workers.decoder.decode").warning("slow: %s", "no kernel")
        return real_call(self, *rest)

    def made(*rest: Any) -> Any:
        logging.getLogger("workers.compression").warning("only half of the data was read")
        return real_compress(*rest)

    monkeypatch.setattr(Translator, "__call__", translated)
    monkeypatch.setattr(registry, "compress", made)
    told: list[str] = []
    plan = replace(plan, store=tmp_path)
    raced = Evaluation(candidate, "dev", plan, Stages(), racing=True, warn=told.append, warned=("earlier",))
    raced.advance()
    assert told == ["only half of the data was read", "slow: no kernel"]
    raced.advance()
    notes = raced.evaluated().measurement.notes
    assert len(told) == 2
    assert sorted(notes) == sorted({*notes, "earlier", *told}), "each is noted, and once"
    # The next trial finds the artefact made.
    again = Evaluation(candidate, "test", plan, Stages(), warn=told.append)
    again.advance()
    assert told[2:] == ["slow: no kernel"]
    assert {"only half of the data was read", "slow: no kernel"} <= set(again.evaluated().measurement.notes)


def test_only_empty_hypotheses_end_a_trial_at_its_first_rung(
    plan: EvaluationPlan, candidate: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Translator, "__call__", lambda self, segments, *rest: [Hypothesis("", 0, False)] * len(segments)
    )
    stages = Stages()
    with pytest.raises(EmptyOutput, match="all 12 hypotheses are empty"):
        Evaluation(candidate, "dev", plan, stages, racing=True).advance()
    assert stages.current == "score"


def test_only_compressed_candidates_race_and_only_on_dev(plan: EvaluationPlan, candidate: Candidate) -> None:
    assert races(candidate, "dev", plan)
    assert not races(candidate, "test", plan)
    assert not races(Candidate(candidate.base), "dev", plan)
    assert not races(candidate, "dev", replace(plan, rungs=()))


def test_the_bytes_are_not_known_before_the_first_rung(plan: EvaluationPlan, candidate: Candidate) -> None:
    with pytest.raises(RuntimeError, match="before its first rung"):
        _ = Evaluation(candidate, "dev", plan, Stages()).bytes


def test_what_a_cpu_cannot_time_is_not_made_again_to_find_that_out(
    plan: EvaluationPlan, candidate: Candidate, tmp_path: Path
) -> None:
    elsewhere = replace(plan, store=tmp_path / "store", device_map="cpu")
    speed = shipped_speed(candidate, elsewhere, Stages())
    assert speed.reason == NEEDS_GPU and speed.tokens_s == {}
    assert not elsewhere.store.exists()
