"""The report: one page that opens offline and holds every number, whatever a translation contains; and its picture."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import replace
from functools import lru_cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from orchestrator.finish.wrap_up import keep_artefacts, kept_folders, short_name
from orchestrator.ledger.records import LedgerWriter, create_ledger, read_ledger
from orchestrator.number_format import GIGABYTES, MEGABYTES, interval_text, signed
from orchestrator.report import picture
from orchestrator.report.picture_labels import Box, Label, choose_boxes
from orchestrator.report.plot import plot_data
from orchestrator.report.sections.breakdown import breakdown_table
from orchestrator.report.sections.conditions import date_range, interval_note, shared_conditions
from orchestrator.report.sections.points import points_table
from orchestrator.report.translations.differences import TOKEN, mark_differences
from orchestrator.report.translations.samples import evenly_spread
from orchestrator.report.translations.systems import System
from orchestrator.report.write_report import write_picture, write_report
from orchestrator.results.intervals import Intervals
from orchestrator.results.labels import unit_for
from orchestrator.results.points import Results, collect
from orchestrator.results.step_labels import short_label
from orchestrator.results.tables.terminal_table import lines_below
from orchestrator.study.spec import StudySpec
from search_spaces.candidate import BaseModel, Candidate
from search_spaces.errors import StudyError
from search_spaces.methods.pruners import (
    Magnitude,
    RemoveChannels,
    RemoveHeads,
    RemoveLayers,
    SparseGPT,
    TrimVocabulary,
    Wanda,
)
from search_spaces.methods.quantizers import (
    AWQ,
    FP8,
    GPTQ,
    HQQ,
    RTN,
    W8A8,
    BitsAndBytes,
    MixedWidths,
    QuantizeEmbeddings,
)
from search_spaces.methods.registry import METHODS, Step
from search_spaces.methods.trainers import Distill, Finetune, Recover
from search_spaces.outcome import Failure, Footprint, Measurement, Outcome, Race, Speed
from tests.support.recorded_run import Made, write_data, write_run
from workers.reading.segments import DataSet, Segment, segments_digest
from workers.scoring.metrics import Interval, scores_by_pair

BASE = BaseModel("models/tiny", "sha256:" + "0" * 64)
HOSTILE = "Ein </script><b onmouseover=\"x()\"> 'Hund' & <!-- rennt\u2028weg."
REFERENCES = {
    "en-de": ["Ein Hund rennt weg.", "Der alte Mann liest ein Buch.", "Zwei Kinder spielen im Garten."],
    "en-zh": ["一只狗跑开了。", "老人在看一本书。", "两个孩子在花园里玩。"],
}
TRIALS: list[tuple[tuple[Step, ...], int, int]] = [
    ((), 11_000_000, 0),
    ((RTN(bits=8),), 7_300_000, 1),
    ((RTN(bits=4),), 5_600_000, 4),
    ((BitsAndBytes(format="nf4"),), 5_700_000, 8),
    ((RemoveLayers(count=2), RTN(bits=4, group_size=-1)), 5_100_000, 12),
]


def dataset(name: str) -> DataSet:
    segments = tuple(
        Segment(f"{pair}:{line}", pair, f"source {line} <i>", (reference,), f"{pair}/doc{line}", "")
        for pair, references in REFERENCES.items()
        for line, reference in enumerate(references)
    )
    return DataSet(name, "jsonl", segments, segments_digest(segments))


DEV, TEST = dataset("dev.jsonl"), dataset("test.jsonl")


@lru_cache(maxsize=16)
def translations(cut: int, split: str) -> tuple[str, ...]:
    """The references, each with some characters lost at its end; the first dev one is hostile."""
    texts = [
        segment.references[0][: len(segment.references[0]) - cut // (2 if split == "test" else 1)]
        for segment in DEV.segments
    ]
    return (HOSTILE, *texts[1:]) if split == "dev" else tuple(texts)


@lru_cache(maxsize=16)
def measured(size: int, cut: int, split: str) -> Measurement:
    return Measurement(
        scores=scores_by_pair(("chrf", "bleu"), DEV.segments, translations(cut, split)),
        footprint=Footprint(size, 1000, 0.97 if cut == 4 else 1.0),
        seconds={"translate": 2.0},
        segments=len(DEV.segments),
        tokens=60,
        truncated=2 if cut == 12 else 0,
        notes=("kept one <weight>",) if cut == 4 else (),
        conditions={"device": "cpu", "seed": "0"},
    )


def append(writer: LedgerWriter, number: int, steps: tuple[Step, ...], split: str, outcome: Outcome, cut: int) -> None:
    texts = translations(cut, split) if isinstance(outcome, Measurement) else ()
    trial: dict[str, Any] = {
        "number": number, "candidate": Candidate(BASE, steps).to_json(), "split": split, "outcome": outcome.to_json(),
        "attempt": 1, "choices": {}, "predicted_bytes": 1, "started": f"2026-07-01T10:0{number}:00+00:00",
        "ended": f"2026-07-01T10:0{number}:30+00:00", "worker": "here",
    }  # fmt: skip
    lines = [
        {"id": one.id, "text": text, "tokens": 9, "truncated": False}
        for one, text in zip(DEV.segments, texts, strict=False)
    ]
    writer.append(trial, lines)


def results(folder: Path, split: str) -> Results:
    data = DEV if split == "dev" else TEST
    return collect(read_ledger(folder).on(split), Intervals(folder, data, 0))


@pytest.fixture(name="folder", scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study: five measured candidates and a failure on dev, three of them on test."""
    folder = tmp_path_factory.mktemp("run")
    create_ledger(folder, {"model": BASE.name, "space": "joint </script>", "budget": {"trials": 6}})
    writer = LedgerWriter(str(folder))
    for number, (steps, size, cut) in enumerate(TRIALS):
        append(writer, number, steps, "dev", measured(size, cut, "dev"), cut)
    failure = Failure("out_of_memory", "translate", "OutOfMemoryError: <96 GiB> asked for")
    append(writer, 5, (RemoveLayers(count=1),), "dev", failure, 0)
    for number in (0, 1, 2):
        steps, size, cut = TRIALS[number]
        append(writer, number, steps, "test", measured(size, cut, "test"), cut)
    append(writer, 4, TRIALS[4][0], "test", Failure("lost", "load", "the node went away"), 0)
    return folder


@pytest.fixture(name="page", scope="module")
def written_page(folder: Path) -> str:
    dev, test = results(folder, "dev"), results(folder, "test")
    path = write_report(folder, "tiny & <joint>", dev, DEV, test, TEST, read_ledger(folder).header)
    assert path == folder / "report.html"
    assert not list(folder.glob("*.draft"))
    return path.read_text(encoding="utf-8")


class Page(HTMLParser):
    """Collects a page's tags, its text outside scripts, its table rows, and its data."""

    VOID = frozenset({"meta", "br", "link", "img", "input", "hr"})

    def __init__(self, content: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.data = ""
        self.feed(content)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "script" not in self.open and "style" not in self.open:
            self.text.append(data)
        elif self.tags[-1][1].get("id") == "report-data":
            self.data += data

    def of(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def without_plotly(page: str) -> str:
    """The page without the longest of its scripts."""
    return page.replace(max(re.findall(r"<script>.*?</script>", page, re.DOTALL), key=len), "")


@pytest.fixture(name="parsed", scope="module")
def parsed_page(page: str) -> Page:
    """The page with plotly's own script left out, which is large and none of ours."""
    return Page(without_plotly(page))


def test_the_page_is_whole_html(parsed: Page) -> None:
    assert parsed.open == []
    assert len(parsed.of("script")) == 5, "the two data and the page's own three scripts; no text has opened another"
    assert parsed.of("b") == []


def test_the_untouched_baseline_has_not_changed_by_100_percent(folder: Path) -> None:
    html = points_table(results(folder, "dev"), MEGABYTES)
    rows = [[re.sub(r"^[^>]*>", "", cell.split("</td>")[0]) for cell in row.split("<td")] for row in html.split("<tr")]
    assert {row[1]: row[-2] for row in rows[2:]} == {
        "0": "", "1": "100.0%", "2": "97.0%", "3": "100.0%", "4": "100.0%",
    }  # fmt: skip


def test_nothing_is_fetched(parsed: Page, page: str) -> None:
    for _, attributes in parsed.tags:
        for name in ("src", "href", "srcset", "action", "data"):
            assert name not in attributes
    assert "url(" not in "".join(re.findall(r"<style>(.*?)</style>", page, re.DOTALL))
    policy = next(tag["content"] for tag in parsed.of("meta") if tag.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy


def test_the_plot_has_every_point_with_its_interval(parsed: Page, folder: Path) -> None:
    data = json.loads(parsed.data)
    dev = results(folder, "dev")
    assert list(data["views"]) == ["dev", "test"]
    assert data["unit"] == "MB"
    assert data["kinds"] == ["baseline", "bitsandbytes", "remove_layers + rtn", "rtn"]
    assert dev.baseline is not None
    for drawn, point in zip(data["views"]["dev"]["points"], dev.points, strict=True):
        assert (drawn["bytes"], drawn["quality"], drawn["frontier"]) == (point.bytes, point.quality, point.on_frontier)
        assert drawn["digest"] == point.record.candidate.digest
        if point.steps:
            assert point.interval is not None
            bounds = [dev.baseline.quality + point.interval.low, dev.baseline.quality + point.interval.high]
            assert drawn["bounds"] == pytest.approx(bounds)
        else:
            assert drawn["bounds"] is None


def test_the_tables_hold_every_point_and_failure(parsed: Page, folder: Path) -> None:
    shown = " ".join(parsed.text)
    for point in results(folder, "dev").points:
        assert point.label in shown
        assert f"{point.quality:.2f}" in shown
        assert interval_text(point.interval) in shown or not point.steps
    rows = [tag["data-digest"] for tag in parsed.of("tr") if "data-digest" in tag]
    assert set(rows) == {Candidate(BASE, steps).digest for steps, _, _ in TRIALS}
    for expected in (
        "tiny & <joint>", "joint </script>", "6 trials: 5 ended well, 1 failed", "2026-07-01 10:00 to 10:05 UTC",
        "out of memory", "OutOfMemoryError: <96 GiB> asked for", "97.0%", "kept one <weight>", "failed: lost",
        "the node went away", "figure is the honest one", "tok:zh", "budget.trials", DEV.digest,
    ):  # fmt: skip
        assert expected in shown, expected


def test_samples_hold_every_frontier_hypothesis_unharmed(parsed: Page, folder: Path) -> None:
    shown = "".join(parsed.text)
    assert [tag["data-pair"] for tag in parsed.of("div") if "data-pair" in tag] == ["en-de", "en-zh"]
    assert shown.count(HOSTILE) == len(results(folder, "dev").shown), "the baseline's is the same as each candidate's"
    for segment in DEV.segments:
        assert segment.source in shown
        assert segment.references[0] in shown
    for point in results(folder, "dev").shown:
        cut = next(cut for steps, _, cut in TRIALS if steps == point.record.candidate.steps)
        for text in translations(cut, "dev"):
            assert text in shown


def test_a_report_without_test_or_baseline_or_bleu(folder: Path, tmp_path: Path) -> None:
    dev = results(folder, "dev")
    points = tuple(
        replace(
            point,
            interval=None,
            ratio=float("nan"),
            measurement=replace(point.measurement, scores={"chrf": point.measurement.scores["chrf"]}),
        )
        for point in dev.points[1:]
    )
    (tmp_path / "hypotheses").symlink_to(folder / "hypotheses")
    content = write_report(tmp_path, "alone", Results(points, ()), DEV, None, None, {}).read_text(encoding="utf-8")
    assert "No trial failed." in content
    assert 'data-view="test"' not in content
    write_picture(tmp_path / "frontier.png", "alone", Results(points, ()))


TRAINED = ("trained on 1,000 tokens in 7 steps", "validation chrF 41.50 → 61.25 (200 pairs)")
HARMED = ("trained on 2,000 tokens in 9 steps", "training made it worse: validation chrF 61.00 → 60.50 (200 pairs)")


@pytest.fixture(name="raced_run", scope="module")
def reported_race(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, str]:
    """The results and the page of a study of COMET in which a trial was dropped early, one fails a sanity check, one is
    below the floor, and the baseline is not told from a smaller one; two were trained."""
    parent = tmp_path_factory.mktemp("raced")
    data = write_data(parent / "dev.jsonl", segments=48)
    comet = [80.0 + line % 5 for line in range(48)]
    trials = [
        Made(11_000_000, 0.0, None, comet=comet, sanity={"repeated": 0.0}),
        Made(6_000_000, 0.1, 8, comet=[*comet[:-1], comet[-1] - 1], sanity={"repeated": 0.0}, notes=TRAINED),
        Made(5_000_000, 0.1, 4, comet=comet, sanity={"repeated": 0.25}),
        Made(4_000_000, 0.1, 3, comet=comet, race=Race("dominated", 1, 8, -9.84, -4.12, 71.25), notes=HARMED),
        Made(3_000_000, 0.8, 2, comet=[20.0] * 48, sanity={"repeated": 0.0}),
    ]
    folder = write_run(parent / "run", {"dev": data}, trials, quality="comet")
    dev = collect(read_ledger(folder).on("dev"), Intervals(folder, data, 0, "comet"), floor=0.5)
    timed = Speed({1: 1234.5, 8: 9000.0}, 0.052, 1.5, 5_000_000, 4_200_000, ("packed 4-bit",))
    speeds = [timed, *[Speed(reason="the kernels for packed weights need a GPU")] * (len(dev.points) - 1)]
    dev = replace(
        dev, points=tuple(replace(point, speed=speed) for point, speed in zip(dev.points, speeds, strict=True))
    )
    path = write_report(folder, "raced", dev, data, None, None, read_ledger(folder).header)
    write_picture(folder / "frontier.png", "raced", dev)
    content = path.read_text(encoding="utf-8")
    return dev, content


@pytest.fixture(name="raced", scope="module")
def raced_page(raced_run: tuple[Results, str]) -> Page:
    _, content = raced_run
    return Page(without_plotly(content))


def test_what_is_not_on_the_frontier_for_a_reason_is_said(raced: Page) -> None:
    shown = " ".join(raced.text)
    for expected in (
        "5 trials: 4 measured in full, 1 dropped early, 0 failed",
        "1 point of 4, 1 more not told apart from one of them; 2 kept off it",
        "These data can't tell how much a candidate loses: 48 segments in 12 documents of dev",
        "dropped at 8 of 48 segments: worse than trial 1 by 4.1 to 9.8",
        "kept off: 25 % of hypotheses repeat themselves",
        "kept off: keeps less than 50 % of the baseline's quality: 20.00 of 81.94",
        "not told apart from rtn 8-bit g64 (6.00 MB)",
        "A hollow point is not told apart from the point",
        "Here that is 1 trial.",
        "25.0%",
        "Not measured of rtn 8-bit g64, rtn 4-bit g64, rtn 2-bit g64: the kernels for packed weights need a GPU. "
        "Measured: the baseline 1,234 tokens/s at 1, 9,000 tokens/s at 8.", "below what people notice",
        *TRAINED, *HARMED,
    ):  # fmt: skip
        assert expected in shown, expected
    view = json.loads(raced.data)["views"]["dev"]
    said = "not told apart from rtn 8-bit g64 (6.00 MB)"
    assert [point["standing"] for point in view["points"]] == [said, "", "", ""]
    assert [point["tied"] for point in view["points"]] == [True, False, False, False]
    assert [len(point["keptOff"]) for point in view["points"]] == [0, 0, 1, 1]
    assert [(trial["trial"], trial["projected"]) for trial in view["dropped"]] == [(3, 71.25)]


def test_only_a_training_that_made_a_model_worse_stands_out(raced_run: tuple[Results, str]) -> None:
    _, content = raced_run
    for note in (*TRAINED, *HARMED):
        style = "note warn" if note == HARMED[-1] else "note"
        assert content.count(f'<span class="{style}">{note}</span>') == 1, note


def test_the_terminal_says_which_training_made_a_model_worse(raced_run: tuple[Results, str]) -> None:
    dev, _ = raced_run
    lines = [line for line in lines_below(dev) if "training" in line]
    assert lines == [f"trial 3 (rtn 3-bit g64): {HARMED[-1]}"]


def test_a_study_of_comet_says_so_everywhere(raced: Page) -> None:
    shown = " ".join(raced.text)
    assert json.loads(raced.data)["metric"] == "COMET"
    for expected in (
        "Worst pair, COMET",
        "mean COMET over language pairs",
        "candidate's COMET minus",
        "By kind of segment",
    ):
        assert expected in shown, expected
    data = json.loads(raced.data)["views"]["dev"]["points"][1]
    assert [text.split()[0] for text in data["others"]] == ["chrF", "BLEU"]


def test_the_breakdown_says_where_a_point_is_worse_than_the_baseline() -> None:
    about = (("news", 20.0), ("news", 20.0), ("speech", 90.0), ("news", 20.0), ("news", None), ("speech", 90.0))
    segments = tuple(
        replace(segment, domain=domain, human_score=score)
        for segment, (domain, score) in zip(DEV.segments, about, strict=True)
    )
    good = tuple(segment.references[0] for segment in segments)
    bad = tuple("" if segment.domain == "speech" else text for segment, text in zip(segments, good, strict=True))
    systems = [System("baseline", "11 MB", True, good), System("rtn 4-bit g64", "5 MB", False, bad)]
    table = breakdown_table(replace(DEV, segments=segments), systems, "chrf")
    rows = [re.sub("<[^>]*>", " ", row).split() for row in re.findall("<tr.*?</tr>", table)]
    assert ["Domain", "news", "100.00", "100.00", "0.00"] in rows
    assert ["speech", "100.00", "0.00", "\N{MINUS SIGN}100.00"] in rows
    assert ["Human", "score", "0-30", "100.00", "100.00", "0.00"] in rows
    assert ["unscored", "100.00", "100.00", "0.00"] in rows
    assert rows[-1][:4] == ["Document", "its", "worst", "100.00"]
    assert "en-de/doc2" in rows[-1]
    assert breakdown_table(DEV, [], "chrf") == ""
    by_values = [replace(system, values=(50.0,) * 6) for system in systems]
    assert "100.00" not in breakdown_table(DEV, by_values, "comet")


def test_a_study_in_which_all_failed(folder: Path, tmp_path: Path) -> None:
    nothing = Results((), results(folder, "dev").failures)
    content = write_report(tmp_path, "all failed", nothing, DEV, None, None, {}).read_text(encoding="utf-8")
    assert "nothing to plot" in content
    assert len(content) < 100_000
    assert Page(content).open == []


def test_a_study_with_a_third_objective_says_what_stands_off_the_line(folder: Path, tmp_path: Path) -> None:
    plain = results(folder, "dev")
    for third, said in ((None, False), ("memory", True)):
        found = replace(plain, third=third)
        content = write_report(folder, "three", found, DEV, None, None, {}).read_text(encoding="utf-8")
        assert ("third objective is memory" in content) == said
        line = plot_data({"dev": found}, unit_for(found.points))["views"]["dev"]["line"]
        assert len(line) == len(found.frontier), "nothing costs more than anything here"


def test_hypotheses_of_other_data_are_refused(folder: Path) -> None:
    fewer = replace(DEV, segments=DEV.segments[:4])
    with pytest.raises(StudyError, match="6 hypotheses for the 4 segments of dev"):
        write_report(folder, "wrong data", results(folder, "dev"), fewer, None, None, {})


@pytest.mark.parametrize(("smallest", "scale"), [(30_000, "log"), (400_000, "linear")])
def test_sizes_far_apart_stand_on_a_logarithmic_axis(
    smallest: int, scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_data(tmp_path / "dev.jsonl")
    pruned = (TrimVocabulary(tokens=4000), RemoveLayers(count=2), RemoveChannels(share=0.5))
    trained = (GPTQ(bits=4, group_size=64), Finetune(tokens=4_000_000, batch=128, rate=1e-4))
    steps = (*pruned, *trained, QuantizeEmbeddings(bits=4))
    run = write_run(tmp_path / "run", {"dev": data}, [Made(1_000_000, 0.0, None), Made(smallest, 0.2, chain=steps)])
    shown: list[tuple[str, list[str]]] = []
    plain = picture.place_labels

    def noted(axes: Any, labelled: Any, **others: Any) -> None:
        shown.append((axes.get_xscale(), [text for _, _, text in labelled]))
        plain(axes, labelled, **others)

    monkeypatch.setattr(picture, "place_labels", noted)
    found = collect(read_ledger(run).on("dev"), Intervals(run, data, 0))
    write_picture(tmp_path / "frontier.png", "sizes", found)
    assert plot_data({"dev": found}, unit_for(found.points))["views"]["dev"]["logarithmic"] == (scale == "log")
    ((axis, names),) = shown
    assert axis == scale
    assert any(name.startswith(f"trial 1: {1_000_000 / smallest:.2f}×, ") for name in names), "a long chain"


def test_the_picture_is_a_png_at_twice_the_width_of_a_readme(folder: Path, tmp_path: Path) -> None:
    path = write_picture(tmp_path / "frontier.png", "tiny $joint$", results(folder, "dev"))
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", content[16:24]) == (1800, 1280)
    assert len(content) > 20_000


def test_labels_keep_off_each_other_and_inside_the_frame() -> None:
    frame = Box(0, 0, 600, 360)
    labels = [Label(200 + 4 * index, 150 + 6 * index, 90, 11) for index in range(8)]
    obstacles = [Box(label.x - 5, label.y - 5, label.x + 5, label.y + 5) for label in labels]
    boxes = [option.box for option in choose_boxes(labels, obstacles, frame)]
    pairs = [(one, other) for index, one in enumerate(boxes) for other in boxes[:index]]
    assert sum(one.overlap(other) for one, other in pairs) == 0
    assert all(box.overlap(frame) == pytest.approx(box.area) for box in boxes)


LABELS: list[tuple[Step, str]] = [
    (RTN(bits=8), "rtn 8-bit g64"),
    (RTN(bits=8, symmetric=False), "rtn 8-bit g64 asym"),
    (HQQ(bits=4, group_size=32), "hqq 4-bit g32"),
    (HQQ(bits=4, group_size=32, symmetric=True), "hqq 4-bit g32 sym"),
    (AWQ(bits=3), "awq 3-bit g64"),
    (GPTQ(bits=2, group_size=128), "gptq 2-bit g128"),
    (GPTQ(bits=2, group_size=128, symmetric=False), "gptq 2-bit g128 asym"),
    (GPTQ(bits=2, group_size=128, damping=0.1, activation_order=False), "gptq 2-bit g128 damping 0.1 in order"),
    (MixedWidths(bits=3.25), "mixed g64 budget 3.25 bits"),
    (MixedWidths(bits=3.0, embeddings=True), "mixed g64 budget 3 bits + emb"),
    (MixedWidths(bits=3.0, score="error"), "mixed g64 budget 3 bits by error"),
    (BitsAndBytes(format="fp4"), "bnb fp4"),
    (BitsAndBytes(format="fp4", double_quantization=True), "bnb fp4 dq"),
    (FP8(), "fp8"),
    (FP8(activations=True), "fp8 w+a"),
    (W8A8(), "w8a8"),
    (QuantizeEmbeddings(bits=8), "emb 8-bit g64"),
    (QuantizeEmbeddings(bits=4, group_size=-1), "emb 4-bit per channel"),
    (RemoveLayers(count=2, by="greedy"), "\N{MINUS SIGN}2 layers greedy"),
    (RemoveHeads(groups=1), "\N{MINUS SIGN}1 kv head"),
    (RemoveChannels(share=0.2), "\N{MINUS SIGN}20% mlp"),
    (RemoveChannels(share=0.1047), "\N{MINUS SIGN}10.47% mlp"),
    (TrimVocabulary(tokens=3968), "3,968 tokens"),
    (Magnitude(sparsity=0.3), "magnitude 30%"),
    (Wanda(), "wanda 50%"),
    (SparseGPT(pattern="2:4"), "sparsegpt 2:4"),
    (Recover(), "lora r16 1M"),
    (Recover(adapter="dora", rank=4, alpha=8.0, merged=True, tokens=250_000), "dora r4 merged 250k alpha 8.0"),
    (Recover(tokens=0, loss="references", rate=2e-3), "lora r16 once loss references rate 0.002"),
    (Finetune(tokens=1_234_567), "finetune 1,234,567"),
    (Finetune(tokens=4_000_000, weight_decay=0.01, warm_up=5), "finetune 4M warm up 5 weight decay 0.01"),
    (Distill(layers=2, width=0.5, channels=0.4), "student 2 layers 50% width 40% mlp 1M"),
    (Distill(config="shapes/small.json", tokens=1500), "student small.json 1.5k"),
]


@pytest.mark.parametrize(
    ("steps", "label"),
    [
        ((), "baseline"),
        ((RTN(bits=4),), "rtn 4-bit g64"),
        ((RTN(bits=3, group_size=-1),), "rtn 3-bit per channel"),
        ((BitsAndBytes(format="nf4"),), "bnb nf4"),
        ((RemoveLayers(count=1), BitsAndBytes(format="int8")), "\N{MINUS SIGN}1 layer, bnb int8"),
        ((RemoveLayers(count=2),), "\N{MINUS SIGN}2 layers"),
        *(((step,), label) for step, label in LABELS),
    ],
)
def test_short_labels(steps: tuple[Step, ...], label: str) -> None:
    assert short_label(Candidate(BASE, steps)) == label


def test_every_method_has_a_short_label_and_no_two_steps_share_one() -> None:
    assert {step.name for step, _ in LABELS} == set(METHODS)
    assert len({label for _, label in LABELS}) == len(LABELS)


def test_numbers_as_people_read_them(folder: Path) -> None:
    assert [signed(value) for value in (0.314, -0.314, -0.001, 0.0)] == ["+0.31", "\N{MINUS SIGN}0.31", "0.00", "0.00"]
    assert interval_text(Interval(-1.0, 0.5)) == "\N{MINUS SIGN}1.00 to +0.50"
    point = results(folder, "dev").points[0]
    large = replace(point, measurement=replace(point.measurement, footprint=Footprint(14_000_000_000, 7)))
    assert unit_for([point, large]) == GIGABYTES
    assert GIGABYTES.text(large.bytes) == "14.00 GB"


def test_samples_are_spread_evenly() -> None:
    assert evenly_spread(5) == [0, 1, 2, 3, 4]
    assert evenly_spread(24, 4) == [3, 9, 15, 21]
    spread = evenly_spread(997)
    assert len(spread) == len(set(spread)) == 12
    assert spread == sorted(spread)


@pytest.mark.parametrize(
    ("hypothesis", "baseline", "shown"),
    [
        ("Ein Hund.", "Ein Hund.", "Ein Hund."),
        ("Ein Hund.", "Ein Kater.", 'Ein <mark title="baseline: Kater">Hund</mark>.'),
        ("Ein.", "Ein Hund.", 'Ein<mark class="gone" title="baseline: Hund"></mark>.'),
        ("老人读书", "老人看书", '老人<mark title="baseline: 看">读</mark>书'),
        ("<b>", "", '<mark title="baseline: ">&lt;b&gt;</mark>'),
    ],
)
def test_words_that_differ_are_marked(hypothesis: str, baseline: str, shown: str) -> None:
    assert mark_differences(hypothesis, baseline) == shown


@pytest.mark.parametrize(
    "text", [HOSTILE, "हिन्दी में  वाक्य।", "ภาษาไทยที่นี่", "日本語、テスト１。", "a_b\tc\u200d\u3099\x85", "👩‍👧 ok"]
)
def test_no_character_is_lost_between_words(text: str) -> None:
    assert "".join(TOKEN.findall(text)) == text


def test_conditions_that_differ_are_told_apart(folder: Path) -> None:
    dev = results(folder, "dev")
    other = replace(dev.points[0], measurement=replace(dev.points[0].measurement, conditions={"device": "H100"}))
    conditions = dict(shared_conditions([replace(dev, points=(other, *dev.points[1:]))]))
    assert conditions["device"] == "H100 (1 of 5 measurements); cpu (4 of 5 measurements)"
    assert conditions["seed"] == "0 (4 of 5 measurements)"


def test_the_interval_says_what_it_was_drawn_from() -> None:
    assert "1,000 times" in interval_note([DEV])
    assert "dev.jsonl: 3 documents a pair" in interval_note([DEV])
    single = replace(DEV, segments=tuple(replace(segment, doc_id="one") for segment in DEV.segments))
    assert "With one document only (en-de, en-zh)" in interval_note([single])


def test_a_study_of_several_days_names_both(folder: Path) -> None:
    record = results(folder, "dev").points[0].record
    later = replace(record, started="2026-07-02T23:00:00+00:00", ended="2026-07-03T00:30:00+00:00")
    assert date_range([later, record]) == "2026-07-01 10:00 to 2026-07-03 00:30 UTC"
    assert date_range([]) == "\N{EM DASH}"


@pytest.mark.parametrize(
    ("steps", "name"),
    [
        ((), "baseline"),
        (
            (RemoveLayers(count=1, by="greedy"), GPTQ(bits=4, damping=0.1)),
            "minus-1-layer-greedy-gptq-4-bit-g64-damping-0-1",
        ),
        ((RemoveChannels(share=0.1047), TrimVocabulary(tokens=3968)), "minus-10-47-mlp-3-968-tokens"),
        ((Wanda(pattern="2:4"), RTN(bits=4)), "wanda-2-4-rtn-4-bit-g64"),
    ],
)
def test_a_kept_folder_has_a_name_that_file_systems_and_mlflow_take(steps: tuple[Step, ...], name: str) -> None:
    assert short_name(Candidate(BASE, steps)) == name


def test_a_kept_folder_is_known_by_its_trial_however_its_steps_were_spelt(tmp_path: Path, folder: Path) -> None:
    dev = results(folder, "dev")
    # Nothing is told apart by six documents; a second search would have shown this one to be beaten.
    beaten = replace(dev.points[0], tie=None, beaten_by=dev.points[1].record)
    dev = replace(dev, points=(beaten, *dev.points[1:]))
    frontier, beside = dev.frontier[-1].record.number, beaten.record.number
    for name in (f"trial-{frontier}-rtn-bits4", f"trial-{beside}-old", ".draft-trial-9-x", "trial-mine-x"):
        (tmp_path / "run" / "artefacts" / name).mkdir(parents=True)
    spec = StudySpec(out=str(tmp_path / "run"), data="dev.jsonl")

    keep_artefacts(spec, dev)

    assert {path.name for path in (tmp_path / "run" / "artefacts").iterdir()} == {
        f"trial-{frontier}-rtn-bits4",
        "trial-mine-x",
    }
    assert kept_folders(tmp_path / "run", dev) == {
        frontier: tmp_path / "run" / "artefacts" / f"trial-{frontier}-rtn-bits4"
    }
