"""What a study found: intervals against their definition, ties, what is kept off the frontier, and the table."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from orchestrator.finish.run_folder import reopen
from orchestrator.ledger.records import read_hypotheses, read_ledger
from orchestrator.report.write_report import write_report
from orchestrator.results.baseline import baseline_faults
from orchestrator.results.intervals import Intervals, mean_over_pairs, resampled_means
from orchestrator.results.points import Results, collect, judge_on_test, quality_of
from orchestrator.results.resampling import Resampling
from orchestrator.results.standing import race_text
from orchestrator.results.statement import flattered_said, groups_said, statement
from orchestrator.results.tables.csv_table import FIRST_COLUMNS, frontier_csv
from orchestrator.results.tables.terminal_table import lines_below, print_frontier
from search_spaces.errors import StudyError
from search_spaces.outcome import Failure, Race
from tests.support.recorded_run import Made, write_data, write_run
from workers.reading.segments import DataSet
from workers.scoring.baseline_look import UNSOUND
from workers.scoring.metrics import corpus_statistics, paired_interval

LOOPS = {"repeated": 0.25, "empty": 0.0}
SANE = {"repeated": 0.0, "empty": 0.0}
DROPPED = Race("dominated", 2, 8, -9.8, -4.1, 52.0)


@pytest.fixture(name="data")
def dev_data(tmp_path: Path) -> DataSet:
    """24 documents that two pairs share."""
    return write_data(tmp_path / "dev.jsonl", segments=96)


def found(folder: Path, data: DataSet, metric: str = "chrf", split: str = "dev", floor: float = 0.0) -> Results:
    return collect(read_ledger(folder).on(split), Intervals(folder, data, 0, metric), floor=floor)


def rows(results: Results) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(frontier_csv(results))))


def test_a_baseline_that_is_not_sound_is_told_before_all_else(tmp_path: Path, data: DataSet) -> None:
    fault = f"{UNSOUND}36 % of its translations are cut at the length limit (9 of 25); raise --max-new-tokens, now 64"
    trials = [Made(100, 0.0, None, notes=(fault, "no example for en-cs: asked zero-shot")), Made(50, 0.1, 4)]
    folder = write_run(tmp_path / "run", {"dev": data}, trials)
    results = found(folder, data)
    console = Console(width=110, record=True, file=io.StringIO())
    print_frontier(console, results, None)
    assert " ".join(console.export_text().split()).startswith(f"warning: {fault}")
    page = write_report(folder, "cut", results, data, None, None, read_ledger(folder).header).read_text("utf-8")
    assert f'<h1>cut</h1><p class="about warn"><strong>{fault}</strong></p>' in page


def test_a_second_split_does_not_say_the_same_of_the_baseline_again(tmp_path: Path, data: DataSet) -> None:
    sound = found(write_run(tmp_path / "sound", {"dev": data}, [Made(100, 0.0, None)]), data)
    one, other = (
        found(write_run(tmp_path / name, {"dev": data}, [Made(100, 0.0, None, notes=(UNSOUND + name, "x"))]), data)
        for name in ("dev", "test")
    )
    assert baseline_faults((None, sound)) == []
    assert baseline_faults((one, other)) == [f"{UNSOUND}dev"] and baseline_faults((sound, other)) == [f"{UNSOUND}test"]


def test_an_interval_is_the_paired_bootstrap_of_the_two_systems_texts(tmp_path: Path, data: DataSet) -> None:
    folder = write_run(
        tmp_path / "run", {"dev": data}, [Made(100, 0.0, None), Made(50, 0.0, 4, {1: 0.5, 6: 0.9, 9: 0.2})]
    )
    point = found(folder, data).points[1]
    records = read_ledger(folder).on("dev")
    ours, theirs = (corpus_statistics("chrf", data.segments, read_hypotheses(folder, record)) for record in records)
    expected = paired_interval("chrf", data.segments, theirs, ours, 0)
    assert point.interval is not None
    assert (point.interval.low, point.interval.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert point.interval.low < -1


def test_the_mean_of_segment_scores_varies_as_documents_do(data: DataSet) -> None:
    # Documents that both pairs share: with scores that are equal inside a document, the mean of 24 has the standard
    # deviation of one over the root of 24; a second pair of the same texts adds nothing.
    documents = {segment.doc_id: position for position, segment in enumerate(data.segments)}
    scores = [10.0 * (documents[segment.doc_id] % 3) for segment in data.segments]
    samples = mean_over_pairs(resampled_means(data.segments, scores, 0))
    by_document = [10.0 * (position % 3) for position in documents.values()]
    assert samples.mean() == pytest.approx(np.mean(by_document), abs=0.5)
    assert samples.std() == pytest.approx(np.std(by_document) / np.sqrt(24), rel=0.1)
    raised = resampled_means(data.segments, [score + 1.5 for score in scores], 0)
    assert np.allclose(mean_over_pairs(raised), samples + 1.5)


def test_trials_are_resampled_as_they_end_and_alike(tmp_path: Path, data: DataSet) -> None:
    trials = [Made(100, 0.0, None), Made(50, 0.2, 4), Made(10, 0.0, 3, race=DROPPED)]
    folder = write_run(tmp_path / "run", {"dev": data}, trials)
    resampling = Resampling(folder, {"dev": data}, 0)
    resampling.nudge()
    resampling.stop()
    resampling._thread.join(timeout=60)
    records = read_ledger(folder).on("dev")
    assert set(resampling.samples) == {(record.key, "chrf") for record in records[:2]}
    for record in records[:2]:
        expected = Intervals(folder, data, 0).samples([record])[0]
        assert np.array_equal(mean_over_pairs(resampling.samples[record.key, "chrf"]), expected)
    first = resampling.samples[records[0].key, "chrf"]
    raised = {pair: samples + 1.0 for pair, samples in first.items()}
    given = Intervals(folder, data, 0, "chrf", {(records[0].key, "chrf"): raised})
    assert np.allclose(given.samples([records[0]])[0], mean_over_pairs(first) + 1.0)


def test_a_pairs_interval_is_the_paired_bootstrap_of_its_segments_alone(tmp_path: Path, data: DataSet) -> None:
    cuts = dict.fromkeys(range(1, 96, 6), 0.3)
    folder = write_run(tmp_path / "run", {"dev": data}, [Made(100, 0.0, None), Made(50, 0.0, 4, cuts)])
    point = found(folder, data).points[1]
    by_pair = point.by_pair
    assert (by_pair["en-cs"].low, by_pair["en-cs"].high) == (0.0, 0.0), "only odd segments, of en-de, were cut"
    assert by_pair["en-de"].low < by_pair["en-de"].high < 0
    assert point.interval is not None
    assert point.interval.low == pytest.approx(by_pair["en-de"].low / 2)


def test_comet_as_the_quality_is_paired_by_its_segment_scores(tmp_path: Path, data: DataSet) -> None:
    base = [80.0 + line % 5 for line in range(96)]
    trials = [
        Made(100, 0.0, None, comet=base, metrics=("chrf",)),
        Made(50, 0.3, 4, comet=[score + 2.0 for score in base], metrics=("chrf",)),
    ]
    results = found(write_run(tmp_path / "run", {"dev": data}, trials, quality="comet"), data, "comet")
    better = results.points[1]
    assert better.interval is not None
    assert (better.interval.low, better.interval.high) == pytest.approx((2.0, 2.0))
    assert [point.on_frontier for point in results.points] == [False, True], "by chrF it would be the other way"
    assert results.metrics == ["comet", "chrf"]
    assert better.beside["chrf"].high < 0
    row = rows(results)[1]
    assert list(row)[: len(FIRST_COLUMNS)] == list(FIRST_COLUMNS)
    assert (row["quality"], row["bleu"]) == ("comet", "")
    assert float(row["comet"]) == pytest.approx(better.quality, abs=1e-6)
    assert float(row["comet_low"]) == pytest.approx(2.0)
    assert float(row["chrf_high"]) < 0
    assert float(row["worst_pair"]) == pytest.approx(better.measurement.worst_pair("comet")[1])


def test_segment_scores_that_are_missing_are_named_with_their_file(tmp_path: Path, data: DataSet) -> None:
    folder = write_run(tmp_path / "run", {"dev": data}, [Made(100, 0.0, None)], quality="comet")
    with pytest.raises(StudyError, match=r"does not hold a comet score for each of the 96 segments"):
        found(folder, data, "comet")
    assert quality_of(read_ledger(folder).header) == "comet"
    assert quality_of({"spec": {}}) == "chrf"


def test_raced_and_insane_trials_are_listed_but_never_on_the_frontier(tmp_path: Path, data: DataSet) -> None:
    trials = [
        Made(100, 0.0, None, sanity=SANE),
        Made(90, 0.0, 8, sanity=LOOPS),
        Made(80, 0.1, 4, sanity=SANE),
        Made(10, 0.0, 3, sanity=SANE, race=DROPPED),
    ]
    results = found(write_run(tmp_path / "run", {"dev": data}, trials), data)
    assert [point.record.number for point in results.frontier] == [0, 2]
    assert [point.record.number for point in results.kept_off] == [1]
    assert "repeat" in results.kept_off[0].kept_off[0]
    assert [trial.why for trial in results.dropped] == ["dropped at 8 of 96 segments: worse than trial 2 by 4.1 to 9.8"]
    written = rows(results)
    assert [row["trial"] for row in written] == ["0", "1", "2", "3"]
    assert written[1]["kept_off"] == results.kept_off[0].kept_off[0]
    assert written[1]["on_frontier"] == "0"
    raced = written[3]
    assert (raced["chrf"], raced["bleu"], raced["worst_pair"], raced["chrf_low"]) == ("", "", "", "")
    assert (raced["segments"], raced["race"], raced["race_by"]) == ("8", "dominated", "2")
    assert float(raced["projected"]) == 52.0
    assert float(written[1]["sanity_repeated"]) == 0.25


def test_a_trial_below_the_floor_is_kept_off_the_frontier_with_the_reason(tmp_path: Path, data: DataSet) -> None:
    below = Race("below the floor", 0, 8, -40.0, -21.5, 12.0, 0.5)
    trials = [Made(100, 0.0, None), Made(50, 0.1, 4), Made(10, 0.9, 3), Made(5, 0.9, 2, race=below)]
    folder = write_run(tmp_path / "run", {"dev": data}, trials)
    assert [point.record.number for point in found(folder, data).frontier] == [0, 1, 2]
    results = found(folder, data, floor=0.5)
    assert [point.record.number for point in results.frontier] == [0, 1]
    baseline, _, useless = results.points
    said = f"keeps less than 50 % of the baseline's quality: {useless.quality:.2f} of {baseline.quality:.2f}"
    assert useless.kept_off == (said,)
    written = rows(results)
    assert (written[2]["kept_off"], written[2]["on_frontier"]) == (said, "0")
    assert (written[3]["race"], written[3]["race_by"], written[3]["projected"]) == ("below the floor", "0", "12.000000")
    console = Console(width=110, record=True, file=io.StringIO())
    print_frontier(console, results, None)
    text = console.export_text()
    assert f"trial 2 (rtn 3-bit g64) is kept off the frontier: {said}" in text
    dropped = "dropped at 8 of 96 segments: keeps less than 50 % of the baseline's quality, for sure"
    assert f"trial 3 (rtn 2-bit g64) was {dropped}" in text


def test_a_study_that_began_before_there_was_a_floor_has_none(tmp_path: Path, data: DataSet) -> None:
    assert reopen(write_run(tmp_path / "old", {"dev": data}, []))[1].floor == 0.0
    assert reopen(write_run(tmp_path / "new", {"dev": data}, [], floor=0.25))[1].floor == 0.25


def test_a_tie_is_named_so_and_told_without_the_total_where_it_is_unknown() -> None:
    tie = Race("tie", 3, 256, -0.3, 0.2, 61.0)
    assert race_text(tie, 1012) == "dropped at 256 of 1,012 segments: tie with trial 3"
    assert race_text(tie) == "dropped at 256 segments: tie with trial 3"
    together = replace(DROPPED, high=0.4)
    assert race_text(together) == "dropped at 8 segments: worse than trial 2 by up to 9.8"
    below = Race("below the floor", 0, 64, -9.0, -2.0, 20.0, 0.125)
    assert race_text(below) == "dropped at 64 segments: keeps less than 12.5 % of the baseline's quality, for sure"


def tied_trials(split: str = "dev", shift: int = 0) -> list[Made]:
    """Sizes 100 to 40: the first two differ in one segment, the third is clearly worse, the fourth much worse."""
    return [
        Made(100, 0.0, None, split=split),
        Made(80, 0.0, 8, {3 + shift: 0.05}, split=split),
        Made(60, 0.3, 4, split=split),
        Made(40, 0.6, 3, split=split),
    ]


def standing(results: Results) -> list[str]:
    """Each point's, with the trial that it is not told apart from or beaten by."""
    return [
        "frontier" if point.on_frontier
        else f"tie {point.tie.number}" if point.tie
        else f"beaten {point.beaten_by.number}" if point.beaten_by
        else "kept off"
        for point in results.points
    ]  # fmt: skip


def test_of_points_that_are_not_told_apart_the_frontier_keeps_the_smallest(tmp_path: Path, data: DataSet) -> None:
    results = found(write_run(tmp_path / "run", {"dev": data}, tied_trials()), data)
    assert standing(results) == ["tie 1", "frontier", "frontier", "frontier"]
    assert [row["on_frontier"] for row in rows(results)] == ["0", "1", "1", "1"]
    assert [row["tie"] for row in rows(results)] == ["1", "", "", ""]
    assert [point.record.number for point in results.shown] == [0, 1, 2, 3]


def test_only_what_is_shown_to_be_better_beats(tmp_path: Path, data: DataSet) -> None:
    trials = [*tied_trials(), Made(70, 0.62, 2), Made(90, 0.0, 4, {5: 0.1}, symmetric=False)]
    results = found(write_run(tmp_path / "run", {"dev": data}, trials), data)
    assert standing(results) == ["tie 1", "frontier", "frontier", "frontier", "beaten 2", "tie 1"]
    assert [row["beaten_by"] for row in rows(results)] == ["", "", "", "", "2", ""]
    assert groups_said(results) == ["trials 0 and 5 are not told apart from trial 1, which is no larger"]


def test_leads_by_chance_decide_nothing(tmp_path: Path, data: DataSet) -> None:
    """Four points that differ by hundredths, the largest of all the best as measured."""
    trials = [
        Made(100, 0.0, None, dict.fromkeys(range(0, 96, 20), 0.03)),
        Made(70, 0.0, 8, dict.fromkeys(range(0, 96, 24), 0.02)),
        Made(65, 0.0, 4, dict.fromkeys(range(0, 96, 26), 0.02)),
        Made(60, 0.0, 3, dict.fromkeys(range(0, 96, 32), 0.02)),
        Made(55, 0.0, 2, dict.fromkeys(range(0, 96, 16), 0.04)),
    ]
    results = found(write_run(tmp_path / "run", {"dev": data}, trials), data)
    assert standing(results) == ["tie 4", "tie 4", "tie 4", "tie 4", "frontier"]
    assert groups_said(results) == ["trials 0, 1, 2 and 3 are not told apart from trial 4, which is no larger"]
    kept = [point.record.number for point in results.worth_keeping]
    assert kept == [4, 3, 2, 1, 0], "the frontier, what nothing has beaten as measured, then by rising size"


def test_of_ties_those_come_first_that_only_what_is_kept_before_has_beaten(tmp_path: Path, data: DataSet) -> None:
    def few(step: int) -> dict[int, float]:
        return dict.fromkeys(range(0, 96, step), 0.02)

    trials = [
        Made(100, 0.0, None, few(20)), Made(60, 0.0, 8, few(24)), Made(58, 0.0, 4, few(16)),
        Made(55, 0.0, 3, few(18)), Made(40, 0.0, 2),
    ]  # fmt: skip
    results = found(write_run(tmp_path / "run", {"dev": data}, trials), data)
    assert standing(results) == ["tie 4", "tie 4", "tie 4", "tie 4", "frontier"]
    kept = [point.record.number for point in results.worth_keeping]
    assert kept == [4, 3, 1, 2, 0], "58 bytes are worse than 55, 100 than 60"


def test_too_few_documents_tell_no_point_from_another(tmp_path: Path) -> None:
    data = write_data(tmp_path / "dev.jsonl")
    results = found(write_run(tmp_path / "run", {"dev": data}, tied_trials()), data)
    assert standing(results) == ["tie 3", "tie 3", "tie 3", "frontier"]
    assert "6 documents tell no trial from another; that takes 10" in lines_below(results)
    only = statement(results, None)
    assert only is not None and not only.bold
    assert only.said.startswith("These data can't tell how much a candidate loses: 24 segments in 6 documents of dev, ")


def test_of_equal_points_the_first_stands_for_both(tmp_path: Path, data: DataSet) -> None:
    trials = [Made(100, 0.0, None), Made(50, 0.2, 4), Made(50, 0.2, 4, symmetric=False)]
    results = found(write_run(tmp_path / "run", {"dev": data}, trials), data)
    assert standing(results) == ["frontier", "frontier", "tie 1"]


def test_held_out_data_decide_where_a_point_stands(tmp_path: Path, data: DataSet) -> None:
    # On test the baseline is clearly better than the 8-bit point, which is not told from the 4-bit one there.
    test = write_data(tmp_path / "test.jsonl", seed=1, segments=96)
    judges = [
        Made(100, 0.0, None, split="test"),
        Made(80, 0.3, 8, {0: 0.29}, split="test"),
        Made(60, 0.3, 4, split="test"),
    ]
    folder = write_run(tmp_path / "run", {"dev": data, "test": test}, [*tied_trials(), *judges])
    dev = judge_on_test(found(folder, data), found(folder, test, split="test"))
    assert standing(dev) == ["frontier", "tie 2", "frontier", "frontier"]
    assert dev.points[1].tie == dev.points[2].record, "named by its number on dev"
    assert [point.held_out is not None for point in dev.points] == [True, True, True, False]
    assert judge_on_test(dev, None) == dev


def test_it_is_said_which_points_dev_flatters_and_by_how_much(tmp_path: Path, data: DataSet) -> None:
    test = write_data(tmp_path / "test.jsonl", seed=1, segments=96)

    def said(*cuts: float) -> str | None:
        judges = [Made(100, 0.0, None, split="test")]
        judges += [
            Made(size, cut, bits, split="test") for size, cut, bits in zip((80, 60, 40), cuts, (8, 4, 3), strict=True)
        ]
        folder = write_run(tmp_path / f"run{cuts}", {"dev": data, "test": test}, [*tied_trials(), *judges])
        dev = judge_on_test(found(folder, data), found(folder, test, split="test"))
        words = flattered_said(dev)
        assert (words in lines_below(dev)) == (words is not None)
        return words

    assert said(0.0, 0.3, 0.6) is None
    one, two = said(0.3, 0.3, 0.6), said(0.3, 0.6, 0.6)
    assert one is not None and re.match(
        r"Dev flatters: on the held-out test trial 1 keeps \d+\.\d points of 100 less", one
    )
    assert two is not None and re.search(r"trials 1 and 2 keep \d+\.\d to \d+\.\d points of 100 less of the", two)
    assert flattered_said(found(tmp_path / "run(0.3, 0.3, 0.6)", data)) is None, "nothing is held out"


def test_what_fails_or_is_kept_off_on_held_out_data_is_kept_off(tmp_path: Path, data: DataSet) -> None:
    test = write_data(tmp_path / "test.jsonl", seed=1, segments=96)
    judges = [Made(100, 0.0, None, split="test", sanity=SANE), Made(60, 0.3, 4, split="test", sanity=LOOPS)]
    folder = write_run(tmp_path / "run", {"dev": data, "test": test}, [*tied_trials(), *judges])
    there = found(folder, test, split="test")
    failure = Failure("out_of_memory", "load", "made up")
    lost = replace(there.points[0].record, candidate=found(folder, data).points[3].record.candidate)
    dev = judge_on_test(found(folder, data), replace(there, failures=((lost, failure),)))
    assert standing(dev) == ["frontier", "frontier", "kept off", "kept off"], "of trial 1 they say nothing yet"
    assert dev.points[2].kept_off[0].startswith("on held-out data: 25 % of hypotheses repeat themselves")
    assert dev.points[3].kept_off == ("on held-out data: failed, out of memory",)


def test_a_point_kept_off_is_no_tie_of_others(tmp_path: Path, data: DataSet) -> None:
    trials = tied_trials()
    trials[1] = replace(trials[1], sanity=LOOPS)
    results = found(write_run(tmp_path / "run", {"dev": data}, trials), data)
    assert standing(results) == ["frontier", "kept off", "frontier", "frontier"]


@pytest.mark.parametrize(("width", "pair_shown"), [(80, True), (110, True), (60, False)])
def test_the_terminal_shows_the_worst_pair_where_it_fits(
    tmp_path: Path, data: DataSet, width: int, pair_shown: bool
) -> None:
    trials = [*tied_trials(), Made(30, 0.0, 2, sanity=LOOPS), Made(10, 0.0, 2, race=DROPPED, symmetric=False)]
    results = found(write_run(tmp_path / "run", {"dev": data}, trials), data)
    console = Console(width=width, record=True, file=io.StringIO())
    print_frontier(console, results, None)
    text = console.export_text()
    assert ("worst pair" in text) == pair_shown
    assert all(len(line) <= width for line in text.splitlines()[:8])
    assert "= trial 0 is not told apart from trial 1, which is no larger" in text
    assert "trial 4 (rtn 2-bit g64) is kept off the frontier: 25 % of hypotheses repeat themselves" in text
    assert "trial 5 (rtn 2-bit g64 asym) was dropped at 8 of 96 segments: worse than trial 2 by 4.1 to 9.8" in text


def test_without_a_baseline_the_terminal_shows_no_ratio(tmp_path: Path, data: DataSet) -> None:
    results = found(write_run(tmp_path / "run", {"dev": data}, [Made(50, 0.2, 4)]), data)
    console = Console(width=80, record=True, file=io.StringIO())
    print_frontier(console, results, None)
    text = console.export_text()
    assert "rtn 4-bit g64" in text
    assert "nan" not in text


def test_comet_stands_beside_chrf_with_its_own_interval(tmp_path: Path, data: DataSet) -> None:
    trials = [Made(100, 0.0, None, comet=[80.0] * 96), Made(50, 0.2, 4, comet=[79.0] * 96)]
    results = found(write_run(tmp_path / "run", {"dev": data}, trials), data)
    assert results.points[1].beside["comet"].low == pytest.approx(-1.0)
    console = Console(width=80, record=True, file=io.StringIO())
    print_frontier(console, results, None)
    shown = console.export_text()
    assert "COMET" in shown
    assert "79.00" in shown
    assert float(rows(results)[1]["comet_high"]) == pytest.approx(-1.0)
