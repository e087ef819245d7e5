"""Our search over a recorded table: it is the product's, what its profile takes, and what it never looks at."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from orchestrator.benches.search_replay.figures import seconds_to, trials_to
from orchestrator.benches.search_replay.ours import Ours, Profile, profile_of, worst_kept
from orchestrator.benches.search_replay.replay import Searcher, replay
from orchestrator.benches.search_replay.table import Array, Table
from orchestrator.benches.search_replay.table_rows import TableRows
from orchestrator.search.guidance import ENOUGH, SAMPLED_EVERY, Guidance
from tests.support.search_tables import STAGES, TABLE, row

# Two numbers of layers, three quantizers and one width of embeddings; 8 bits and mixed widths are told.
ALONE = [(1, "none", 16), (2, "none", 16), (0, "gptq4", 16), (0, "awq4", 16), (0, "gptq3", 16), (0, "none", 4)]
PROBED = [row(*options) for options in ALONE]


def profile(table: Table = TABLE, seed: int = 0, noise: float = 0.0) -> Profile:
    return profile_of(table, PROBED, np.random.default_rng(seed), noise)


def begun(table: Table = TABLE, **how: Any) -> Ours:
    """A search whose profile and baseline are told."""
    searcher = Ours(table, 0, **how)
    searcher.start_seconds(table, set())
    searcher.tell(table.baseline, float(table.quality[table.baseline]), table.kl[table.baseline], sum(STAGES))
    return searcher


def test_a_profile_takes_its_artefacts_loading_and_divergences() -> None:
    found = profile()
    took = 2 * 10 + 3 * 20 + 5 + 6 * (STAGES[0] + STAGES[1])
    assert sum(found.seconds.values()) == pytest.approx(took)
    assert found.nats[row(0, "gptq4", 16)] == pytest.approx(0.03)
    built: set[int] = set()
    assert Ours(TABLE, 0, actors=4).start_seconds(TABLE, built) == pytest.approx(took / 4)
    assert built == found.built == {TABLE.prefixes[at][0] for at in PROBED}
    run = replay(TABLE, Ours(TABLE, 0), until=0.5)
    assert run.start_seconds == took
    assert run.ended[0].seconds == took + sum(STAGES)


def test_what_is_proposed_is_what_the_products_guidance_proposes() -> None:
    """The same tellings by hand, until the sampler's first turn."""
    rows = TableRows(TABLE)
    guidance = Guidance(rows, int(TABLE.bytes[0]), 0.5)
    for at, steps in zip(PROBED, guidance.probes, strict=True):
        assert rows.steps(at) == steps
        guidance.probed(steps, float(TABLE.kl[at].mean()), profile().seconds[at])
    ended = replay(TABLE, Ours(TABLE, 0), until=2).ended
    last = 0.0
    for number, (one, following) in enumerate(pairwise(ended), start=1):
        assert one.quality is not None
        kept, nats = one.quality / TABLE.quality[0], None if one.row == 0 else float(TABLE.kl[one.row].mean())
        took = sum(STAGES) if one.row == 0 else one.seconds - last
        last = one.seconds
        guidance.tell(rows.steps(one.row), int(TABLE.bytes[one.row]), kept, nats, took, kept >= 0.5)
        if guidance.leaves_to_others(number, waiting=False):
            assert number > ENOUGH and number % SAMPLED_EVERY == SAMPLED_EVERY - 1
            break
        found = guidance.propose([])
        assert found is not None and rows.row(found[1]) == following.row
    else:
        pytest.fail("the sampler never had its turn")


@pytest.mark.parametrize("actors", [1, 3])
def test_ours_tries_each_row_at_most_once_and_never_the_baseline(actors: int) -> None:
    run = replay(TABLE, Ours(TABLE, 0, actors), actors=actors, until=2)
    rows = [ended.row for ended in run.ended]
    # What the profile leaves, the sampler asks for.
    assert len(set(rows)) == len(rows) == TABLE.rows
    assert rows.count(TABLE.baseline) == 1


def test_ours_finds_the_table_sooner_than_its_order() -> None:
    run = replay(TABLE, Ours(TABLE, 0))
    assert trials_to(0.95, run) <= 12
    assert seconds_to(0.95, run) < run.whole_seconds / 2


def test_a_target_ends_the_search_and_asks_no_sampler() -> None:
    run = replay(TABLE, Ours(TABLE, 0, target=0.95), until=2)
    assert len(run.ended) < TABLE.rows / 2
    meets = [ended.row for ended in run.ended if ended.quality is not None and ended.quality >= 0.95 * TABLE.quality[0]]
    smallest = min(int(TABLE.bytes[at]) for at in range(TABLE.rows) if TABLE.quality[at] >= 0.95 * TABLE.quality[0])
    assert min(int(TABLE.bytes[at]) for at in meets) == smallest


def test_a_seed_is_an_error_of_the_profile_and_the_samplers() -> None:
    def rows(seed: int, noise: float, most: int = ENOUGH) -> list[int]:
        return [ended.row for ended in replay(TABLE, Ours(TABLE, seed, noise=noise), until=2, most=most).ended]

    assert rows(1, 0.0) == rows(2, 0.0)
    assert rows(1, 0.5, 30) == rows(1, 0.5, 30)
    assert len({tuple(rows(seed, 0.5)) for seed in range(4)}) > 1
    found = [profile(seed=seed, noise=0.25).nats[row(1, "none", 16)] for seed in range(200)]
    ratio = np.log([nats / 0.1 for nats in found if nats is not None])
    assert ratio.std() == pytest.approx(0.25, rel=0.2)


def test_what_a_row_would_show_is_not_known_before_it_is_tried() -> None:
    """Rows of several options, and told options, may be anything: what is proposed first stays the same."""
    unknown = [at for at in range(TABLE.rows) if at not in (*PROBED, TABLE.baseline)]
    quality, kl, stages = TABLE.quality.copy(), TABLE.kl.copy(), TABLE.stage_seconds.copy()
    quality[unknown], kl[unknown], stages[unknown] = 1.0, 9.0, 99.0
    seconds = TABLE.artefact_seconds.copy()
    built = {artefact for at in PROBED for artefact in TABLE.prefixes[at]}
    seconds[[artefact for artefact in range(len(seconds)) if artefact not in built]] = 999.0
    other = replace(TABLE, quality=quality, kl=kl, stage_seconds=stages, artefact_seconds=seconds)

    def first(table: Table) -> list[int | None]:
        searcher = begun(table)
        return [searcher.propose() for _ in range(12)]

    assert first(TABLE) == first(other)


def test_an_option_that_can_not_be_alone_is_left_to_the_sampler() -> None:
    kl, quality = TABLE.kl.copy(), TABLE.quality.copy()
    kl[row(2, "none", 16)], quality[row(2, "none", 16)] = np.nan, np.nan
    table = replace(TABLE, kl=kl, quality=quality)
    assert profile(table).nats[row(2, "none", 16)] is None
    run = replay(table, Ours(table, 0), until=2, most=ENOUGH)
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
    kl: Array | None = TABLE.kl[TABLE.baseline]
    searcher.tell(TABLE.baseline, float(TABLE.quality[TABLE.baseline]), kl, sum(STAGES))
    assert searcher.propose() is not None


def test_the_worst_pair_may_have_to_meet_the_target() -> None:
    qualities = TABLE.pair_quality.copy()
    # The second pair loses twice as much.
    qualities[:, 1] = 60 - 2 * (60 - qualities[:, 1])
    table = replace(TABLE, pair_quality=qualities)
    assert worst_kept(table, row(0, "gptq3", 16)) == pytest.approx(qualities[row(0, "gptq3", 16), 1] / 60)
    run = replay(table, Ours(table, 0, target=0.95, of_worst=True), until=2)
    meets = [at for at in range(table.rows) if qualities[at].min() >= 0.95 * 60]
    tried = [ended.row for ended in run.ended if ended.row in meets]
    assert min(table.bytes[tried]) == min(table.bytes[meets])
    plain = replay(TABLE, Ours(TABLE, 0, target=0.95), until=2)
    assert min(table.bytes[tried]) > min(
        TABLE.bytes[ended.row] for ended in plain.ended if TABLE.quality[ended.row] > 57
    )


def test_a_search_without_a_profile_knows_bytes_alone_and_spends_nothing_before() -> None:
    other = replace(TABLE, kl=TABLE.kl * 3.0)
    first = []
    for table in (TABLE, other):
        searcher = Ours(table, 0, blind=True)
        assert searcher.start_seconds(table, set()) == 0.0
        searcher.tell(table.baseline, float(table.quality[0]), table.kl[0], sum(STAGES))
        first.append([searcher.propose() for _ in range(4)])
    assert first[0] == first[1]
    assert seconds_to(0.95, replay(TABLE, Ours(TABLE, 0, blind=True))) > 0
