"""Outcomes: finite numbers or none, and the same after a trip through JSON."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from search_spaces.curve import Curve
from search_spaces.outcome import Failure, Footprint, Measurement, Probe, Race, Score, outcome_from_json
from tests.support.examples import measurement

NOT_FINITE = [math.nan, math.inf, -math.inf]


@pytest.mark.parametrize("value", NOT_FINITE)
def test_no_score_is_nan_or_infinite(value: float) -> None:
    with pytest.raises(ValueError, match=r"score is .*a measured number is finite"):
        Score(value, "signature")


@pytest.mark.parametrize("value", NOT_FINITE)
def test_no_share_of_weights_is_nan_or_infinite(value: float) -> None:
    with pytest.raises(ValueError, match="compressed_fraction"):
        Footprint(1, 1, value)


@pytest.mark.parametrize("value", NOT_FINITE)
def test_no_stage_takes_nan_or_infinite_seconds(value: float) -> None:
    with pytest.raises(ValueError, match=r"seconds\[load\]"):
        replace(measurement(), seconds={"translate": 1.0, "load": value})


@pytest.mark.parametrize("size", [0, -5])
def test_a_model_takes_at_least_one_byte(size: int) -> None:
    with pytest.raises(ValueError, match=f"footprint.bytes is {size}"):
        Footprint(size, 1)


@pytest.mark.parametrize("scores", [{}, {"chrf": {}}, {"chrf": {"en-de": Score(1.0, "s")}, "bleu": {}}])
def test_a_measurement_has_a_score_for_every_metric(scores: dict[str, dict[str, Score]]) -> None:
    with pytest.raises(ValueError, match="at least one score"):
        replace(measurement(), scores=scores)


def test_a_measurement_survives_json() -> None:
    whole = Measurement(
        scores={"chrf": {"en-de": Score(51.25, "chrF2|v1"), "en-zh": Score(0.1 + 0.2, "chrF2|v1")}},
        footprint=Footprint(123_456_789_012, 7_000_000_000, 0.75),
        seconds={"compress": 1.25, "translate": 1e-9},
        segments=3,
        tokens=99,
        truncated=1,
        artefact="0123456789abcdef",
        notes=("layers removed: 3\u2028", "two"),
        conditions={"device": "cpu", "seed": "0"},
    )
    assert outcome_from_json(json.loads(json.dumps(whole.to_json()))) == whole


def test_a_race_survives_json_and_one_from_before_there_was_a_floor_is_read() -> None:
    whole = replace(measurement(), race=Race("below the floor", 0, 64, -20.0, -11.5, 14.5, 0.5))
    written = json.loads(json.dumps(whole.to_json()))
    assert outcome_from_json(written) == whole
    old = replace(measurement(), race=Race("tie", 3, 64, -0.2, 0.1, 49.9))
    written = json.loads(json.dumps(old.to_json()))
    del written["race"]["floor"]
    assert outcome_from_json(written) == old


def test_curves_survive_json_and_a_measurement_from_before_there_were_any_is_read() -> None:
    points = ((0, None, 0.0, 41.5), (500, 2.25, 48_100.5, None), (1000, 1.5, 47_000.0, 61.25))
    whole = replace(measurement(), curves=(Curve("recover(rank=8)", points), Curve("finetune()", points[:1])))
    written = json.loads(json.dumps(whole.to_json()))
    assert written["curves"][0] == {"step": "recover(rank=8)", "points": [list(point) for point in points]}
    assert outcome_from_json(written) == whole
    del written["curves"]
    assert outcome_from_json(written) == measurement()


def test_a_divergence_survives_json_and_a_measurement_from_before_there_was_one_is_read() -> None:
    whole = replace(measurement(), divergence={"en-de": 0.1 + 0.2, "en-zh": 0.0})
    written = json.loads(json.dumps(whole.to_json()))
    assert written["divergence"] == {"en-de": 0.1 + 0.2, "en-zh": 0.0}
    assert outcome_from_json(written) == whole
    del written["divergence"]
    assert outcome_from_json(written) == measurement()
    assert measurement().divergence == {}


@pytest.mark.parametrize("value", NOT_FINITE)
def test_no_divergence_is_nan_or_infinite(value: float) -> None:
    with pytest.raises(ValueError, match=r"divergence\[en-de\]"):
        replace(measurement(), divergence={"en-de": value})


def probe(divergence: dict[str, float]) -> Probe:
    return Probe(divergence, 5_940_000, {"compress": 4.25, "divergence": 0.75}, ("GPTQ: \u2028 12 weights", "two"))


def test_a_probe_survives_json() -> None:
    whole = probe({"en-de": 0.1 + 0.2, "en-zh": 0.0})
    written = json.loads(json.dumps(whole.to_json()))
    assert written == {
        "kind": "probe",
        "divergence": {"en-de": 0.1 + 0.2, "en-zh": 0.0},
        "bytes": 5_940_000,
        "seconds": {"compress": 4.25, "divergence": 0.75},
        "notes": ["GPTQ: \u2028 12 weights", "two"],
    }
    assert outcome_from_json(written) == whole


def test_the_nats_of_a_probe_and_of_a_measurement_are_the_mean_over_pairs() -> None:
    by_pair = {"en-de": 0.25, "en-ja": 0.5, "en-zh": 1.5}
    assert probe(by_pair).nats == replace(measurement(), divergence=by_pair).nats == 0.75
    assert math.isnan(measurement().nats)


def test_a_probe_has_the_divergence_of_a_pair() -> None:
    with pytest.raises(ValueError, match="at least one pair"):
        probe({})


@pytest.mark.parametrize("value", NOT_FINITE)
def test_no_divergence_of_a_probe_is_nan_or_infinite(value: float) -> None:
    with pytest.raises(ValueError, match=r"divergence\[en-zh\]"):
        probe({"en-de": 0.5, "en-zh": value})


@pytest.mark.parametrize("value", NOT_FINITE)
@pytest.mark.parametrize("place", [1, 2, 3])
def test_no_point_of_a_curve_is_nan_or_infinite(place: int, value: float) -> None:
    point = [10, 1.0, 1.0, 1.0]
    point[place] = value
    with pytest.raises(ValueError, match=r"the curve of finetune\(\) has .*finite"):
        Curve("finetune()", (tuple(point),))  # type: ignore[arg-type]


def test_a_curve_has_a_point() -> None:
    with pytest.raises(ValueError, match="has no point"):
        Curve("finetune()", ())


def test_a_failure_survives_json() -> None:
    failure = Failure("out_of_memory", "translate", "OutOfMemoryError: tried 2 GiB\nsecond line")
    assert outcome_from_json(json.loads(json.dumps(failure.to_json()))) == failure


def test_json_that_holds_nan_is_refused_on_the_way_in() -> None:
    record = json.loads(json.dumps(measurement().to_json()).replace("50.0", "NaN"))
    with pytest.raises(ValueError, match="finite"):
        outcome_from_json(record)


def test_overall_is_the_mean_over_pairs() -> None:
    # Pairs weigh the same whatever their number of segments: (20 + 50 + 80) / 3.
    assert measurement({"en-de": 20.0, "en-ja": 50.0, "en-zh": 80.0}).overall("chrf") == 50.0


def test_overall_is_of_the_metric_asked_for() -> None:
    scores = {"chrf": {"en-de": Score(60.0, "s")}, "bleu": {"en-de": Score(30.0, "s")}}
    both = replace(measurement(), scores=scores)
    assert (both.overall("chrf"), both.overall("bleu")) == (60.0, 30.0)


def test_the_worst_pair_of_what_is_better_when_lower_is_the_highest() -> None:
    one = measurement({"en-zh": 30.0, "en-de": 70.0})
    assert replace(one, scores={"ter": one.scores["chrf"]}).worst_pair("ter") == ("en-de", 70.0)


def test_the_worst_pair_is_the_lowest_and_the_first_by_name_of_equals() -> None:
    assert measurement({"en-zh": 30.0, "en-de": 70.0}).worst_pair("chrf") == ("en-zh", 30.0)
    assert measurement({"en-zh": 30.0, "en-de": 30.0}).worst_pair("chrf") == ("en-de", 30.0)
