"""Our search over a recorded table: what its profile measures and tells, what it takes, and what it never looks at."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from orchestrator.benches.search_replay.figures import seconds_to, trials_to
from orchestrator.benches.search_replay.ours import EIGHT_OVER_FOUR, Ours, Profile, profile_of, told_options
from orchestrator.benches.search_replay.replay import Searcher, replay
from orchestrator.benches.search_replay.table import Table, each_option_alone
from tests.support.search_tables import AXES, STAGES, TABLE, row


def option(axis: str, value: Any) -> tuple[int, int]:
    return list(AXES).index(axis), AXES[axis].index(value)


def profile(table: Table = TABLE, seed: int = 0, noise: float = 0.0) -> Profile:
    return profile_of(table, np.random.default_rng(seed), noise)


def test_8_bits_are_told_from_4_and_mixed_widths_from_whole_ones() -> None:
    assert told_options(AXES, each_option_alone(TABLE).values()) == {
        option("quantizer", "rtn8"): (option("quantizer", "gptq4"),),
        option("quantizer", "mixed3.5"): (option("quantizer", "gptq4"), option("quantizer", "gptq3")),
        option("embeddings", 8): (option("embeddings", 4),),
    }
    harm = profile().harm
    assert harm[option("quantizer", "gptq4")] == pytest.approx(0.03)
    assert harm[option("quantizer", "rtn8")] == pytest.approx(0.03 * EIGHT_OVER_FOUR)
    assert harm[option("embeddings", 8)] == pytest.approx(0.02 * EIGHT_OVER_FOUR)
    # Half-way in bytes: the geometric mean.
    assert harm[option("quantizer", "mixed3.5")] == pytest.approx((0.03 * 0.2) ** 0.5, rel=1e-3)
    alone = set(each_option_alone(TABLE).values()) - {option("embeddings", 4)}
    assert option("embeddings", 8) not in told_options(AXES, alone)


def test_a_profile_takes_its_artefacts_loading_and_divergences_and_no_told_option() -> None:
    """Two numbers of layers, three quantizers and one width of embeddings."""
    found = profile()
    assert found.took == pytest.approx(2 * 10 + 3 * 20 + 5 + 6 * (STAGES[0] + STAGES[1]))
    built: set[int] = set()
    assert Ours(TABLE, 0, actors=4).start_seconds(TABLE, built) == pytest.approx(found.took / 4)
    alone = [(1, "none", 16), (2, "none", 16), (0, "gptq4", 16), (0, "awq4", 16), (0, "gptq3", 16), (0, "none", 4)]
    assert built == found.built == {TABLE.prefixes[row(*options)][0] for options in alone}
    run = replay(TABLE, Ours(TABLE, 0), until=0.5)
    assert run.start_seconds == found.took
    assert run.ended[0].seconds == found.took + sum(STAGES)


@pytest.mark.parametrize("actors", [1, 3])
def test_ours_tries_each_row_at_most_once_and_never_the_baseline(actors: int) -> None:
    run = replay(TABLE, Ours(TABLE, 0, actors), actors=actors, until=2)
    rows = [ended.row for ended in run.ended]
    assert len(set(rows)) == len(rows) > 20
    assert rows.count(TABLE.baseline) == 1


def test_ours_finds_the_table_sooner_than_its_order() -> None:
    run = replay(TABLE, Ours(TABLE, 0))
    assert trials_to(0.95, run) <= 12
    assert seconds_to(0.95, run) < run.whole_seconds / 2


def test_a_seed_is_an_error_of_the_profile_and_nothing_else() -> None:
    def rows(seed: int, noise: float) -> list[int]:
        return [ended.row for ended in replay(TABLE, Ours(TABLE, seed, noise=noise), until=2, most=30).ended]

    assert rows(1, 0.0) == rows(2, 0.0)
    assert rows(1, 0.5) == rows(1, 0.5)
    assert len({tuple(rows(seed, 0.5)) for seed in range(4)}) > 1
    ratio = np.log([profile(seed=seed, noise=0.25).harm[option("layers", 1)] / 0.1 for seed in range(200)])
    assert ratio.std() == pytest.approx(0.25, rel=0.2)


def test_what_a_row_would_show_is_not_known_before_it_is_tried() -> None:
    """Rows of several options, and told options, may be anything: what is proposed first stays the same."""
    told = told_options(AXES, each_option_alone(TABLE).values())
    profiled = [at for at, one in each_option_alone(TABLE).items() if one not in told]
    unknown = [at for at in range(TABLE.rows) if at not in (*profiled, TABLE.baseline)]
    quality, kl, stages = TABLE.quality.copy(), TABLE.kl.copy(), TABLE.stage_seconds.copy()
    quality[unknown], kl[unknown], stages[unknown] = 1.0, 9.0, 99.0
    seconds = TABLE.artefact_seconds.copy()
    built = {artefact for at in profiled for artefact in TABLE.prefixes[at]}
    seconds[[artefact for artefact in range(len(seconds)) if artefact not in built]] = 999.0
    other = replace(TABLE, quality=quality, kl=kl, stage_seconds=stages, artefact_seconds=seconds)

    def first(table: Table) -> list[int | None]:
        searcher = Ours(table, 0)
        searcher.start_seconds(table, set())
        searcher.tell(table.baseline, float(table.quality[table.baseline]), table.kl[table.baseline])
        return [searcher.propose() for _ in range(12)]

    assert first(TABLE) == first(other)


def test_costs_are_what_was_seen_and_what_is_not_built() -> None:
    searcher = Ours(TABLE, 0)
    searcher.start_seconds(TABLE, set())
    searcher.tell(TABLE.baseline, 60.0, None)
    seconds = searcher._seconds()
    assert seconds[row(0, "gptq4", 16)] == sum(STAGES)
    # Told options take what their nearest took; only what a profile built is there.
    assert seconds[row(0, "rtn8", 16)] == sum(STAGES) + 20
    assert seconds[row(1, "gptq4", 8)] == sum(STAGES) + 20 + 5
    proposed = searcher.propose()
    assert proposed is not None
    assert searcher._seconds()[proposed] == sum(STAGES)


def test_an_option_that_can_not_be_alone_is_left_out() -> None:
    kl, quality = TABLE.kl.copy(), TABLE.quality.copy()
    kl[row(2, "none", 16)], quality[row(2, "none", 16)] = np.nan, np.nan
    table = replace(TABLE, kl=kl, quality=quality)
    assert option("layers", 2) not in profile(table).harm
    run = replay(table, Ours(table, 0), until=2)
    assert not any(table.options[ended.row, 0] == 2 for ended in run.ended)


def test_a_failed_trial_is_told_as_one() -> None:
    first = next(ended.row for ended in replay(TABLE, Ours(TABLE, 0), until=2, most=2).ended[1:])
    quality, kl = TABLE.quality.copy(), TABLE.kl.copy()
    quality[first], kl[first] = np.nan, np.nan
    run = replay(replace(TABLE, quality=quality, kl=kl), Ours(TABLE, 0), until=2, most=20)
    assert [ended.row for ended in run.ended].count(first) == 1


def test_ours_follows_the_protocol() -> None:
    searcher: Searcher = Ours(TABLE, 0)
    assert searcher.uses_divergence
