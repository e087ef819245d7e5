"""What was expected beside what was found: in the page's numbers, its drawing and the profile's table."""

from __future__ import annotations

import re
from dataclasses import replace

from orchestrator.ledger.records import TrialRecord, record_from_json
from orchestrator.number_format import MEGABYTES
from orchestrator.report.sections.expected import drawing, expected_section, foreseen
from orchestrator.results.points import Point, Results
from search_spaces.methods.quantizers import GPTQ, RTN
from search_spaces.methods.registry import Step
from search_spaces.outcome import Failure, Outcome, Probe
from tests.support.examples import measurement, trial
from workers.plan.evaluation_plan import PROFILE_SPLIT

PAIRS = {"en-cs": 40.0, "en-de": 60.0}


def record(number: int, outcome: Outcome, *steps: Step, split: str = "dev", **why: float) -> TrialRecord:
    line = {**trial(outcome, steps, number, split), "kind": "trial", "digest": "0", "hypotheses": None}
    return replace(record_from_json(line), why=why)  # type: ignore[arg-type]


def point(found: TrialRecord) -> Point:
    assert found.measurement is not None
    return Point(found, found.measurement, "chrf", 1.0, None, on_frontier=True)


def results() -> Results:
    records = [
        record(0, measurement(PAIRS, 1000)),
        record(1, measurement({"en-cs": 36.0, "en-de": 60.0}, 500), RTN(bits=8), kept=0.97, low=0.9, high=1.0),
        record(2, measurement({"en-cs": 20.0, "en-de": 30.0}, 300), RTN(bits=2), kept=0.8, low=0.7, high=0.9),
        record(3, measurement(PAIRS, 600), RTN(bits=4)),
    ]
    return Results(tuple(map(point, records)), ())


def probes() -> list[TrialRecord]:
    return [
        record(4, Probe({"en-de": 0.0123}, 500_000, {"compress": 1.5, "load": 0.5}), GPTQ(bits=4), split=PROFILE_SPLIT),
        record(5, Failure("error", "compress", "<no> factor"), GPTQ(bits=3), split=PROFILE_SPLIT),
    ]


def test_only_what_the_profile_chose_was_expected() -> None:
    found = foreseen(results(), worst_pair=False)
    assert [one.point.record.number for one in found] == [1, 2]
    assert [round(one.kept, 3) for one in found] == [0.96, 0.5]
    assert [one.within for one in found] == [True, False]


def test_the_worst_pair_counts_where_it_was_the_aim() -> None:
    assert [round(one.kept, 3) for one in foreseen(results(), worst_pair=True)] == [0.9, 0.5]


def test_the_section_says_how_many_were_right_and_lists_the_profile() -> None:
    shown = expected_section(results(), probes(), MEGABYTES, worst_pair=False)
    assert "1 of 2 lay within their interval" in shown
    assert "The profile took 2 s in all" in shown
    assert "gptq 4-bit g64" in shown and "0.012" in shown
    assert "failed: &lt;no&gt; factor" in shown


def test_without_a_profile_there_is_no_section() -> None:
    bare = replace(results(), points=tuple(point for point in results().points if not point.record.why))
    assert expected_section(bare, (), MEGABYTES, worst_pair=False) == ""


def test_the_drawing_holds_every_point_inside_its_frame() -> None:
    drawn = drawing(foreseen(results(), worst_pair=False))
    box = [float(value) for value in re.findall(r'viewBox="0 0 (\d+) (\d+)"', drawn)[0]]
    for name, most in (("cx", box[0]), ("cy", box[1]), ("x1", box[0]), ("x2", box[0]), ("y1", box[1])):
        values = [float(value) for value in re.findall(rf'{name}="([-\d.]+)"', drawn)]
        assert values and all(0 <= value <= most for value in values)
    # A wrong expectation is marked.
    assert drawn.count("<circle") == 2
    assert drawn.count('fill="var(--worse)"') == 1
    assert "trial 2, rtn 2-bit g64: expected 80.0%, found 50.0%" in drawn
