"""What Tune is told at a trial's end: plain numbers, which its results can hold."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

from search_spaces.methods.quantizers import RTN
from search_spaces.outcome import Failure, Outcome, Probe, outcome_from_json
from tests.support.examples import measurement, trial
from workers.evaluation.trial_actor import report

RTN4 = (RTN(bits=4),)


def told(outcome: Outcome, split: str = "dev") -> dict[str, Any]:
    line = {"kind": "trial", "digest": "", "hypotheses": None, **trial(outcome, RTN4, 3, split)}
    return report(line)  # type: ignore[arg-type]


def test_a_probe_reports_its_divergence_bytes_and_seconds_and_no_quality() -> None:
    outcome = Probe({"en-de": 0.25, "en-zh": 0.75}, 900, {"compress": 4.0, "divergence": 1.25}, ("a note",))
    assert told(outcome, "profile") == {
        "done": True,
        "number": 3,
        "split": "profile",
        "failed": 0,
        "divergence": 0.5,
        "bytes": 900,
        "seconds": 5.25,
    }


def test_a_probe_that_failed_reports_its_failure_alone() -> None:
    failure = Failure("unsupported", "compress", "rtn.group_size=7 divides no row")
    found = told(failure, "profile")
    assert outcome_from_json(json.loads(found.pop("failure"))) == failure
    assert found == {"done": True, "number": 3, "split": "profile", "failed": 1}


def test_a_measurement_reports_its_divergence_and_the_seconds_of_all_stages() -> None:
    outcome = replace(
        measurement(61.5, 900), divergence={"en-de": 0.25, "en-zh": 0.75}, seconds={"load": 1.0, "divergence": 0.5}
    )
    found = told(outcome)
    assert (found["failed"], found["quality"], found["bytes"]) == (0, 61.5, 900)
    assert (found["divergence"], found["seconds"]) == (0.5, 1.5)


def test_a_divergence_that_was_not_measured_is_reported_as_nan() -> None:
    assert math.isnan(told(measurement(), "test")["divergence"])
