"""A page of results: every figure is the ledger's, no text of data breaks it, and bad input writes nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

from orchestrator.finish.results_page import study_file, write_page
from orchestrator.finish.run_folder import read_data, reopen
from orchestrator.finish.wrap_up import read_results
from orchestrator.ledger.records import LedgerWriter, read_ledger
from orchestrator.report.markdown.references import is_reference, is_uniform, lies_above
from orchestrator.report.markdown.speeds import is_structured
from orchestrator.results.cost import cost_of
from orchestrator.statistics.frontier import Objectives
from search_spaces.errors import StudyError
from search_spaces.methods.pruners import RemoveLayers, SparseGPT
from search_spaces.methods.quantizers import GPTQ, RTN, BitsAndBytes, QuantizeEmbeddings
from search_spaces.methods.registry import Step
from search_spaces.methods.trainers import Distill, Finetune
from search_spaces.outcome import Failure, Race, Speed
from tests.support.examples import trial
from tests.support.recorded_run import Made, write_data, write_run
from workers.reading.dataset import read_dataset

TRAINING = Finetune(tokens=1000, loss="references")
CHAIN: tuple[Step, ...] = (GPTQ(bits=3), TRAINING)
PLANTED = "a | b <script>alert(1)</script> `c` [d](javascript:e) $f$ &amp; *g*"
NAMES = [
    "trials", "gpu_minutes", "baseline_chrf_mean", "baseline_chrf_worst", "zero_shot_chrf_mean",
    *(f"smallest_ratio_at_{level}{suffix}" for level in (99, 98, 95) for suffix in ("", "_worst", "_low")),
    "largest_gap_factor_2_to_10", "points_above_uniform_share", "control_arm_chrf_mean",
    "packed_speed_ratio_b64_at_3x", "structured_speed_ratio_at_98",
]  # fmt: skip
RACE = Race("dominated", 2, 12, -9.8, -4.1, 52.0)
# Of en-de, which are every second segment, a little is lost.
ONE_PAIR = dict.fromkeys(range(1, 96, 2), 0.05)
DEV = [
    Made(12_000, 0.0, None),
    Made(6_000, 0.0, 8),
    Made(4_000, 0.0, 4, ONE_PAIR),
    Made(3_000, 0.03, chain=CHAIN),
    Made(2_000, 0.5, chain=(QuantizeEmbeddings(bits=8),)),
    Made(9_000, 0.0, cuts={1: 0.5, 4: 0.1}, chain=(RemoveLayers(count=1),)),
    Made(2_500, 0.3, 3, race=RACE),
    Made(2_600, 0.3, 2, sanity={"empty": 0.5}),
]
HELD_OUT = [
    *(Made(one.size, one.cut, one.bits, one.cuts, chain=one.chain, split="test") for one in (DEV[0], *DEV[2:6])),
    Made(12_000, 0.0, chain=(TRAINING,), split="control"),
    Made(12_000, 0.0, chain=(TRAINING,), split="control_test"),
]


def run_of(folder: Path, trials: list[Made] | None = None, **spec: Any) -> Path:
    data = {"dev": write_data(folder / "dev.jsonl", 96), "test": write_data(folder / "test.jsonl", 96, seed=1)}
    trials = [*DEV, *HELD_OUT] if trials is None else trials
    return write_run(folder / "run", data, trials, test=str(folder / "test.jsonl"), model="example/model", **spec)


@pytest.fixture(name="run", scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = run_of(tmp_path_factory.mktemp("page"))
    writer = LedgerWriter(str(run))
    for number, (steps, speed) in enumerate([((), 100.0), (CHAIN, 250.0), ((RemoveLayers(count=1),), 130.0)], start=50):
        writer.append(trial(Speed({1: 1.0, 64: speed}), steps, number, "speed"), [])
    writer.append(trial(Failure("error", "compress", PLANTED), (BitsAndBytes(format="nf4"),), 60), [])
    writer.end(True)
    return run


@pytest.fixture(name="pages", scope="module")
def written(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("docs") / "results" / "example.md"
    published = to.parent.parent / "published.csv"
    published.write_text(
        f"name,model,ratio,kept_percent,metric,source\n{PLANTED[:60]},other,3.59,99.6,COMET,{PLANTED}\n", "utf-8"
    )
    paths = write_page(run, to, note=PLANTED, published=published, title=PLANTED)
    assert [path.name for path in paths] == ["example.md", "example.json", "example.png"]
    return to.parent


def read(pages: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((pages / "example.json").read_text("utf-8"))
    return found


def test_without_sentences_the_page_names_segments_and_quotes_none(run: Path, tmp_path: Path) -> None:
    write_page(run, tmp_path / "page", sentences=False)
    write_page(run, tmp_path / "quoting")
    bare, quoting = ((tmp_path / f"{name}.md").read_text("utf-8") for name in ("page", "quoting"))
    _, spec = reopen(run)
    texts = [text for segment in read_data(spec)["test"].segments for text in (segment.source, *segment.references)]
    assert any(text in quoting for text in texts) and not any(text in bare for text in texts)
    assert "Segments to look at, by their ids in the data: " in bare and "--no-sentences" in bare


def test_every_figure_is_there_and_what_was_not_measured_says_why(pages: Path) -> None:
    found = read(pages)
    assert list(found["figures"]) == NAMES
    assert set(found["definitions"]) == {*NAMES, "shares"}
    missing = {name for name, value in found["figures"].items() if value is None}
    assert set(found["reasons"]) == missing == {"gpu_minutes", "zero_shot_chrf_mean", "smallest_ratio_at_99_low"}
    assert all(found["reasons"].values())
    assert found["judged_on"] == "test" and found["quality"] == "chrf"


def test_the_figures_are_those_of_the_ledger(run: Path, pages: Path) -> None:
    found = read(pages)
    ledger, spec = reopen(run)
    dev, test = read_results(ledger, spec, read_data(spec))
    assert test is not None and test.baseline is not None
    base = {pair: score.value for pair, score in test.baseline.measurement.scores["chrf"].items()}
    kept = {}
    for point in test.points:
        if point.steps and not point.kept_off:
            shares = [point.measurement.scores["chrf"][pair].value / base[pair] for pair in base]
            kept[point.ratio] = (point.quality / test.baseline.quality, min(shares))
    figures = found["figures"]
    assert figures["trials"] == len(ledger.on("dev")) == 9
    assert figures["baseline_chrf_mean"] == pytest.approx(sum(base.values()) / 2)
    assert figures["baseline_chrf_worst"] == min(base.values())
    for level, least in ((99, 0.98), (98, 0.96), (95, 0.0)):
        enough = [ratio for ratio, (mean, pair) in kept.items() if mean >= level / 100 and pair >= least]
        assert figures[f"smallest_ratio_at_{level}"] == pytest.approx(max(enough)), level
        of_worst = [ratio for ratio, (_, pair) in kept.items() if pair >= level / 100]
        assert figures[f"smallest_ratio_at_{level}_worst"] == pytest.approx(max(of_worst)), level
    ratios = sorted(point.ratio for point in dev.frontier if 2 <= point.ratio <= 10)
    gaps = [after / before for before, after in pairwise(ratios)]
    assert figures["largest_gap_factor_2_to_10"] == (pytest.approx(max(gaps)) if gaps else None)
    tuned = next(one.measurement for one in ledger.on("control_test"))
    assert tuned is not None and figures["control_arm_chrf_mean"] == pytest.approx(tuned.overall("chrf"))
    assert figures["packed_speed_ratio_b64_at_3x"] == pytest.approx(2.5)
    assert figures["structured_speed_ratio_at_98"] == pytest.approx(1.3)
    by_trial = {one["trial"]: one for one in found["points"]}
    for point in dev.shown:
        told = by_trial[point.record.number]
        own = [one for one in ledger.of_all_splits if one.candidate == point.record.candidate]
        assert told["worker_minutes"] == pytest.approx(60 * cost_of(own).worker_hours)
        assert (told["bytes"], told["steps"]) == (point.bytes, point.steps)


def test_a_stricter_demand_never_has_a_smaller_model(pages: Path) -> None:
    figures = read(pages)["figures"]
    for suffix in ("", "_worst", "_low"):
        ratios = [figures[f"smallest_ratio_at_{level}{suffix}"] or 0.0 for level in (99, 98, 95)]
        assert ratios == sorted(ratios)
    assert all(
        (figures[f"smallest_ratio_at_{level}_low"] or 0.0) <= figures[f"smallest_ratio_at_{level}"]
        for level in (99, 98, 95)
    )


def test_no_text_of_data_breaks_the_page(pages: Path) -> None:
    markdown = (pages / "example.md").read_text("utf-8")
    html = MarkdownIt("commonmark").enable("table").render(markdown)
    assert "<script" not in html and "javascript:" not in re.sub(r"\[d\]\(javascript:e\)", "", html)
    assert html.count("<h1>") == 1 and "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    tables = re.findall(r"<table>.*?</table>", html, flags=re.DOTALL)
    assert len(tables) >= 9
    for one in tables:
        widths = {len(re.findall(r"<t[hd][ >]", row)) for row in re.findall(r"<tr>.*?</tr>", one, flags=re.DOTALL)}
        assert len(widths) == 1, one
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len(lines) == sum(one.count("<tr>") for one in tables) + len(tables), "each row is in a table"


def test_the_page_says_what_did_not_work_and_what_is_said_differently(pages: Path) -> None:
    markdown = (pages / "example.md").read_text("utf-8")
    assert "**failed, error in compress: 1**" in markdown
    assert "**dropped early, worse than a point of no more bytes: 1**" in markdown
    assert "**kept off the frontier, translations that are empty: 1**" in markdown
    assert "- trial 7 (rtn 2-bit g64, 4.62×): 50 % of hypotheses are empty" in markdown
    assert "the same, letter for letter | 94 (97.9 %)" in markdown and "at least 20 % shorter | 1 (1.0 %)" in markdown
    assert "**Chosen by the largest fall of chrF**" in markdown
    assert "## Is it the compression or the training?" in markdown and "finetune 1k" in markdown
    assert "![chrF against size](<example.png>)" in markdown
    assert (pages / "example.png").read_bytes().startswith(b"\x89PNG")
    assert "The study has no training data." in markdown


def test_no_path_of_the_machine_is_on_it_and_it_is_the_same_again(run: Path, pages: Path, tmp_path: Path) -> None:
    text = (pages / "example.md").read_text("utf-8") + (pages / "example.json").read_text("utf-8")
    assert str(run.parent) not in text and str(pages) not in text
    first, again = (write_page(run, tmp_path / name / "page") for name in ("a", "b"))
    for one, other in zip(first[:2], again[:2], strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_without_held_out_scores_dev_judges_and_the_page_says_so(tmp_path: Path) -> None:
    run = run_of(tmp_path, DEV[:3])
    write_page(run, tmp_path / "page")
    found = json.loads((tmp_path / "page.json").read_text("utf-8"))
    assert found["judged_on"] == "dev" and found["figures"]["control_arm_chrf_mean"] is None
    assert found["reasons"]["control_arm_chrf_mean"] == "no point that stands was trained"
    assert "dev, which also chose the points" in (tmp_path / "page.md").read_text("utf-8")


def test_the_model_before_a_made_baseline_is_the_zero_shot(tmp_path: Path) -> None:
    run = run_of(tmp_path, [*DEV[:2], Made(12_000, 0.0, None, split="test")])
    data = {split: read_dataset(str(tmp_path / f"{split}.jsonl")) for split in ("dev", "test")}
    nested = write_run(
        run / "baseline",
        data,
        [Made(12_000, 0.4, None), Made(12_000, 0.0, chain=(TRAINING,)), Made(12_000, 0.4, None, split="test")],
    )
    write_page(run, tmp_path / "page")
    found = json.loads((tmp_path / "page.json").read_text("utf-8"))
    (zero,) = read_ledger(nested).on("test")
    assert zero.measurement is not None
    assert found["figures"]["zero_shot_chrf_mean"] == pytest.approx(zero.measurement.overall("chrf"))
    assert (found["model"]["made_from"], found["model"]["made_by"]) == ("example/model", "finetune 1k loss references")
    # The study that makes it again begins there too.
    study = yaml.safe_load(study_file(*reopen(run)))
    assert study["model"] == "example/model"
    assert [(step["method"], step["tokens"], step["loss"]) for step in study["baseline"]] == [
        ("finetune", 1000, "references")
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,model,ratio,kept_percent,metric,source\na,b,c,1,m,s\n", "line 2, column ratio is 'c'; it must be"),
        (None, "published.csv can't be read: No such file"),
    ],
)
def test_a_bad_file_of_published_points_is_named_and_nothing_is_written(
    run: Path, tmp_path: Path, text: str | None, said: str
) -> None:
    file = tmp_path / "published.csv"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises(StudyError, match=re.escape(said)):
        write_page(run, tmp_path / "docs" / "page", published=file)
    assert not (tmp_path / "docs").exists()


def test_the_published_points_of_a_run_are_on_its_page_unless_others_are_given(tmp_path: Path) -> None:
    head = "name,bytes,score,metric,source\n"
    run = run_of(tmp_path, [*DEV[:2], Made(12_000, 0.0, None, split="test")], published=str(tmp_path / "mine.csv"))
    (run / "published.csv").write_text(f"{head}small,3KB,58,chrf,there\n", "utf-8")
    write_page(run, tmp_path / "page")
    page, found = (tmp_path / "page.md").read_text("utf-8"), json.loads((tmp_path / "page.json").read_text("utf-8"))
    assert (
        "| Published | Size | Score | Metric | Source |" in page
        and "| small | 3.00 kB | 58.00 | chrF | there |" in page
    )
    assert found["published"] == [
        {"name": "small", "metric": "chrf", "source": "there", "model": "", "ratio": None, "bytes": 3000,
         "kept_percent": None, "score": 58.0}
    ]  # fmt: skip
    assert "published: mine.csv" in found["study"] and "--published" not in found["command"]
    (tmp_path / "others.csv").write_text(f"{head}other,4KB,57,chrf,there\n", "utf-8")
    write_page(run, tmp_path / "page", published=tmp_path / "others.csv")
    found = json.loads((tmp_path / "page.json").read_text("utf-8"))
    assert [one["name"] for one in found["published"]] == ["other"] and "--published others.csv" in found["command"]
    assert str(tmp_path) not in (tmp_path / "page.md").read_text("utf-8") + json.dumps(found)


def test_points_that_were_added_to_a_run_are_in_the_command_that_makes_its_page_again(tmp_path: Path) -> None:
    run = run_of(tmp_path, [*DEV[:2], Made(12_000, 0.0, None, split="test")])
    (run / "published.csv").write_text("name,ratio,kept_percent,metric,source\nsmall,2,99,chrf,there\n", "utf-8")
    write_page(run, tmp_path / "page")
    assert "--published published.csv" in json.loads((tmp_path / "page.json").read_text("utf-8"))["command"]


def test_several_files_and_reference_points_are_named_without_places_or_defaults(tmp_path: Path) -> None:
    data = write_data(tmp_path / "dev.jsonl", 24)
    files = [str(tmp_path / "dev.jsonl"), str(tmp_path / "more.jsonl")]
    run = write_run(tmp_path / "run", {"dev": data}, DEV[:2])
    spec = replace(reopen(run)[1], data=files, reference_points=((RTN(bits=4),),), published=str(tmp_path / "mine.csv"))
    said = yaml.safe_load(study_file(reopen(run)[0], spec))
    assert said["data"] == ["dev.jsonl", "more.jsonl"] and said["published"] == "mine.csv"
    assert said["reference_points"] == [[{"method": "rtn", "bits": 4}]]
    assert str(tmp_path) not in json.dumps(said)


def test_a_place_that_can_not_be_written_is_named(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StudyError, match=r"can't be written: .*; choose another --to"):
        write_page(run, tmp_path / "file" / "page")
    with pytest.raises(StudyError, match="is a folder; name the pages in it without a suffix, such as"):
        write_page(run, tmp_path)
    with pytest.raises(StudyError, match=r"holds no ledger\.jsonl"):
        write_page(tmp_path, tmp_path / "page")


LINE = [Objectives(60.0, 16_000), Objectives(58.0, 4_000), Objectives(40.0, 1_000)]


@pytest.mark.parametrize(
    ("point", "above"),
    [
        # Half way between 4,000 and 16,000 in log bytes.
        (Objectives(59.1, 8_000), True),
        (Objectives(58.9, 8_000), False),
        (Objectives(58.1, 4_000), True),
        (Objectives(58.0, 4_000), False),
        (Objectives(60.5, 20_000), True),
        (Objectives(41.0, 500), True),
        (Objectives(39.0, 500), None),
    ],
)
def test_a_point_is_above_the_line_of_others_in_log_bytes(point: Objectives, above: bool | None) -> None:
    assert lies_above(point, LINE) is above
    assert lies_above(point, LINE[::-1]) is above


@pytest.mark.parametrize(
    ("steps", "kinds"),
    [
        ((), {"reference": False, "uniform": False, "structured": False}),
        ((RTN(bits=4),), {"reference": True, "uniform": True, "structured": False}),
        ((BitsAndBytes(format="nf4"),), {"reference": True, "uniform": True, "structured": False}),
        ((GPTQ(bits=4),), {"reference": True, "uniform": False, "structured": False}),
        ((RTN(bits=4), QuantizeEmbeddings(bits=8)), {"reference": False, "uniform": False, "structured": False}),
        ((RemoveLayers(count=1), TRAINING), {"reference": False, "uniform": False, "structured": True}),
        ((Distill(layers=2),), {"reference": False, "uniform": False, "structured": True}),
        ((TRAINING,), {"reference": False, "uniform": False, "structured": False}),
        ((SparseGPT(),), {"reference": False, "uniform": False, "structured": False}),
        ((RemoveLayers(count=1), RTN(bits=4)), {"reference": False, "uniform": False, "structured": False}),
    ],
    ids=str,
)
def test_what_a_chain_counts_as(steps: tuple[Step, ...], kinds: Mapping[str, bool]) -> None:
    found = {"reference": is_reference(steps), "uniform": is_uniform(steps), "structured": is_structured(steps)}
    assert found == kinds
