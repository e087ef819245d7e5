"""Replayed searches: the table's file, the simulated clock, the hypervolume, the searchers and their figures."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orchestrator.benches.search_replay.figures import (
    FIRST_BATCH,
    Ended,
    Run,
    Volume,
    figures,
    hypervolume,
    hypervolume_at,
    seconds_to,
    trials_to,
    useless_share,
)
from orchestrator.benches.search_replay.others import OTHERS, Grid, Make, nsga2, tpe, why_no_gp
from orchestrator.benches.search_replay.replay import Clock, Searcher, replay, whole_table_seconds
from orchestrator.benches.search_replay.table import Array, Table, load, save
from search_spaces.errors import StudyError

LAYERS, BITS = (0, 2, 4), (16, 8, 4, 2)
QUALITY = {16: 0.0, 8: 0.5, 4: 4.0, 2: 40.0}
IMPOSSIBLE = (4, 2)
FAILED = (2, 2)


def small_table() -> Table:
    """Layers, then bits: 12 products, one of them impossible and one that fails. A removal takes 10 seconds, rounding
    20, a trial 1 + 2 + 3 + 4."""
    products = [each for each in itertools.product(LAYERS, BITS) if each != IMPOSSIBLE]
    artefacts: dict[tuple[int, ...], int] = {}
    prefixes = []
    for layers, bits in products:
        way = ([(layers,)] if layers else []) + ([(layers, bits)] if bits < 16 else [])
        prefixes.append(tuple(artefacts.setdefault(each, len(artefacts)) for each in way))
    quality = np.asarray([60.0 - 3 * layers - QUALITY[bits] for layers, bits in products])
    quality[products.index(FAILED)] = np.nan
    return Table(
        axes={"layers": LAYERS, "bits": BITS},
        options=np.asarray([(LAYERS.index(layers), BITS.index(bits)) for layers, bits in products], np.int16),
        bytes=np.asarray([(10 - layers) * bits for layers, bits in products], np.int64),
        quality=quality,
        kl=np.stack([60.0 - quality, np.full(len(products), np.nan)], axis=1),
        pair_quality=np.stack([quality - 1, quality + 1], axis=1),
        pairs=("en-de", "de-en"),
        stage_seconds=np.tile([1.0, 2.0, 3.0, 4.0], (len(products), 1)),
        prefixes=tuple(prefixes),
        artefact_seconds=np.asarray([10.0 if len(each) == 1 else 20.0 for each in artefacts]),
        baseline=0,
        about={"model": "small"},
    )


TABLE = small_table()


def row(layers: int, bits: int) -> int:
    return TABLE.options.tolist().index([LAYERS.index(layers), BITS.index(bits)])


class InOrder:
    """Proposes the given rows; keeps what it is told."""

    def __init__(self, rows: Sequence[int], uses_divergence: bool = False, start: float = 0.0) -> None:
        self.uses_divergence = uses_divergence
        self.told: list[tuple[int, float | None, Array | None]] = []
        self.took: list[float] = []
        self._rows = deque(rows)
        self._start = start

    def start_seconds(self, table: Table, built: set[int]) -> float:
        if self._start:
            built.update(table.prefixes[row(0, 4)])
        return self._start

    def propose(self) -> int | None:
        return self._rows.popleft() if self._rows else None

    def tell(self, row: int, quality: float | None, kl: Array | None, seconds: float) -> None:
        self.told.append((row, quality, kl))
        self.took.append(seconds)


def ends(run: Run) -> list[tuple[float, int]]:
    return [(ended.seconds, ended.row) for ended in run.ended]


def test_a_table_comes_back_from_its_file(tmp_path: Path) -> None:
    save(TABLE, tmp_path / "table.npz")
    again = load(tmp_path / "table.npz")
    for name in ("axes", "pairs", "prefixes", "baseline", "about"):
        assert getattr(again, name) == getattr(TABLE, name)
    for name in ("options", "bytes", "quality", "kl", "pair_quality", "stage_seconds", "artefact_seconds"):
        kept, held = getattr(again, name), getattr(TABLE, name)
        assert kept.dtype == held.dtype
        np.testing.assert_allclose(kept, held, rtol=1e-6)


def test_a_missing_table_says_where_tables_are(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="use a checkout"):
        load(tmp_path / "none.npz")


def test_what_is_shared_is_built_once() -> None:
    run = replay(TABLE, InOrder([row(2, 8), row(2, 4), row(0, 8)]), until=2)
    assert ends(run) == [(8, 0), (46, row(2, 8)), (74, row(2, 4)), (102, row(0, 8))]


def test_two_actors_overlap_and_wait_for_what_the_other_builds() -> None:
    searcher = InOrder([row(2, 16), row(2, 8), row(4, 16)])
    run = replay(TABLE, searcher, actors=2, until=2)
    assert searcher.took == [8, 18, 18, 38]
    assert ends(run) == [(8, 0), (26, row(2, 16)), (44, row(4, 16)), (46, row(2, 8))]


def test_what_the_start_builds_is_charged_once_and_divergence_where_it_is_used() -> None:
    searcher = InOrder([row(0, 4), row(2, 2)], uses_divergence=True, start=50)
    run = replay(TABLE, searcher, until=2)
    assert run.start_seconds == 50
    assert ends(run) == [(60, 0), (70, row(0, 4)), (110, row(2, 2))]
    (_, whole, _), (_, quality, kl), failed = searcher.told
    assert (whole, quality) == (60.0, 56.0)
    assert kl is not None and kl[0] == 4.0
    assert failed == (row(2, 2), None, None)


def test_outcomes_are_told_in_the_order_of_ending_and_before_the_next_question() -> None:
    searcher = InOrder([row(2, 8), row(0, 8), row(0, 4)])
    run = replay(TABLE, searcher, actors=2, until=2)
    assert [told for told, _, _ in searcher.told] == [0, row(0, 8), row(2, 8), row(0, 4)]
    assert [ended.seconds for ended in run.ended] == [8, 36, 46, 64]


def test_a_replay_ends_with_enough_found_or_tried() -> None:
    rows = range(1, TABLE.rows)
    assert len(replay(TABLE, InOrder(rows), most=5).ended) == 5
    run = replay(TABLE, InOrder(rows), until=0.5)
    assert run.ended[-1].share >= 0.5 > run.ended[-2].share
    assert run.whole_seconds == whole_table_seconds(TABLE, 1, False) == 8 * TABLE.rows + TABLE.artefact_seconds.sum()
    with pytest.raises(ValueError, match="proposed again"):
        replay(TABLE, InOrder([row(0, 8), row(0, 8)]), until=2)


def test_the_clock_counts_divergence_only_where_it_is_asked_for() -> None:
    assert Clock(TABLE, divergence=True).end(0, 5.0) - Clock(TABLE, divergence=False).end(0, 5.0) == 2.0


def test_hypervolume_of_three_points_by_hand() -> None:
    """Sizes 1/4, 1/2 and 1/8 of the baseline's, the last one below the floor."""
    table = replace(
        TABLE,
        bytes=np.asarray([80, 20, 40, 10]),
        quality=np.asarray([60.0, 40.0, 50.0, 29.0]),
        options=TABLE.options[:4],
    )
    by_hand = (40 - 30) * math.log(4) + (50 - 40) * math.log(2)
    assert hypervolume(table, [1, 2, 3]) == pytest.approx(by_hand)
    assert hypervolume(table, [0]) == 0
    assert hypervolume(table, [2, 3], floor=0.25) == pytest.approx(14 * math.log(8) + 21 * math.log(2))
    volume = Volume(table)
    assert volume.add(3) == 0
    assert volume.add(2) == pytest.approx(20 * math.log(2) / by_hand)
    assert volume.add(1) == pytest.approx(1)


def test_hypervolume_leaves_failures_out() -> None:
    assert hypervolume(TABLE, [row(*FAILED)]) == 0
    assert Volume(TABLE).add(row(*FAILED)) == 0


@pytest.mark.parametrize("actors", [1, 3])
@pytest.mark.parametrize("name", OTHERS)
def test_every_searcher_tries_each_row_once_and_the_same_again(name: str, actors: int) -> None:
    if name == "gp" and (why := why_no_gp()) is not None:
        pytest.skip(why)

    def run(seed: int) -> Run:
        anchors = [row(0, 4), TABLE.baseline, row(0, 4), row(2, 4)]
        return replay(TABLE, OTHERS[name](TABLE, seed, anchors), actors=actors, until=2)

    one = run(1)
    assert sorted(ended.row for ended in one.ended) == list(range(TABLE.rows))
    assert ends(one) == ends(run(1))
    if name in ("random", "tpe_cold"):
        assert ends(one) != ends(run(2))


@pytest.mark.parametrize("make", [tpe, nsga2])
def test_anchors_come_first(make: Make) -> None:
    anchors = [row(2, 4), row(0, 8), row(4, 8)]
    run = replay(TABLE, make(TABLE, 0, anchors), until=2, most=4)
    assert [ended.row for ended in run.ended] == [0, *anchors]


def test_the_grid_goes_axis_by_axis_and_then_combines_what_cost_little() -> None:
    """A share of 2 % keeps 8 bits, 8 % keeps 4 bits, 16 % two layers fewer, and 32 % four; 2 bits lose more."""
    run = replay(TABLE, Grid(TABLE), until=2)
    alone = [row(2, 16), row(4, 16), row(0, 8), row(0, 4), row(0, 2)]
    combined = [row(2, 4), row(2, 8), row(4, 4), row(4, 8)]
    assert [ended.row for ended in run.ended] == [0, *alone, *combined, row(2, 2)]


def ended(seconds: float, quality: float | None, share: float = 0.0) -> Ended:
    return Ended(seconds, 0, quality, share)


def test_useless_trials_are_failures_and_those_below_the_floor_after_the_first_batch() -> None:
    first = [ended(0, 60.0), *[ended(1, 10.0)] * FIRST_BATCH]
    later = [ended(2, None), ended(2, 29.9), ended(2, 30.0), ended(2, 61.0)]
    assert useless_share(Run((*first, *later), 0, 0, 0)) == 0.5
    assert useless_share(Run(tuple(first), 0, 0, 0)) == 0


def test_figures_over_seeds() -> None:
    def run(*seconds: float, last: float = 1.0) -> Run:
        shares = [0.0] * (len(seconds) - 1) + [last]
        return Run(tuple(ended(each, 60.0, share) for each, share in zip(seconds, shares, strict=True)), 0, 1000, 100)

    quick, slow, never = run(1, 10), run(1, 2, 3, 40), run(1, 2, last=0.9)
    assert (seconds_to(0.95, slow), trials_to(0.95, slow)) == (40, 4)
    assert (seconds_to(0.95, never), trials_to(0.95, never)) == (1000, 100)
    assert [hypervolume_at(trials, never) for trials in (1, 2, 9)] == [0.0, 0.9, 0.9]
    found = figures({"ours": [quick, quick, slow], "random": [slow, never, never]})
    assert found == {
        "seconds_ours": 10,
        "trials_ours": 2,
        "reached_ours": 1,
        "worst_seed_ours": 4,
        "useless_share_ours": 0,
        "seconds_random": 1000,
        "trials_random": 100,
        "reached_random": pytest.approx(1 / 3),
        "worst_seed_random": 1,
        "useless_share_random": 0,
        "ratio_random": 0.01,
    }


def test_the_tests_own_searcher_follows_the_protocol() -> None:
    searcher: Searcher = InOrder([])
    assert replay(TABLE, searcher).ended[0].row == TABLE.baseline
