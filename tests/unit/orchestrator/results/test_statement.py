"""What a study recommends: on which data, by how much, where it lies; or that the data can't tell; and what is kept."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.finish.wrap_up import keep_artefacts, kept_folders, not_kept
from orchestrator.ledger.records import read_ledger
from orchestrator.report.view import quality_range
from orchestrator.results.intervals import Intervals
from orchestrator.results.points import Results, collect, judge_on_test
from orchestrator.results.statement import join_numbers, statement, with_folder
from orchestrator.study.spec import StudySpec
from search_spaces.outcome import Race
from tests.support.recorded_run import Made, write_data, write_run
from workers.reading.segments import DataSet
from workers.scoring.metrics import Interval

SEGMENTS = 240
EVERY = range(SEGMENTS)


def comet(loss: float, seed: int = 0, spread: float = 2.0) -> list[float]:
    """Scores around 80, lower by a loss, with chance of its own."""
    base, own = random.Random(1), random.Random(seed)
    return [80.0 + base.gauss(0, 6) - loss + (own.gauss(0, spread) if seed else 0.0) for _ in EVERY]


def studied(tmp_path: Path, dev: list[Made], test: list[Made], segments: int = SEGMENTS) -> tuple[Results, Results]:
    tmp_path.mkdir(exist_ok=True)
    data = {"dev": write_data(tmp_path / "dev.jsonl", segments)}
    data["test"] = write_data(tmp_path / "test.jsonl", segments, seed=1)
    folder = write_run(tmp_path / "run", data, [*dev, *test], quality="comet")

    def read(split: str, of: DataSet) -> Results:
        return collect(read_ledger(folder).on(split), Intervals(folder, of, 0, "comet"), floor=0.5)

    there = read("test", data["test"])
    return judge_on_test(read("dev", data["dev"]), there), there


def made(size: int, bits: int | None, loss: float, seed: int = 0, split: str = "dev", spread: float = 2.0) -> Made:
    return Made(size, 0.0, bits, comet=comet(loss, seed, spread), metrics=("chrf",), split=split)


def test_the_smallest_whose_loss_is_shown_to_be_below_the_margin_is_recommended(tmp_path: Path) -> None:
    dev = [made(100, None, 0.0), made(60, 8, -0.1, 1), made(50, 4, 0.0, 2), made(30, 3, 4.0, 3)]
    test = [made(100, None, 0.0, split="test"), made(60, 8, 0.0, 4, "test"), made(50, 4, 0.1, 5, "test")]
    chosen, there = studied(tmp_path, dev, [*test, made(30, 3, 4.0, 6, "test")])
    found = statement(chosen, there, 0.8)
    assert found is not None and found.bold and found.point is not None
    loss = found.point.loss
    assert loss is not None and loss.at_most < 0.8
    assert found.said.startswith(
        "Smallest with no loss that matters: trial 2 (rtn 4-bit g64), 2.00\N{MULTIPLICATION SIGN} smaller: "
    )
    assert (
        f"COMET on the held-out test, a loss of at most {loss.at_most:.2f} (one-sided 95 %, all candidates"
        in found.said
    )
    assert found.said.endswith("below the margin of 0.80 COMET.")
    folder = tmp_path / "artefacts" / "trial-2-rtn-4-bit-g64"
    assert with_folder(found, chosen, {2: folder}) == [found.said, f"It is in {folder}"]
    assert with_folder(found, chosen, {}) == [found.said]
    alone = statement(chosen, None, 0.8)
    assert alone is not None and alone.bold
    assert "on dev, a loss of" in alone.said
    assert alone.said.endswith("The same data chose it: held-out data (--test) would say more.")


def test_where_the_data_do_not_tell_it_says_how_many_would_and_what_is_known(tmp_path: Path) -> None:
    dev = [made(100, None, 0.0), made(50, 4, 0.0, 2, spread=9.0)]
    chosen, there = studied(tmp_path, dev, [made(100, None, 0.0, split="test"), made(50, 4, -0.3, 5, "test", 9.0)])
    found = statement(chosen, there)
    point = there.points[1]
    assert found is not None and not found.bold and point.loss is not None
    needed = point.loss.segments_needed(0.18)
    assert needed is not None and needed > SEGMENTS
    assert found.said.startswith("These data can't tell whether a candidate loses less than the margin of 0.18 COMET ")
    assert (
        f": 240 segments of the held-out test, and about {needed:,} would be needed for trial 1 (rtn 4-bit"
        in found.said
    )
    assert f"a loss of at most {point.loss.at_most:.2f} (one-sided 95 %" in found.said
    assert with_folder(found, chosen, {1: tmp_path}) == [found.said], "no folder of what is not recommended"


def test_what_clearly_loses_more_is_not_a_matter_of_data(tmp_path: Path) -> None:
    trials = [made(100, None, 0.0), made(50, 4, 3.0, 2)]
    chosen, there = studied(tmp_path, trials, [replace(trial, split="test") for trial in trials])
    found = statement(chosen, there)
    assert found is not None and not found.bold
    assert found.said.startswith("No candidate loses less than the margin of 0.18 COMET ")
    assert "The most that can be said: trial 1 (rtn 4-bit g64)" in found.said


@pytest.mark.parametrize("loss", [-5.0, 0.0, 3.0])
def test_24_segments_are_never_bold(tmp_path: Path, loss: float) -> None:
    trials = [Made(100, 0.0, None, comet=[80.0] * 24), Made(50, 0.0, 4, comet=[80.0 - loss] * 24)]
    chosen, there = studied(tmp_path, trials, [replace(trial, split="test") for trial in trials], 24)
    for margin in (None, 5.0, 50.0):
        found = statement(chosen, there, margin)
        assert found is not None and not found.bold
        assert (
            "24 segments in 6 documents of the held-out test, and below 50 documents no loss is ruled out" in found.said
        )


def test_of_too_few_held_out_documents_dev_says_what_it_can(tmp_path: Path) -> None:
    dev = [made(100, None, 0.0), made(50, 4, 0.0, 2)]
    chosen, _ = studied(tmp_path, dev, [])
    few, _ = studied(
        tmp_path / "few", [Made(100, 0.0, None, comet=[80.0] * 24), Made(50, 0.0, 4, comet=[80.0] * 24)], [], 24
    )
    found = statement(chosen, few, 5.0)
    loss = chosen.points[1].loss
    assert found is not None and not found.bold and loss is not None
    assert "24 segments in 6 documents of the held-out test" in found.said
    assert "trial 1 (rtn 4-bit g64), 2.00\N{MULTIPLICATION SIGN} smaller: " in found.said
    assert found.said.endswith("all candidates together). That is of dev, which chose it.")


def test_nothing_is_said_where_nothing_was_compressed(tmp_path: Path) -> None:
    chosen, there = studied(tmp_path, [made(100, None, 0.0)], [made(100, None, 0.0, split="test")])
    assert statement(chosen, there) is None
    assert statement(replace(chosen, points=()), None) is None


def test_numbers_are_listed_as_in_a_sentence() -> None:
    assert [join_numbers(numbers) for numbers in ([], [1], [1, 2], [1, 2, 3])] == ["", "1", "1 and 2", "1, 2 and 3"]


def tied(tmp_path: Path) -> tuple[Results, StudySpec]:
    """A run of two points of the frontier and two that are not told apart from one of them, each with a kept folder."""
    data = write_data(tmp_path / "dev.jsonl", SEGMENTS)
    trials = [made(100, None, 0.0), made(60, 8, 0.0, 1), made(50, 4, 0.0, 2), made(40, 3, 6.0, 3)]
    folder = write_run(tmp_path / "run", {"dev": data}, trials, quality="comet")
    chosen = collect(read_ledger(folder).on("dev"), Intervals(folder, data, 0, "comet"))
    assert {point.record.number for point in chosen.ties} == {0, 1}
    last = chosen.worth_keeping[-1].record.number
    assert [point.record.number for point in chosen.worth_keeping] == [2, 3, 1 - last, last]
    for number in range(4):
        (tmp_path / "run" / "artefacts" / f"trial-{number}-x").mkdir(parents=True)
    return chosen, StudySpec(out=str(tmp_path / "run"), data="dev.jsonl")


def folders(spec: StudySpec) -> list[str]:
    return sorted(path.name for path in (spec.folder / "artefacts").iterdir())


def test_what_is_not_told_apart_is_kept_while_the_disk_has_room(tmp_path: Path) -> None:
    dev, spec = tied(tmp_path)
    keep_artefacts(spec, dev, free=lambda folder: 100)
    assert folders(spec) == ["trial-0-x", "trial-1-x", "trial-2-x", "trial-3-x"]
    room = [10, 100]
    keep_artefacts(spec, dev, free=lambda folder: room.pop(0))
    last = dev.worth_keeping[-1].record.number
    assert folders(spec) == [f"trial-{1 - last}-x", "trial-2-x", "trial-3-x"], (
        "the last goes first, until there is room"
    )
    assert not_kept(spec, dev, kept_folders(spec.folder, dev)) == ([last] if last else []), "the baseline has none"


def test_a_report_written_again_gives_no_model_up(tmp_path: Path) -> None:
    dev, spec = tied(tmp_path)
    (spec.folder / "artefacts" / "trial-9-of-old").mkdir()
    keep_artefacts(spec, dev, again=True, free=lambda folder: 0)
    assert "trial-9-of-old" in folders(spec) and len(folders(spec)) == 5


def test_the_axis_follows_what_stands_and_not_what_is_kept_off(tmp_path: Path) -> None:
    dev = [made(100, None, 0.0), made(60, 8, 0.2, 1), made(50, 4, 1.5, 2), made(45, 3, 60.0, 3)]
    raced = replace(made(20, 2, 0.0), race=Race("dominated", 0, 8, -50.0, -40.0, 20.0))
    chosen, _ = studied(tmp_path, [*dev, raced], [made(100, None, 0.0, split="test")])
    assert chosen.points[3].kept_off and chosen.dropped
    assert chosen.baseline is not None
    low, high = quality_range(chosen) or (0.0, 0.0)
    standing = [point.quality for point in chosen.points[:3]]
    assert low < min(standing) and max(standing) < high
    assert high - low < 6.0, "and not the 60 points down to what is kept off"
    interval = Interval(-9.0, 0.0)
    wide = replace(chosen, points=(*chosen.points[:2], replace(chosen.points[2], interval=interval)))
    assert (quality_range(wide) or (0.0, 0.0))[0] < chosen.baseline.quality - 9.0
    assert quality_range(replace(chosen, points=chosen.points[3:])) is None
    off = [replace(point, kept_off=("slow",), on_frontier=False, tie=None) for point in chosen.points if point.steps]
    assert quality_range(replace(chosen, points=(chosen.baseline, *off))) is None, "all that is compressed is kept off"
    assert quality_range(replace(chosen, points=(chosen.baseline,))) is not None
