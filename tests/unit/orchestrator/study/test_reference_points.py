"""Reference points of a study: how they are spelt, and that they are measured on dev and test whatever they give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from orchestrator.ledger.records import LedgerWriter, create_ledger, read_ledger
from orchestrator.racing.referee import Referee
from orchestrator.results.findings import TrialFinding
from orchestrator.search.dry_run import dry_run, plan_trials
from orchestrator.search.made_first import study_of
from orchestrator.search.prepared import prepare
from orchestrator.search.proposals import Proposal, Proposer
from orchestrator.statistics.frontier import Objectives
from orchestrator.study.spec import StudySpec, spec_from_mapping
from search_spaces.candidate import BaseModel
from search_spaces.errors import CandidateError, StudyError
from search_spaces.methods.quantizers import GPTQ, BitsAndBytes
from search_spaces.methods.reference_points import REFERENCE_POINTS
from search_spaces.outcome import Failure
from search_spaces.spaces.registry import SPACES
from tests.support.examples import llama_table, trial
from tests.support.paths import ROOT
from workers.evaluation.trial_lines import asked_of
from workers.reading.dataset import read_dataset

BASE = BaseModel("m", "sha256:0")
DATA = str(ROOT / "data" / "subset.jsonl")
RTN8, RTN4 = REFERENCE_POINTS["rtn-8"], REFERENCE_POINTS["rtn-4"]
GPTQ3 = [{"method": "gptq", "bits": 3}]


def study(**more: Any) -> StudySpec:
    return spec_from_mapping({"data": DATA, "out": "runs/x", **more})


@pytest.mark.parametrize(
    ("said", "chains"),
    [
        ("common", tuple(REFERENCE_POINTS.values())),
        ("rtn-4", (RTN4,)),
        (["rtn-4", "bnb-nf4"], (RTN4, (BitsAndBytes(format="nf4"),))),
        (["rtn-8", GPTQ3, "rtn-8"], (RTN8, (GPTQ(bits=3),))),
        ([GPTQ3, "common"], ((GPTQ(bits=3),), *REFERENCE_POINTS.values())),
        (None, ()),
    ],
)
def test_they_are_names_and_chains_each_once(said: object, chains: tuple[Any, ...]) -> None:
    spec = study(reference_points=said)
    assert spec.reference_points == chains
    assert spec_from_mapping(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize("said", ["rtn", ["common", 4], [[]], [{"method": "rtn", "bits": 4}], 7])
def test_what_is_no_reference_point_is_refused_with_the_names_there_are(said: object) -> None:
    with pytest.raises(StudyError, match=r"reference_points is .*; it must be common, or a list of names \(rtn-8, "):
        study(reference_points=said)


def test_a_chain_that_makes_no_sense_and_too_few_trials_are_refused() -> None:
    with pytest.raises(CandidateError):
        study(reference_points=[[{"method": "rtn", "bits": 4}, {"method": "gptq", "bits": 3}]])
    with pytest.raises(StudyError, match="the baseline and the 6 reference points take 7; give --trials 7 or more"):
        study(reference_points="common", trials=6)
    assert study(reference_points="common", trials=7).trials == 7


def test_the_study_that_makes_a_baseline_has_none() -> None:
    spec = study(reference_points="common", baseline=[{"recipe": "alma-full"}], training=["pairs.jsonl"])
    assert study_of(spec).reference_points == ()


def test_they_follow_the_baseline_and_come_before_the_anchors(tmp_path: Path) -> None:
    spec = study(reference_points=["rtn-4", "gptq-4"], anchors=[GPTQ3], trials=15, out=str(tmp_path / "run")).absolute()
    planned, refused = plan_trials(prepare(spec, Console(quiet=True)))
    assert [one.label for one in planned[:4]] == [
        "baseline",
        "rtn 4-bit g128 (reference)",
        "gptq 4-bit g128 (reference)",
        "gptq 3-bit g64",
    ]
    assert not refused
    dry_run(spec, Console(quiet=True))


def proposer(**more: Any) -> Proposer:
    return Proposer(
        BASE,
        llama_table(),
        SPACES["joint"],
        seed=0,
        held_out=True,
        references=[RTN8, RTN4],
        **more,
    )


def test_a_beaten_one_is_scored_on_held_out_data_and_marked_everywhere() -> None:
    search = proposer(trials=4, given=[RTN8, RTN4, (GPTQ(bits=3),)])
    found = {(): (60.0, 1000), RTN8: (40.0, 900), RTN4: None, (GPTQ(bits=3),): (59.0, 300)}
    began = []
    while isinstance(proposal := search.propose(), Proposal):
        began.append(proposal)
        values = found[proposal.candidate.steps]
        search.tell(proposal.number, TrialFinding(Objectives(*values)) if values else None, None)
    dev = [one for one in began if one.split == "dev"]
    test = [one for one in began if one.split == "test"]
    assert [one.candidate.steps for one in dev] == [(), RTN8, RTN4, (GPTQ(bits=3),)]
    # One that failed has nothing to score.
    assert {one.candidate.steps for one in test} == {(), RTN8, (GPTQ(bits=3),)}
    for one in began:
        assert asked_of({**one.to_json(), "ledger": "an actor's name"}) == one.to_json()
        assert one.reference == one.to_json().get("reference", False) == (one.candidate.steps in (RTN8, RTN4))


def test_what_the_model_cannot_take_of_published_practice_is_left_out_and_said() -> None:
    # Its inputs are too narrow for groups of 128.
    search = proposer(trials=4, given=[RTN8, RTN4])
    narrow = Proposer(
        BASE,
        llama_table(hidden=96, ffn=192),
        SPACES["joint"],
        trials=4,
        seed=0,
        given=[RTN8, RTN4],
        references=[RTN8, RTN4],
    )
    assert [one.reference for one in search.foreseen()[:3]] == [False, True, True]
    assert RTN4 not in [one.candidate.steps for one in narrow.foreseen()]
    ((name, why),) = narrow.references_refused
    assert name == "rtn 4-bit g128" and "128" in why


def test_no_race_ends_one(tmp_path: Path) -> None:
    asked: list[int] = []

    class Judge(Referee):
        def judge(self, number: int, *about: Any) -> Any:
            asked.append(number)

    create_ledger(tmp_path / "run", {"spec": {}})
    writer = LedgerWriter(str(tmp_path / "run"), lambda: Judge(read_dataset(DATA).segments, "chrf"))
    failed = trial(Failure("error", "load", "made up"), RTN4, number=1)
    writer.judge({**failed, "reference": True}, [], [], 1)
    writer.judge(failed, [], [], 1)
    assert asked == [1]
    writer.append({**failed, "reference": True}, [])
    assert [one.reference for one in read_ledger(tmp_path / "run").trials] == [True]
    writer.end(True)
