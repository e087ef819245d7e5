"""Two runs on one page: whether they agree, why they can't be compared, what differs; and nothing injected."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator import cli
from orchestrator.finish.comparing import compare_runs
from orchestrator.ledger.kept_samples import SAMPLES
from orchestrator.ledger.records import LedgerWriter
from orchestrator.report.comparison.frontiers import _offered
from search_spaces.errors import StudyError
from search_spaces.methods.quantizers import RTN
from search_spaces.methods.trainers import Finetune
from search_spaces.outcome import Probe
from tests.support.examples import trial
from tests.support.recorded_run import Made, write_data, write_run
from workers.reading.segments import DataSet

SEGMENTS = 96
HOSTILE = "\"'><img src=x onerror=alert(1)></script><script>alert(2)</script>"
USUAL = (Made(11_000_000, 0.0, None), Made(6_000_000, 0.05, 8), Made(4_000_000, 0.3, 4))


def on_test(trials: Sequence[Made]) -> list[Made]:
    return [Made(one.size, one.cut, one.bits, one.cuts, split="test") for one in trials if one.split == "dev"]


def run(
    folder: Path,
    trials: Sequence[Made] = USUAL,
    seed: int = 0,
    test_seed: int | None = 7,
    segments: int = SEGMENTS,
    **spec: Any,
) -> tuple[Path, dict[str, DataSet]]:
    """A run in a folder of its own data. test_seed: of the held-out data; None for none."""
    folder.mkdir(parents=True)
    data = {"dev": write_data(folder / "dev.jsonl", segments=segments)}
    asked: dict[str, Any] = {"seed": seed, **spec}
    if test_seed is not None:
        data["test"] = write_data(folder / "test.jsonl", segments=segments, seed=test_seed)
        asked["test"] = str(folder / "test.jsonl")
        trials = [*trials, *on_test(trials)]
    base = {"name": "models/tiny", "revision": str(asked.pop("revision", "sha256:0")), "bytes": 1}
    made = write_run(folder / folder.name, data, trials, **asked)
    ledger = made / "ledger.jsonl"
    header, *lines = ledger.read_text(encoding="utf-8").splitlines()
    ledger.write_text("\n".join([json.dumps(json.loads(header) | {"base": base}), *lines]) + "\n", encoding="utf-8")
    return made, data


def words(html: str) -> str:
    return " ".join(re.sub("<[^>]*>", " ", re.sub(r"<(script|style).*?</\1>", " ", html, flags=re.DOTALL)).split())


def compared(tmp_path: Path, one: Path, other: Path) -> tuple[str, list[str]]:
    path, said = compare_runs(one, other, tmp_path / "page.html")
    return path.read_text(encoding="utf-8"), said


def test_two_seeds_agree_within_their_intervals(tmp_path: Path) -> None:
    one, _ = run(tmp_path / "a")
    again = (USUAL[0], Made(6_010_000, 0.05, 8, {3: 0.1}), Made(3_990_000, 0.3, 4, {5: 0.4}))
    other, _ = run(tmp_path / "b", again, seed=1, margin=None)
    before = [path.name for path in one.iterdir()]
    page, said = compared(tmp_path, one, other)
    assert said[0].startswith(
        "The frontiers agree within their intervals: on the held-out test, no difference is shown"
    )
    assert len(said) == 1 and "are ruled out" in said[0], "a size within 1 % counts as one"
    shown = words(page)
    assert said[0] in shown
    assert "spec.seed 0 1" in shown and "spec.out" not in shown
    assert "spec.margin" not in shown, "of one run's version it is no key, and of the other's it says nothing"
    data = json.loads(re.findall(r'id="comparison-data">(.*?)</script>', page)[0])
    assert [study["name"] for study in data["studies"]] == ["a", "b"] and data["steps"] == "hv"
    assert {path.name for path in one.iterdir()} - {SAMPLES} == set(before), "neither run's folder changes"


def test_control_arms_and_probes_have_no_part_in_it(tmp_path: Path) -> None:
    arms = [
        Made(11_000_000, 0.0, chain=(Finetune(tokens=1000, loss="references"),), split=split)
        for split in ("control", "control_test")
    ]
    (one, _), (other, _) = (run(tmp_path / name, [*USUAL, *arms]) for name in "ab")
    for folder in (one, other):
        writer = LedgerWriter(str(folder))
        writer.append(trial(Probe({"en-de": 0.5}, 900, {"compress": 4.0}), (RTN(bits=3),), 70, "profile"), [])
        writer.end(True)
    plain = [run(tmp_path / "plain" / name)[0] for name in "ab"]
    page, said = compared(tmp_path, one, other)
    expected, alone = compared(tmp_path, *plain)
    assert said == alone and "finetune" not in words(page) and "rtn 3" not in words(page)
    data = [re.findall(r'id="comparison-data">(.*?)</script>', made)[0] for made in (page, expected)]
    assert data[0] == data[1]


def test_where_one_is_better_it_is_said_where_and_by_how_much(tmp_path: Path) -> None:
    one, _ = run(tmp_path / "a")
    other, _ = run(tmp_path / "b", (*USUAL[:2], Made(4_000_000, 0.12, 4), Made(2_000_000, 0.5, 3)))
    page, said = compared(tmp_path, one, other)
    assert said[0].startswith("The frontiers differ on the held-out test: b is better at 4.00 MB, by ")
    assert "At 1 other size no difference is shown." in said[0] or "At 2 other sizes" in said[0]
    assert said[1] == "Only the frontier of b goes on to smaller sizes: 2.00 MB."
    assert '<td class="number main">' in page


def test_without_shared_test_data_dev_is_used_with_a_caution(tmp_path: Path) -> None:
    one, _ = run(tmp_path / "a")
    other, _ = run(tmp_path / "b", test_seed=8)
    _, said = compared(tmp_path, one, other)
    assert "agree" in said[0] and "on the data that both searches select on" in said[0]
    assert "chose their candidates" in said[1]


def test_other_metrics_and_other_data_are_not_comparable(tmp_path: Path) -> None:
    one, _ = run(tmp_path / "a")
    comet = [80.0 + line % 5 for line in range(SEGMENTS)]
    other, _ = run(tmp_path / "b", [Made(11_000_000, 0.0, None, comet=comet)], test_seed=None, quality="comet")
    page, said = compared(tmp_path, one, other)
    assert said[0].startswith(
        "The studies are not comparable: the frontiers are of other metrics (chrF in a, COMET in b)"
    )
    assert "no picture can hold both" in page and 'id="sizes"' not in page


def test_one_metric_on_other_data_is_drawn_by_shares_with_a_warning(tmp_path: Path) -> None:
    one, _ = run(tmp_path / "a", test_seed=None)
    folder = tmp_path / "b"
    folder.mkdir()
    data = write_data(folder / "dev.jsonl", segments=SEGMENTS, seed=3)
    other = write_run(folder / "b", {"dev": data}, USUAL)
    ledger = other / "ledger.jsonl"
    header, *lines = ledger.read_text(encoding="utf-8").splitlines()
    base = {"name": "models/tiny", "revision": "sha256:0", "bytes": 1}
    ledger.write_text("\n".join([json.dumps(json.loads(header) | {"base": base}), *lines]) + "\n", encoding="utf-8")
    page, said = compared(tmp_path, one, other)
    assert said == ["The studies are not comparable: they were measured on other test data."]
    drawn = json.loads(re.findall(r'id="comparison-data">(.*?)</script>', page)[0])
    assert drawn["steps"] == "vh" and "in % of its own baseline" in drawn["y"]
    assert max(point["y"] for point in drawn["studies"][0]["points"]) == pytest.approx(100.0)
    assert "Do not read a difference between the two lines" in page


def test_other_baselines_and_another_decoding_are_cautions(tmp_path: Path) -> None:
    one, _ = run(tmp_path / "a", revision="sha256:0")
    other, _ = run(tmp_path / "b", revision="sha256:1", beams=4)
    _, said = compared(tmp_path, one, other)
    assert "agree" in said[0]
    assert "Their baselines are other models" in said[1] and "ratios and shares kept can't" in said[1]
    assert said[2] == "They translate under other conditions: beams."


def test_few_documents_can_not_tell(tmp_path: Path) -> None:
    one, _ = run(tmp_path / "a", segments=16)
    other, _ = run(tmp_path / "b", segments=16, seed=1)
    _, said = compared(tmp_path, one, other)
    assert said[0].startswith("Whether the frontiers agree can't be told: the held-out test has ")


def test_no_text_of_a_study_opens_a_tag(tmp_path: Path) -> None:
    one, _ = run(tmp_path / "<b>a", model=HOSTILE, revision=HOSTILE)
    other, _ = run(tmp_path / "b")
    page, _ = compared(tmp_path, one, other)
    assert "<img" not in page[page.index("</style>") : page.index("<script>")]
    assert page.count('<script type="application/json"') == 1 and page.count("alert(2)") >= 1
    assert "<b>a" not in page


def test_names_tell_runs_of_one_name_apart(tmp_path: Path) -> None:
    one, _ = run(tmp_path / "x" / "run")
    other, _ = run(tmp_path / "y" / "run")
    page, _ = compared(tmp_path, one, other)
    assert "x/run/run" in page and "y/run/run" in page


def test_bad_input_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one, _ = run(tmp_path / "a")
    other, _ = run(tmp_path / "b")
    for words, said in (
        ([str(one), str(one)], "are the same run; give two"),
        ([str(one), str(tmp_path)], "holds no ledger.jsonl"),
        ([str(one), "--to", "x.html"], "--to is for the page of two runs"),
        ([str(one), str(other), "--to", str(tmp_path / "no" / "x.html")], "is no folder; make it"),
        ([str(one), str(other), "--published", "x.csv"], "--published is for one run's report"),
    ):
        assert cli.main(["report", *words]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
    assert cli.main(["report", str(one), str(other)]) == 0
    assert (tmp_path / "a-and-b.html").is_file()
    assert "compared  a-and-b.html" in capsys.readouterr().out


def test_a_run_without_a_trial_that_ended_well_is_refused(tmp_path: Path) -> None:
    one, _ = run(tmp_path / "a")
    other, _ = run(tmp_path / "b", [], test_seed=None)
    with pytest.raises(StudyError, match=r"no trial of .* has ended well yet"):
        compare_runs(one, other)


def test_what_a_study_could_not_tell_from_a_smaller_point_it_still_offers() -> None:
    def point(size: int, quality: float, on_frontier: bool, tie: int | None) -> Any:
        return SimpleNamespace(bytes=size, quality=quality, on_frontier=on_frontier, tie=tie)

    tied, shown, beaten = point(600, 61.0, False, 2), point(400, 60.5, True, None), point(500, 62.0, False, None)
    results: Any = SimpleNamespace(points=[tied, beaten, shown])
    assert _offered(results, 600) is tied
    assert _offered(results, 500) is shown
    assert _offered(results, 300) is None
