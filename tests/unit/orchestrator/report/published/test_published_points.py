"""Published points: read with errors that name the place, drawn as shares of the baseline, never mixed with trials."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.finish.run_folder import report_again
from orchestrator.ledger.records import read_ledger
from orchestrator.number_format import MEGABYTES
from orchestrator.report.published.placing import Placed, marked_name, place_or_why, placed
from orchestrator.report.published.points_file import (
    POINTS_FILE,
    PublishedPoint,
    points_of_run,
    put_published_points,
    read_published_points,
)
from orchestrator.report.published.section import published_section
from orchestrator.report.write_report import write_picture
from orchestrator.results.intervals import Intervals
from orchestrator.results.points import Results, collect
from search_spaces.errors import StudyError
from tests.support.recorded_run import Made, write_data, write_run

HEAD = "name,ratio,bytes,kept_percent,score,metric,source\n"
GOOD = HEAD + (
    '"Model A, 4-bit",2.5,,99%,,chrF,"Someone 2025, table 3"\n'
    "Model B,,3.0MB,,58,chrf,https://example.org/b\n\n"
    "Model C,4,,97,85.1,COMET,Another 2024\n"
)
HOSTILE = "\"'><img src=x onerror=alert(1)></script>"


@pytest.fixture(name="run", scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parent = tmp_path_factory.mktemp("published")
    data = write_data(parent / "dev.jsonl", segments=24)
    made = [Made(11_000_000, 0.0, None), Made(6_000_000, 0.05, 8), Made(5_000_000, 0.2, 4)]
    return write_run(parent / "run", {"dev": data}, made, tracking_uri=f"sqlite:///{parent}/mlflow.db")


@pytest.fixture(name="results", scope="module")
def results_of(run: Path) -> Results:
    data = write_data(run.parent / "again.jsonl", segments=24)
    return collect(read_ledger(run).on("dev"), Intervals(run, data, 0))


def written(folder: Path, text: str) -> Path:
    path = folder / "refs.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_points_are_read_as_they_are_written(tmp_path: Path) -> None:
    assert read_published_points(written(tmp_path, "\ufeff" + GOOD)) == (
        PublishedPoint("Model A, 4-bit", "chrf", "Someone 2025, table 3", ratio=2.5, kept_percent=99.0),
        PublishedPoint("Model B", "chrf", "https://example.org/b", bytes=3_000_000, score=58.0),
        PublishedPoint("Model C", "comet", "Another 2024", ratio=4.0, kept_percent=97.0, score=85.1),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no points; it needs the header name,model"),
        (HEAD, "holds no points"),
        ("name,ratio,kept_percent,metric\na,1,2,chrf\n", "line 1 has no column 'source'"),
        ("name,ratio,metric,source\na,1,chrf,s\n", "line 1 has no column 'kept_percent' and no column 'score'"),
        ("name,size,kept_percent,metric,source\n", "line 1, column 'size' is unknown; the columns are name, model"),
        ("name,name,ratio,kept_percent,metric,source\n", "line 1, column 'name' stands twice"),
        (HEAD + "a,2x,,99,,chrf,s\n", "line 2, column ratio is '2x'; it must be how many times smaller"),
        (HEAD + "a,-2,,99,,chrf,s\n", "line 2, column ratio is '-2'"),
        (HEAD + "a,nan,,99,,chrf,s\n", "line 2, column ratio is 'nan'"),
        (HEAD + "a,,3 apples,99,,chrf,s\n", "line 2, column bytes is '3 apples'; it must be a size such as 3.6GB"),
        (HEAD + "a,2,,0,,chrf,s\n", "line 2, column kept_percent is '0'; it must be percent"),
        (HEAD + "a,2,,,0.87,comet,s\n", "line 2, column score: 0.87 seems to be a COMET of 0 to 1"),
        (HEAD + "a,2,,,,chrf,s\n", "line 2, columns kept_percent and score are empty"),
        (HEAD + "\n\na,2,,9,,chrf,\n", "line 4, column source is empty"),
        (HEAD + "a,2,,9,,chrf,s,t\n", "line 2 has 8 cells, and the header 7; put quotes"),
        (
            HEAD + "a,2,,9,,chrf,s\na,3,,9,,chrf,s\n",
            "line 3, column name: 'a' stands in line 2 too, in the same metric",
        ),
        (HEAD + f"{'a' * 61},2,,9,,chrf,s\n", "line 2, column name has 61 characters"),
        (HEAD + '"a,2,,9,,chrf,s\n', "line 2 is not CSV"),
    ],
)
def test_an_error_names_file_line_and_column(text: str, said: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    with pytest.raises(StudyError, match=re.escape(said)) as error:
        read_published_points(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_model_may_have_a_point_in_each_metric_and_its_name_goes_first(tmp_path: Path) -> None:
    head = "name,model,ratio,kept_percent,metric,source\n"
    text = (
        f"{head}GPTQ,Model-7B,2,99,COMET en→xx,s\nGPTQ,Model-7B,2,98,COMET xx→en,s\nGPTQ,Model-9B,2,97,COMET en→xx,s\n"
    )
    points = read_published_points(written(tmp_path, text))
    assert [(one.label, one.metric, one.kept_percent) for one in points] == [
        ("Model-7B, GPTQ", "COMET en→xx", 99.0),
        ("Model-7B, GPTQ", "COMET xx→en", 98.0),
        ("Model-9B, GPTQ", "COMET en→xx", 97.0),
    ]


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"nothing\.csv can't be read: No such file"):
        read_published_points(tmp_path / "nothing.csv")
    (tmp_path / "latin.csv").write_bytes(HEAD.encode() + "Modèle,2,,9,,chrf,s\n".encode("latin-1"))
    with pytest.raises(StudyError, match="it is not UTF-8"):
        read_published_points(tmp_path / "latin.csv")


def test_shares_are_taken_of_the_studys_own_baseline(results: Results) -> None:
    assert results.baseline is not None
    point = PublishedPoint("A", "chrf", "s", ratio=2.0, bytes=7, kept_percent=50.0, score=1.0)
    assert placed([point], results) == [Placed(point, 5_500_000.0, results.baseline.quality / 2)]
    plain = PublishedPoint("B", "chrf", "s", bytes=4_000_000, score=61.5)
    assert placed([plain], results) == [Placed(plain, 4_000_000.0, 61.5)]


def test_what_the_plot_does_not_show_says_why(results: Results) -> None:
    other = PublishedPoint("A", "comet", "s", ratio=2.0, kept_percent=99.0)
    assert place_or_why(other, results) == "not drawn: in COMET, and the plot is of chrF"
    far = PublishedPoint("A", "chrf", "s", bytes=14_000_000_000, kept_percent=99.0)
    assert "far larger model" in str(place_or_why(far, results))
    alone = Results(results.points[1:], ())
    assert "no baseline" in str(place_or_why(PublishedPoint("A", "chrf", "s", ratio=2.0, kept_percent=99.0), alone))
    assert placed([other, far], results) == []


def test_a_point_beyond_the_axis_is_marked_so() -> None:
    one = Placed(PublishedPoint("A", "chrf", "s"), 1.0, 50.0)
    assert [marked_name(one, shown) for shown in ((40.0, 60.0), (55.0, 60.0), (1.0, 2.0), None)] == [
        "A", "A ↓", "A ↑", "A",
    ]  # fmt: skip


def test_the_table_is_apart_and_its_texts_are_escaped(results: Results) -> None:
    points = (PublishedPoint(HOSTILE, HOSTILE, HOSTILE, ratio=2.0, kept_percent=99.0),)
    html = published_section(points, results, MEGABYTES)
    assert "<img" not in html and "</script" not in html and "alert(1)" in html
    assert "other people published of their own models" in html
    assert published_section((), results, MEGABYTES) == ""


def test_a_run_keeps_its_points_and_every_page_has_them(run: Path, tmp_path: Path) -> None:
    plain = write_picture(tmp_path / "plain.png", "run", _results(run)).read_bytes()
    report_again(run, Console(file=io.StringIO()), published=written(tmp_path, GOOD))
    for _ in range(2):
        page = (run / "report.html").read_text(encoding="utf-8")
        drawn = re.search(r'id="report-data">(.*?)</script>', page)
        assert drawn is not None
        view = json.loads(drawn[1])["views"]["dev"]
        assert [one["name"].rstrip(" ↓↑") for one in view["published"]] == ["Model A, 4-bit", "Model B"]
        assert len(view["points"]) == 3, "they are no trials"
        assert "not drawn: in COMET" in page and "Someone 2025, table 3" in page
        assert (run / "frontier.png").read_bytes() != plain
        assert "Model A" not in (run / "frontier.csv").read_text(encoding="utf-8")
        report_again(run, Console(file=io.StringIO()))
    (run / POINTS_FILE).unlink()
    assert points_of_run(run) == ()


def test_a_bad_file_leaves_a_runs_points_as_they_were(tmp_path: Path) -> None:
    put_published_points(written(tmp_path, GOOD), tmp_path)
    with pytest.raises(StudyError):
        put_published_points(written(tmp_path, "name\n"), tmp_path)
    assert len(points_of_run(tmp_path)) == 3


def _results(run: Path) -> Results:
    data = write_data(run.parent / "once-more.jsonl", segments=24)
    return collect(read_ledger(run).on("dev"), Intervals(run, data, 0))
