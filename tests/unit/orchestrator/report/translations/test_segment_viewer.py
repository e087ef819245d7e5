"""The viewer of single segments: what it holds, in which order it is cut to its limit, and that no text is HTML."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.ledger.records import read_ledger
from orchestrator.number_format import MEGABYTES
from orchestrator.report.translations.differences import differences
from orchestrator.report.translations.segments import viewer_html
from orchestrator.report.translations.systems import System, read_systems
from orchestrator.results.intervals import Intervals
from orchestrator.results.points import collect
from tests.support.paths import ROOT
from tests.support.recorded_run import Made, write_data, write_run
from workers.reading.segments import DataSet, Segment
from workers.scoring.metrics import segment_scores

HOSTILE = "\"'><img src=x onerror=alert(1)></script><script>alert(2)</script><!--\u2028"
PAIRS = ("en-de", "en-cs")
REFERENCES = tuple(f"Der Hund Nummer {line} rennt schnell durch den Garten." for line in range(20))
DATA = DataSet(
    "dev.jsonl",
    "jsonl",
    tuple(
        Segment(f"s{line}", PAIRS[line % 2], f"source {line}", (text,), f"d{line}", "")
        for line, text in enumerate(REFERENCES)
    ),
    "digest",
)


def system(texts: list[str], label: str = "baseline", number: int = 0, **more: Any) -> System:
    scores = tuple(row["chrf"] for row in segment_scores(["chrf"], DATA.segments, texts))
    none = tuple(() for _ in texts)
    made = System(label, "5 MB", number == 0, tuple(texts), number=number, scores=scores, failed=none)
    return replace(made, **more)


def data_in(html: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="segments-data">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    held: dict[str, Any] = json.loads(found[1])
    return held


def dropped(line: int, words: int) -> list[str]:
    """The references, one of them without its last words."""
    return [text if at != line else " ".join(text.split()[:-words]) for at, text in enumerate(REFERENCES)]


def test_each_translation_can_be_put_together_again_from_what_the_page_holds() -> None:
    texts = [*dropped(3, 4)[:-1], ""]
    data = data_in(viewer_html(DATA, [system(list(REFERENCES)), system(texts, "rtn 4-bit", 7)], "chrf"))
    (candidate,) = data["candidates"]
    assert (candidate["label"], candidate["number"]) == ("rtn 4-bit", 7)
    for row in candidate["rows"]:
        usual = data["baseline"]["rows"][row["at"]]["text"]
        parts = row.get("parts", [usual])
        ours, theirs = ("".join(one if isinstance(one, str) else one[side] for one in parts) for side in (0, 1))
        assert (ours, theirs) == (texts[row["line"]], usual)
        assert data["segments"][row["at"]]["id"] == f"s{row['line']}"
    assert sorted(row["line"] for row in candidate["rows"]) == list(range(20))
    assert sum("parts" in row for row in candidate["rows"]) == 2


def test_a_limit_leaves_the_worst_drops_and_what_fails_a_check_of_every_candidate_and_pair() -> None:
    failing = tuple(("repeated",) if line in (8, 9) else () for line in range(20))
    systems = [
        system(list(REFERENCES)),
        system(dropped(4, 5), "one", 1, failed=failing),
        system(dropped(5, 5), "two", 2),
    ]
    html = viewer_html(DATA, systems, "chrf", most_bytes=4_000)
    data = data_in(html)
    one, two = ([row["line"] for row in candidate["rows"]] for candidate in data["candidates"])
    assert one[1] == 4 and two[0] == 5, "the worst of en-de, which has the even lines, and of en-cs"
    assert {8, 9} <= set(one)
    assert len(one) + len(two) < 40 and abs(len(one) - len(two)) <= 2
    shown = f"The page holds {len(one) + len(two)} of 40 translations"
    assert shown in html and "under hypotheses/" in html
    assert len(json.dumps(data, ensure_ascii=False)) < 5_000
    assert "The page holds" not in viewer_html(DATA, systems, "chrf")


def test_checks_of_an_older_run_are_made_again() -> None:
    looped = [*REFERENCES[:-1], "Der Hund rennt. " * 9]
    unknown = (None,) * 20
    cut = (*[False] * 19, True)
    systems = [
        system(list(REFERENCES), failed=unknown),
        system(looped, "rtn 2-bit", 1, failed=unknown, truncated=cut),
    ]
    (candidate,) = data_in(viewer_html(DATA, systems, "chrf"))["candidates"]
    failed = {row["line"]: row.get("failed", []) for row in candidate["rows"]}
    assert {"repeated", "truncated"} <= set(failed[19])
    assert [line for line, names in failed.items() if names] == [19]


def test_without_a_baseline_the_candidates_stand_alone_and_without_candidates_there_is_no_viewer() -> None:
    html = viewer_html(DATA, [system(dropped(2, 3), "rtn 4-bit", 3)], "chrf")
    data = data_in(html)
    assert data["baseline"] is None
    assert data["candidates"][0]["rows"][1]["text"] == dropped(2, 3)[2]
    assert "lowest scores first" in html
    assert viewer_html(DATA, [system(list(REFERENCES))], "chrf") == ""


def test_no_text_of_the_data_opens_a_tag() -> None:
    hostile = replace(
        DATA,
        segments=tuple(
            replace(one, id=HOSTILE, source=HOSTILE, references=(HOSTILE,), langs="en-de") for one in DATA.segments
        ),
    )
    systems = [
        system([HOSTILE] * 20, HOSTILE),
        system([HOSTILE[:-3]] * 20, HOSTILE, 1, size=HOSTILE, failed=((HOSTILE,),) * 20),
    ]
    html = viewer_html(hostile, systems, HOSTILE)
    assert "<img" not in html and "<!--" not in html
    assert html.count("<script") == html.count("</script") == 1
    assert data_in(html)["segments"][0]["source"] == HOSTILE


def test_the_script_makes_no_html_of_texts() -> None:
    script = (ROOT / "orchestrator/report/segments.js").read_text(encoding="utf-8")
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "createContextualFragment"):
        assert way not in script


def test_every_part_of_the_viewer_can_be_reached_by_keyboard() -> None:
    html = viewer_html(DATA, [system(list(REFERENCES)), system(dropped(1, 2), "one", 1)], "chrf")
    assert set(re.findall(r"<(\w+)", html)) <= {
        "p", "div", "label", "span", "select", "option", "button", "script",
    }  # fmt: skip
    assert html.count("<label><span>") == html.count("<select") == 4, "each chooser is named"
    assert "onclick" not in html


@pytest.mark.parametrize(("ours", "theirs"), [("", "a b"), ("a b", ""), ("a  c", "a b c"), ("犬が走る", "猫が走る。")])
def test_stretches_are_the_texts_again(ours: str, theirs: str) -> None:
    found = differences(ours, theirs)
    assert "".join(one.ours for one in found) == ours
    assert "".join(one.theirs for one in found) == theirs


def test_a_systems_scores_and_checks_are_those_that_its_trial_kept(tmp_path: Path) -> None:
    data = write_data(tmp_path / "dev.jsonl", segments=8)
    folder = write_run(tmp_path / "run", {"dev": data}, [Made(9_000_000, 0.0, None), Made(5_000_000, 0.5, 4)])
    points = collect(read_ledger(folder).on("dev"), Intervals(folder, data, 0)).points
    baseline, candidate = read_systems(folder, points, data, MEGABYTES)
    assert baseline.scores == (100.0,) * 8, "worked out again: the lines have none"
    assert max(candidate.scores) < 90 and candidate.failed == (None,) * 8
    file = folder / str(points[1].record.hypotheses)
    lines = [
        json.loads(line) | {"failed": ["empty"], "scores": {"chrf": 7.0}} for line in file.read_text().splitlines()
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    again = read_systems(folder, points, data, MEGABYTES)[1]
    assert (again.scores, again.failed) == ((7.0,) * 8, (("empty",),) * 8)
