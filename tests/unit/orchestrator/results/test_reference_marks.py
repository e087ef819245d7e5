"""A study's reference points in what it shows: told from the search's own points in tables, pictures and MLflow."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.finish.mirroring import mirrored_trial
from orchestrator.ledger.records import read_ledger
from orchestrator.report.plot import plot_data
from orchestrator.report.sections.points import points_table
from orchestrator.report.write_report import write_picture
from orchestrator.results.intervals import Intervals
from orchestrator.results.labels import unit_for
from orchestrator.results.points import Results, collect
from orchestrator.results.tables.csv_table import frontier_csv
from orchestrator.results.tables.paper_table import column_of
from orchestrator.results.tables.terminal_table import print_frontier
from tests.support.recorded_run import Made, write_data, write_run

# The fourth is smaller and better than both references, of which the second is far below.
TRIALS = (
    Made(1000, bits=None),
    Made(900, cut=0.1, bits=8, reference=True),
    Made(800, cut=0.7, bits=3, reference=True),
    Made(500, cut=0.02, bits=4),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Results]:
    folder = tmp_path_factory.mktemp("marks")
    data = write_data(folder / "dev.jsonl", segments=48)
    path = write_run(folder / "run", {"dev": data}, TRIALS)
    return path, collect(read_ledger(path).on("dev"), Intervals(path, data, 0))


def test_the_terminals_table_has_them_below_the_frontier(run: tuple[Path, Results]) -> None:
    out = io.StringIO()
    print_frontier(Console(file=out, width=120), run[1], None)
    shown = [line for line in out.getvalue().splitlines() if "bit g64" in line or "baseline" in line]
    assert ["(reference)" in line for line in shown] == [False, False, True, True]
    assert [point.record.number for point in run[1].references] == [1, 2]


def test_tables_for_programs_have_a_column(run: tuple[Path, Results]) -> None:
    rows = list(csv.DictReader(io.StringIO(frontier_csv(run[1]))))
    assert [row["reference"] for row in rows] == ["0", "1", "1", "0"]
    assert column_of("reference").heading("chrF", unit_for(run[1].points)) == "Reference"


def test_the_report_names_them_and_its_plot_knows_them(run: tuple[Path, Results]) -> None:
    unit = unit_for(run[1].points)
    assert points_table(run[1], unit).count("(reference)</summary>") == 2
    (view,) = plot_data({"dev": run[1]}, unit)["views"].values()
    assert [point["reference"] for point in view["points"]] == [False, True, True, False]


def test_the_picture_boxes_and_names_them(run: tuple[Path, Results], monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.axes import Axes

    labels: list[object] = []
    scatter = Axes.scatter
    monkeypatch.setattr(
        Axes, "scatter", lambda self, *at, **how: (labels.append(how.get("label")), scatter(self, *at, **how))[1]
    )
    picture = write_picture(run[0] / "frontier.png", "marks", run[1])
    assert "in a box: a reference point of the study" in labels and picture.stat().st_size > 10_000


def test_mlflow_has_a_tag(run: tuple[Path, Results]) -> None:
    words = [mirrored_trial(record).words for record in read_ledger(run[0]).on("dev")]
    assert [one.get("reference") for one in words] == [None, "true", "true", None]
