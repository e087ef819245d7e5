"""The sections: answers in sentences, rows from best to worst, bars, groups of failures, and nothing injected."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from orchestrator.ledger.records import TrialRecord, read_ledger
from orchestrator.number_format import MEGABYTES
from orchestrator.report.page import Content, page
from orchestrator.report.sections.answers import answers_html, cost_text
from orchestrator.report.sections.bytes_and_time import bytes_parts, time_parts
from orchestrator.report.sections.points import points_table
from orchestrator.report.sections.speed import speed_parts
from orchestrator.report.sections.unfinished import counts, dropped_by_reason, failures_by_reason
from orchestrator.report.translations.systems import read_systems
from orchestrator.results.cost import Cost, cost_of
from orchestrator.results.intervals import Intervals
from orchestrator.results.points import Results, collect
from search_spaces.outcome import Failure, Race, Speed
from search_spaces.sizes.byte_parts import ByteParts
from tests.support.recorded_run import Made, write_data, write_run
from workers.reading.segments import DataSet

HOSTILE = "\"'><img src=x onerror=alert(1)></script><script>alert(2)</script>"
DOMINATED = Race("dominated", 1, 8, -9.8, -4.1, 52.0)
TRIALS = [
    Made(11_000_000, 0.0, None),
    Made(6_000_000, 0.0, 8),
    Made(5_000_000, 0.02, 4),
    Made(4_000_000, 0.9, 3),
    Made(3_000_000, 0.3, 2, race=DOMINATED),
]


@pytest.fixture(name="run", scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DataSet, Results]:
    parent = tmp_path_factory.mktemp("sections")
    data = write_data(parent / "dev.jsonl", segments=96)
    folder = write_run(parent / "run", {"dev": data}, TRIALS)
    return folder, data, collect(read_ledger(folder).on("dev"), Intervals(folder, data, 0), floor=0.5)


def words(html: str) -> str:
    return " ".join(re.sub("<[^>]*>", " ", html).split())


def rows(html: str) -> list[str]:
    return [words(row) for row in html.split("<tr")[1:]]


def test_the_first_screen_says_how_much_smaller_how_good_and_where(run: tuple[Path, DataSet, Results]) -> None:
    _, data, dev = run
    kept = {1: Path("/runs/x/artefacts/trial-1-rtn-8-bit-g64")}
    shown = words(answers_html(dev, None, data, None, kept, cost_of([point.record for point in dev.points]), MEGABYTES))
    assert "no loss shown 1.83× smaller : trial 1, rtn 8-bit g64 (6.00 MB), keeps 100.0 % (100.0 to 100.0 %)." in shown
    assert "artefacts/trial-1-rtn-8-bit-g64" in shown
    assert "trial 2, rtn 4-bit g64 (5.00 MB), keeps 9" in shown and "(its folder was not kept)" in shown
    assert "as measured on dev (dev.jsonl: 96 segments, 24 documents)" in shown
    assert "The same data chose them" in shown
    assert "Fastest None at 99% of the quality: speed was not measured." in shown
    assert "Cost 0.01 worker-hours on CPUs for 4 trials" in shown


def test_none_is_said_with_the_nearest(run: tuple[Path, DataSet, Results]) -> None:
    _, data, dev = run
    poor = replace(dev, points=(dev.points[0], dev.points[2]))
    shown = rows(answers_html(poor, None, data, None, {}, cost_of([]), MEGABYTES))
    assert "no loss shown None. Nearest: trial 2, rtn 4-bit g64 (5.00 MB), keeps 9" in shown[1]
    assert "2.20× smaller. (its folder was not kept)" in shown[1]


def test_gpu_hours_are_said_where_there_were_gpus() -> None:
    assert cost_text(Cost(12.34, 20.0, 3)).startswith("12 GPU-hours for 3 trials")
    assert cost_text(Cost(0.0, 0.0123, 1)).startswith("0.012 worker-hours on CPUs for 1 trial: ")


def test_points_stand_from_best_to_worst_a_line_each(run: tuple[Path, DataSet, Results]) -> None:
    _, _, dev = run
    order = dev.best_first
    assert order[0].record.number == 0 and order[-1].kept_off
    front = [point.bytes for point in order if point.on_frontier and point.steps]
    assert front == sorted(front, reverse=True)
    for row in points_table(dev, MEGABYTES).split("<tr")[2:]:
        closed = re.sub(r"</summary>.*?</details>", "</summary></details>", row)
        assert 'class="note' not in closed, "notes are behind a click"


def test_failures_and_dropped_trials_are_counted_by_reason(run: tuple[Path, DataSet, Results]) -> None:
    _, _, dev = run
    record = dev.points[1].record
    failures = [(record, Failure("out_of_memory", "translate", f"no room {at}")) for at in range(4)]
    failures.append((record, Failure("error", "compress", HOSTILE)))
    found = replace(dev, failures=tuple(failures))
    assert counts(found) == (
        "5 trials failed: 4 out of memory, 1 error. 1 trial dropped early: 1 worse than a point of no more bytes."
    )
    html = failures_by_reason(found)
    summaries = re.findall(r"<details class=\"group\"( open)?><summary>([^<]*)", html)
    assert summaries == [("", "out of memory in translate: 4 trials"), (" open", "error in compress: 1 trial")]
    assert "worse than a point of no more bytes: 1 trial" in dropped_by_reason(found, MEGABYTES)
    assert counts(replace(dev, dropped=())) == ""


def test_speed_is_a_line_where_only_the_baseline_could_be_timed(run: tuple[Path, DataSet, Results]) -> None:
    _, _, dev = run
    no = Speed(reason="the kernels for packed weights need a GPU")
    timed = Speed({1: 1234.5, 8: 9000.0}, 0.052, 1.5, 5_000_000, 4_200_000, ("packed 4-bit",))

    def html(*speeds: Speed) -> str:
        points = zip(dev.points, speeds, strict=True)
        return speed_parts(
            replace(dev, points=tuple(replace(point, speed=speed) for point, speed in points)), MEGABYTES
        )

    assert "<table" not in html(timed, no, no, no)
    assert "the kernels for packed weights need a GPU. Measured: the baseline 1,234 tokens/s at 1" in html(
        timed, no, no, no
    )
    both = html(timed, timed, no, no)
    assert len(both.split("<tr")) == 4 and "Tokens/s at 8" in both and "packed 4-bit" in both and "4.20" in both
    assert words(both).endswith(
        "Not measured of rtn 4-bit g64, rtn 3-bit g64: the kernels for packed weights need a GPU."
    )
    assert speed_parts(dev, MEGABYTES) == ""


def test_bars_are_as_wide_as_the_bytes_and_the_numbers_stand_beside_them(run: tuple[Path, DataSet, Results]) -> None:
    _, _, dev = run
    parts = {
        0: ByteParts({"embeddings": 8_000_000, "files": 3_000_000}),
        1: ByteParts({"embeddings": 5_500_000, "scales": 500_000}, predicted=True),
    }
    html = bytes_parts(dev.points[:2], parts, MEGABYTES)
    assert re.findall(r"width:([\d.]+)%", html) == ["72.727", "27.273", "50.000", "4.545"]
    assert rows(html)[2].split(">")[1].split() == ["rtn", "8-bit", "g64", "*", "6.00", "5.50", "0.50", "\N{EM DASH}"]
    assert "their parts are predicted" in html and bytes_parts(dev.points, {}, MEGABYTES) == ""


def test_time_is_told_by_stage_by_split_and_by_point(run: tuple[Path, DataSet, Results]) -> None:
    folder, _, dev = run
    html = time_parts(cost_of(read_ledger(folder).of_all_splits), dev.points)
    assert "translate 7.5 16.7% " in words(html) and "between stages 37.5 83.3%" in words(html)
    assert "search 5 45.0 9.0" in words(html)
    assert time_parts(cost_of([]), dev.points) == ""


class Tags(HTMLParser):
    def __init__(self, content: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_text_from_data_injects_nothing(run: tuple[Path, DataSet, Results]) -> None:
    folder, data, dev = run

    def spoilt(record: TrialRecord) -> TrialRecord:
        return replace(record, worker=HOSTILE)

    points = tuple(
        replace(
            point,
            record=spoilt(point.record),
            kept_off=(*point.kept_off, *([HOSTILE] if point.bytes == 4_000_000 else [])),
            speed=Speed(reason=HOSTILE),
            measurement=replace(point.measurement, notes=(HOSTILE,), conditions={HOSTILE: HOSTILE}),
        )
        for point in dev.points
    )
    failures = ((dev.points[1].record, Failure("error", HOSTILE, HOSTILE)),)
    segments = tuple(replace(one, doc_id=HOSTILE, domain=HOSTILE, id=HOSTILE, source=HOSTILE) for one in data.segments)
    content = Content(
        title=HOSTILE,
        dev=replace(dev, points=points, failures=failures),
        dev_data=replace(data, name=HOSTILE, segments=segments),
        test=None,
        test_data=None,
        header={HOSTILE: HOSTILE, "spec": {"space": HOSTILE, "model": HOSTILE}},
        unit=MEGABYTES,
        systems=[replace(one, label=HOSTILE) for one in read_systems(folder, dev.shown, data, MEGABYTES)],
        cost=Cost(0.0, 1.0, 1, {HOSTILE: 1.0}, {HOSTILE: (1, 1.0)}),
        kept={point.record.number: Path(f"/runs/artefacts/{HOSTILE}".replace("</", "< ")) for point in points},
        parts={0: ByteParts({"files": 1})},
    )
    html = page(content, "")
    tags = Tags(html).found
    assert {"img"}.isdisjoint(tag for tag, _ in tags)
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on")]
    assert [tag for tag, _ in tags].count("script") == 6, "the two data, plotly's place, and the page's own three"
    assert html.count("alert(1)") > 20, "it was there to be escaped"
