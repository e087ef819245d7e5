"""A run's points as LaTeX, Markdown, CSV and JSON: the ledger's numbers in all of them, and every text escaped."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.cli import TABLE_FORMATS, parser
from orchestrator.commands.table import table_of_run
from orchestrator.ledger.records import Ledger, read_ledger
from orchestrator.report.write_report import write_report
from orchestrator.results.intervals import Intervals
from orchestrator.results.points import Results, collect, judge_on_test
from orchestrator.results.tables.csv_table import frontier_csv
from orchestrator.results.tables.paper_table import (
    COLUMNS,
    FORMATS,
    LATEX,
    as_json,
    as_latex,
    as_markdown,
    column_of,
    escape_latex,
    paper_table,
    picked,
)
from search_spaces.errors import StudyError
from search_spaces.outcome import Speed
from tests.support.recorded_run import Made, write_data, write_run
from workers.reading.segments import DataSet

TRIALS = [
    Made(11_000_000, 0.0, None),
    Made(6_000_000, 0.02, 8),
    Made(5_000_000, 0.1, 4),
    Made(4_000_000, 0.4, 3),
    Made(11_000_000, 0.0, None, split="test"),
    Made(6_000_000, 0.03, 8, split="test"),
    Made(5_000_000, 0.12, 4, split="test"),
]
SPECIALS = "a\\b{c}$d&e#f%g_h^i~j<k>l|m\"n`o'p − × — → \x07 ü"


@pytest.fixture(name="run", scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, DataSet]]:
    parent = tmp_path_factory.mktemp("paper")
    data = {name: write_data(parent / f"{name}.jsonl", 96, seed) for seed, name in enumerate(("dev", "test"))}
    return write_run(parent / "run", data, TRIALS, test=str(parent / "test.jsonl"), model="models/x"), data


def found(folder: Path, data: dict[str, DataSet]) -> tuple[Ledger, Results, Results]:
    ledger = read_ledger(folder)
    dev, test = (collect(ledger.on(name), Intervals(folder, data[name], 0)) for name in ("dev", "test"))
    return ledger, judge_on_test(dev, test), test


def test_report_csv_and_tables_show_the_ledgers_numbers(run: tuple[Path, dict[str, DataSet]]) -> None:
    folder, data = run
    ledger, dev, test = found(folder, data)
    page = write_report(folder, "x", dev, data["dev"], test, data["test"], ledger.header).read_text("utf-8")
    rows = {row["trial"]: row for row in csv.DictReader(io.StringIO(frontier_csv(dev)))}
    for split, results in (("dev", dev), ("test", test)):
        names = ["trial", *COLUMNS, "bleu"]
        texts = {form: table_of_run(folder, form, names, "all", split) for form in FORMATS}
        told = {row["trial"]: row for row in json.loads(texts["json"])["rows"]}
        of_csv = {row["trial"]: row for row in csv.DictReader(io.StringIO(texts["csv"]))}
        assert len(told) == 4 and set(of_csv) == set(rows)
        for record in ledger.on(split):
            measurement = record.measurement
            assert measurement is not None
            quality, bleu = measurement.overall("chrf"), measurement.overall("bleu")
            pair, worst = measurement.worst_pair("chrf")
            row = told[record.number]
            assert (row["quality"], row["bleu"], row["bytes"]) == (quality, bleu, measurement.footprint.bytes)
            assert (row["worst_pair_name"], row["worst_pair"]) == (pair, worst)
            assert float(of_csv[str(record.number)]["quality"]) == pytest.approx(quality, abs=1e-6)
            for text in (page, texts["markdown"], texts["latex"]):
                assert f"{quality:.2f}" in text and f"{bleu:.2f}" in text and f"{worst:.2f}" in text
                assert f"{measurement.footprint.bytes / 1e6:.2f}" in text
            point = next(one for one in results.points if one.record.number == record.number)
            if record.candidate.steps and point.interval:
                assert (row["low"], row["high"]) == (point.interval.low, point.interval.high)
                shown = f"{abs(point.interval.low):.2f} to"
                assert all(shown in text for text in (page, texts["markdown"], texts["latex"]))
            if split == "dev":
                table_row, csv_row = of_csv[str(record.number)], rows[str(record.number)]
                for ours, theirs in (("bytes", "bytes"), ("ratio", "ratio"), ("quality", "chrf"), ("bleu", "bleu")):
                    assert table_row[ours] == csv_row[theirs], ours
                assert table_row["worst_pair"] == csv_row["worst_pair"]
                assert table_row["on_frontier"] == csv_row["on_frontier"]
                if record.candidate.steps:
                    assert (table_row["low"], table_row["high"]) == (csv_row["chrf_low"], csv_row["chrf_high"])
        signature = next(iter(measurement.scores["chrf"].values())).signature
        assert signature in page and signature in texts["markdown"] and signature in texts["csv"]
        assert signature in texts["json"] and escape_latex(signature) in texts["latex"].replace(r"\allowbreak{}", "")


def test_held_out_scores_are_shown_where_there_are_any(run: tuple[Path, dict[str, DataSet]]) -> None:
    folder, data = run
    _, dev, test = found(folder, data)
    assert "on the held-out test" in paper_table("x", dev, test).caption
    assert "on dev, on which" in paper_table("x", dev, test, of="dev").caption
    unscored = json.loads(as_json(paper_table("x", dev, test, pick="3")))["rows"][0]
    assert unscored["quality"] is None and unscored["bytes"] == 4_000_000
    with pytest.raises(StudyError, match="no held-out scores"):
        paper_table("x", dev, None, of="test")


def test_what_is_picked(run: tuple[Path, dict[str, DataSet]]) -> None:
    _, dev, _ = found(*run)
    front = [point.record.number for point in picked(dev, "frontier")]
    assert front[0] == 0 and set(front[1:]) == {point.record.number for point in dev.frontier if point.steps}
    assert [point.record.number for point in picked(dev, "3, 1")] == [3, 1]
    assert len(picked(dev, "all")) == 4
    for wrong in ("9", "best", "1,,2", "-1"):
        with pytest.raises(StudyError, match="no such trial was measured in full"):
            picked(dev, wrong)


def test_columns_by_name_and_speed_only_where_it_was_measured(run: tuple[Path, dict[str, DataSet]]) -> None:
    _, dev, test = found(*run)
    assert paper_table("x", dev, test).headings == [
        "Candidate", "MB", "Ratio", "chrF", "Kept", "95 % interval", "Worst pair",
    ]  # fmt: skip
    points = tuple(replace(point, speed=Speed({1: 10.0, 64: 1234.4})) for point in dev.points)
    timed = paper_table("x", replace(dev, points=points), test)
    assert timed.headings[-1] == "Tokens/s" and "1,234" in as_markdown(timed)
    assert "tokens a second at a batch of 64" in timed.caption
    assert paper_table("x", dev, test, columns=("bleu", "trial")).headings == ["BLEU", "Trial"]
    with pytest.raises(StudyError, match=r"no column 'comet'; there are trial, .*chrf, bleu"):
        paper_table("x", dev, test, columns=("comet",))


def test_the_commands_formats_are_the_registrys(tmp_path: Path) -> None:
    assert tuple(FORMATS) == TABLE_FORMATS
    help_text = " ".join(parser(["table"]).format_help().split())
    assert "table" in help_text
    with pytest.raises(StudyError, match="holds no ledger"):
        table_of_run(tmp_path, "markdown")


def test_no_character_is_a_command_of_latex() -> None:
    escaped = escape_latex(SPECIALS)
    rest = re.sub(
        r"\\(textbackslash|textasciicircum|textasciitilde|textless|textgreater|textbar|textasciigrave)\{\}"
        r"|\\[{}$&#%_]|\{\\char34\}|\$(-|\\times|\\rightarrow)\$|---",
        "",
        escaped,
    )
    assert rest.split() == ["abcdefghijklmno'p", "ü"], "what is left has no meaning of its own, and letters stay"
    assert set(LATEX) >= set('\\{}$&#%_^~<>|"`')


def hostile_table(run: tuple[Path, dict[str, DataSet]]) -> str:
    _, dev, test = found(*run)
    table = paper_table(SPECIALS, dev, test)
    label = replace(column_of("label"), shown=lambda row: SPECIALS, heading=lambda metric, unit: SPECIALS)
    return as_latex(replace(table, columns={**table.columns, "label": label}))


def test_a_table_full_of_specials_has_one_cell_a_column(run: tuple[Path, dict[str, DataSet]]) -> None:
    body = hostile_table(run).split("\\toprule\n")[1].split("\\bottomrule")[0]
    for line in body.replace("\\midrule\n", "").splitlines():
        assert line.endswith(" \\\\") and len(re.findall(r"(?<!\\)&", line)) == 6


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_it_compiles(run: tuple[Path, dict[str, DataSet]], tmp_path: Path) -> None:
    document = "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n"
    (tmp_path / "t.tex").write_text(f"{document}{hostile_table(run)}\\end{{document}}\n", encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "t.tex"],
        cwd=tmp_path, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]


def test_markdown_takes_no_text_for_its_own(run: tuple[Path, dict[str, DataSet]]) -> None:
    _, dev, test = found(*run)
    table = paper_table("x", dev, test)
    label = replace(column_of("label"), shown=lambda row: "a|b <img src=x> *c*\nd")
    lines = as_markdown(replace(table, columns={"label": label, "trial": COLUMNS["trial"]})).splitlines()
    assert lines[2] == r"| a\|b \<img src=x\> \*c\* d | 0 |"
