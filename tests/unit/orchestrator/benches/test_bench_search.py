"""`mtpareto bench search`: its figures on small tables, its marks, its recorded tables, and its command line."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.benches import search as bench
from orchestrator.benches.figures import SEARCH
from orchestrator.benches.race_replay import RUNGS, read_recorded
from orchestrator.benches.race_replay import replay as race_replay
from orchestrator.benches.racing import saved_ratio
from orchestrator.benches.search_replay.figures import FLOOR, Ended, Run
from orchestrator.benches.search_replay.others import OTHERS
from orchestrator.benches.search_replay.recording import DESIGNS, Design
from orchestrator.benches.search_replay.table import load, save
from orchestrator.benches.table import explain_figure
from orchestrator.cli import main, parser
from search_spaces.errors import StudyError
from tests.support.search_tables import AXES, TABLE, row

ANCHORS = ({"quantizer": "gptq4"}, {"layers": 1, "quantizer": "gptq4", "embeddings": 8})
QUICK = {name: OTHERS[name] for name in ("random", "grid", "warm_tpe")}


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    designs = {name: Design(AXES, "greedy", ANCHORS, 2, tmp_path / f"{name}.npz") for name in ("shipped", "real")}
    for design in designs.values():
        save(TABLE, design.recorded)
    monkeypatch.setattr(bench, "DESIGNS", designs)
    monkeypatch.setattr(bench, "OTHERS", QUICK)
    return tmp_path / "results" / "bench-search.json"


def test_figures_are_of_both_tables_and_of_one_and_eight_at_a_time(small: Path) -> None:
    lines: list[str] = []
    record = bench.bench_search(small, 2, "the command", lines.append)
    found = record["figures"]
    for suffix in ("", "_8", "_real", "_real_8"):
        for name in ("ratio_random", "ratio_grid", "ratio_warm_tpe", "seconds_ours", "trials_ours", "seconds_grid"):
            assert found[f"{name}{suffix}"] > 0
        for name in ("ours_worst_seed", "useless_share", "profile_seconds", "profile_share"):
            assert f"{name}{suffix}" in found
    assert found["ratio_random"] == pytest.approx(found["seconds_ours"] / found["seconds_random"], abs=1e-3)
    assert found["profile_share"] == pytest.approx(found["profile_seconds"] / found["seconds_ours"], abs=1e-3)
    assert found["profile_seconds_8"] == pytest.approx(found["profile_seconds"] / 8, abs=1e-3)
    assert found["seconds_ours"] == found["seconds_ours_real"]
    assert 1 < found["target_evaluations_frontier"] < TABLE.rows
    assert 1 < found["target_evaluations"] < TABLE.rows
    assert found["target_bytes_over"] >= 0
    # Both pairs of this table are alike.
    for name in ("target_evaluations", "target_bytes_over", "target_bytes_over_most", "target_within"):
        assert found[f"{name}_worst"] == found[name]
    assert found["saved_by_profile"] == pytest.approx(1 - found["seconds_ours"] / found["seconds_blind"], abs=1e-3)
    assert 0 < found["saved_by_prefixes_ours"] < 1 and 0 <= found["saved_by_racing_at_most"] < 1
    assert all(explain_figure(name, SEARCH)[0] for name in found)
    assert len(lines) == 2 * 2 * (1 + len(QUICK))
    assert "2 seeds" in lines[0] and "grid" in lines[2] and "1 seeds" in lines[2]
    assert json.loads(small.read_text(encoding="utf-8")) == record
    page = small.with_suffix(".md").read_text(encoding="utf-8")
    assert "| ratio_warm_tpe |" in page and "table real | 54 candidates of a model, layers by greedy" in page


def test_shared_prefixes_save_what_would_be_built_again() -> None:
    """54 rows: layers (10 s) stand before 36 rows, quantizers (20 s) on 45, embeddings (5 s) on 36."""
    trials = 54 * 10.0
    again = 36 * 10 + 45 * 20 + 36 * 5
    once = 2 * 10 + 3 * 5 * 20 + 18 * 2 * 5
    found = bench.whole(TABLE, 1)
    assert 0 <= found["useless_share_whole"] < 0.2
    assert found["saved_by_prefixes"] == pytest.approx(1 - (trials + once) / (trials + again))


def test_what_races_save_is_of_the_recorded_search() -> None:
    recorded = read_recorded()
    saved = bench.saved_by_racing(recorded)
    races = race_replay(recorded, RUNGS, 0, FLOOR)
    assert saved == pytest.approx(1 - 1 / saved_ratio(recorded, races, {trial.number for trial in recorded.trials}))
    assert 0.5 < saved < 0.7


def test_a_target_is_met_by_nearly_the_fewest_bytes() -> None:
    best = min(
        (at for at in range(TABLE.rows) if TABLE.quality[at] >= 0.95 * TABLE.quality[0]),
        key=lambda at: int(TABLE.bytes[at]),
    )
    sizes = TABLE.bytes.copy()
    sizes[row(0, "rtn8", 16)] = int(sizes[best] * 1.02)
    table = replace(TABLE, bytes=sizes)

    def trials(*rows: int) -> int:
        ended = tuple(Ended(0.0, at, float(TABLE.quality[at]), 0.0) for at in (0, *rows))
        return bench.trials_to_target(table, Run(ended, 0.0, 0.0, table.rows), 0.95)

    assert trials(row(2, "gptq3", 4), best) == 3
    assert trials(row(0, "rtn8", 16), best) == 2
    assert trials(row(0, "awq4", 16)) == table.rows


def test_an_anchor_that_is_no_row_is_refused() -> None:
    assert bench.row_of(TABLE, {"layers": 2, "embeddings": 4}) == row(2, "none", 4)
    with pytest.raises(StudyError, match="the table holds no"):
        bench.row_of(TABLE, {"layers": 3})


@pytest.mark.parametrize("name", DESIGNS)
def test_recorded_tables_are_of_their_designs(name: str) -> None:
    design = DESIGNS[name]
    table = load(design.recorded)
    assert dict(table.axes) == dict(design.axes)
    assert table.about["layers_by"] == design.layers_by
    assert len({bench.row_of(table, anchor) for anchor in design.anchors}) == len(design.anchors)
    assert design.recorded.stat().st_size <= 200_000


def test_the_command_line(small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "search"]
    options = parser(words).parse_args(words)
    assert (options.json, options.seeds) == (Path("docs/results/bench-search.json"), 50)
    words = ["bench", "search", "--json", str(small), "--seeds", "1"]
    monkeypatch.setattr(sys, "argv", ["mtpareto", *words])
    assert main(words) == 0
    said = capsys.readouterr()
    assert "ratio_warm_tpe" in said.out and "shipped, 8 at a time, ours" in said.err
    assert json.loads(small.read_text(encoding="utf-8"))["command"] == f"mtpareto bench search --json {small} --seeds 1"
    assert main(["bench", "search", "--json", str(small), "--seeds", "0"]) == 2
    words = ["bench", "study", "--data", "data/demo.jsonl", "--trials", "3", "--json", "x.json"]
    options = parser(words).parse_args(words)
    assert (options.run.__name__, options.trials) == ("_bench_study", 3)
