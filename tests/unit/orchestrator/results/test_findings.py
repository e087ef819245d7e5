"""What a trial found, from its ledger line and from Tune's result: the two say the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.results.findings import TrialFinding, finding_in, finding_of, probe_in, probe_of, speed_in, speed_of
from orchestrator.statistics.frontier import Objectives
from search_spaces.outcome import Failure, Measurement, Outcome, Probe, Race, Speed
from tests.support.examples import measurement, trial
from workers.evaluation.trial_actor import report

BY_PAIR = {"en-de": 0.25, "en-zh": 0.75}
PROBE = Probe(BY_PAIR, 900, {"compress": 4.0, "divergence": 1.25})
FAILURE = Failure("unsupported", "compress", "no")
RACE = Race("dominated", 3, 64, -20.0, -10.0, 41.5)


def told(outcome: Outcome, split: str = "dev") -> dict[str, Any]:
    """What Tune is told of a trial that ended so."""
    return report({"kind": "trial", "digest": "", "hypotheses": None, **trial(outcome, split=split)})  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    ("outcome", "found"),
    [
        (measurement(61.5, 900), TrialFinding(Objectives(61.5, 900), seconds=1.5, by_pair={"en-de": 61.5})),
        (
            replace(measurement(61.5, 900), divergence=BY_PAIR),
            TrialFinding(Objectives(61.5, 900), nats=0.5, seconds=1.5, by_pair={"en-de": 61.5}),
        ),
        (
            replace(measurement(), race=RACE, sanity={"empty": 0.25}, seconds={"load": 1.0, "translate": 2.5}),
            TrialFinding(Objectives(41.5, 1000), True, {"empty": 0.25}, None, 3.5, {"en-de": 50.0}),
        ),
    ],
)
def test_a_finding_has_the_mean_divergence_and_all_seconds(outcome: Measurement, found: TrialFinding) -> None:
    assert finding_of(outcome) == found
    assert finding_in(told(outcome)) == found


def test_a_baseline_that_does_not_diverge_was_measured() -> None:
    outcome = replace(measurement(), divergence={"en-de": 0.0})
    found = TrialFinding(Objectives(50.0, 1000), nats=0.0, seconds=1.5, by_pair={"en-de": 50.0})
    assert finding_of(outcome) == finding_in(told(outcome)) == found


def test_a_result_of_an_older_worker_has_no_divergence() -> None:
    assert finding_in({"failed": 0, "quality": 50.0, "bytes": 1000}) == TrialFinding(Objectives(50.0, 1000))


def test_a_probe_is_its_mean_divergence_and_all_of_its_seconds() -> None:
    assert probe_of(PROBE) == probe_in(told(PROBE, "profile")) == (0.5, 5.25)


@pytest.mark.parametrize("outcome", [FAILURE, measurement(), Speed(reason="no GPU")])
def test_what_is_no_probe_says_nothing_of_an_option(outcome: Outcome) -> None:
    assert probe_of(outcome) is None


def test_a_speed_is_what_its_trial_measured_or_why_not() -> None:
    for speed in (Speed({1: 30.0, 64: 900.0}, 0.1, 2.0, 5_000, 4_000, ("dense",)), Speed(reason="no GPU")):
        assert speed_of(speed) == speed_in(told(speed, "speed")) == speed
    assert speed_of(FAILURE) is None
    assert speed_in(told(FAILURE, "speed")) is None


def test_a_probe_that_failed_says_nothing_of_its_option() -> None:
    assert probe_in(told(FAILURE, "profile")) is None


def test_a_probe_is_no_finding_of_a_quality() -> None:
    assert finding_in(told(PROBE, "profile")) is None
