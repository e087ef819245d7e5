"""A guide in a made space: a ladder first, no row twice, the same rows after the same tellings, soon the frontier."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from orchestrator.surrogate.acquisition import Array, front_of, ladder
from orchestrator.surrogate.guide import LADDER, LADDER_MARGIN, MOST_USELESS, Guide
from orchestrator.surrogate.quality_map import NOISE, VOCABULARY_FACTOR
from search_spaces.spaces.axes import VOCABULARY

AXES = (VOCABULARY, "layers", "weights", "embeddings")
# What each option does alone in nats, and the share of bytes that it saves.
HARM = ([0.0, 0.02, 0.08, 0.3], [0.0, 0.05, 0.15, 0.4, 1.0], [0.0, 0.001, 0.02, 0.06, 0.3, 1.5], [0.0, 0.01])
SAVED = ([0.0, 0.1, 0.18, 0.25], [0.0, 0.08, 0.16, 0.24, 0.32], [0.0, 0.5, 0.72, 0.78, 0.83, 0.87], [0.0, 0.05])
OPTIONS = np.array(list(itertools.product(*(range(len(harm)) for harm in HARM))))
ROWS = len(OPTIONS)
FLOOR = 0.5
LEAST = FLOOR + LADDER_MARGIN * (1.0 - FLOOR)


@dataclass(frozen=True)
class Space:
    """240 candidates whose damages add up only roughly, and what measuring each would find."""

    log_bytes: Array
    divergence: Array
    kept: Array

    @property
    def most(self) -> float:
        return float(self.log_bytes[0])

    def guide(self) -> Guide:
        return Guide(AXES, OPTIONS, self.log_bytes, tuple(np.array(harm) for harm in HARM), self.most, FLOOR)

    def share(self, rows: Sequence[int]) -> float:
        """Of the hypervolume of the whole space, what these rows have."""
        return self._area(list(rows)) / self._area(list(range(ROWS)))

    def tell(self, guide: Guide, row: int) -> None:
        guide.tell(row, float(self.kept[row]), float(self.divergence[row]))

    def _area(self, rows: list[int]) -> float:
        front = front_of(self.log_bytes[rows], self.kept[rows], FLOOR, self.most)
        gained = np.diff(np.concatenate([[FLOOR], front.kept]))
        return float(((self.most - front.log_bytes) * gained).sum())


def made(seed: int) -> Space:
    """Layers and weights harm more together than alone, and the vocabulary costs more a nat than is told."""
    random = np.random.default_rng(seed)
    parts = np.stack([np.array(harm)[OPTIONS[:, axis]] for axis, harm in enumerate(HARM)], axis=1)
    total = np.maximum(parts.sum(axis=1), 1e-9)
    shares = parts / total[:, None]
    together = 0.2 + 0.6 * np.sqrt(shares[:, 1] * shares[:, 2]) + random.normal(0.0, 0.08, ROWS)
    divergence = total * np.exp(together)
    inner = -0.6 + shares @ [1.0, 0.1, -0.3, 0.0] + np.log(divergence)
    kept = np.exp(-np.exp(np.minimum(1.3 * inner, 3.5))) + random.normal(0.0, 0.008, ROWS)
    saved = [np.log1p(-np.array(share)[OPTIONS[:, axis]]) for axis, share in enumerate(SAVED)]
    kept[0], divergence[0] = 1.0, 0.0
    return Space(16.0 + sum(saved), divergence, kept)


SPACE = made(0)
BASELINE = np.arange(ROWS) == 0
EVEN = np.ones(ROWS)


def next_row(guide: Guide, pending: set[int], closed: Array, seconds: Array) -> int | None:
    found = guide.propose(pending, closed, seconds)
    return None if found is None else found[0]


def searched(guide: Guide, space: Space, trials: int, closed: Array = BASELINE, seconds: Array = EVEN) -> list[int]:
    """The rows of so many trials, one after the other."""
    rows: list[int] = []
    while len(rows) < trials and (row := next_row(guide, set(), closed, seconds)) is not None:
        rows.append(row)
        space.tell(guide, row)
    return rows


@pytest.mark.parametrize("seed", range(5))
def test_the_frontier_is_found_within_25_trials(seed: int) -> None:
    space = made(seed)
    rows = searched(space.guide(), space, 25)
    assert len(set(rows)) == 25
    assert space.share(rows) > 0.98
    assert space.share(rows[:12]) > 0.95
    # Rows drawn at random are far from it.
    random = np.random.default_rng(seed)
    assert np.mean([space.share(random.choice(ROWS, 25, replace=False).tolist()) for _ in range(20)]) < 0.93


def test_a_ladder_comes_first_the_largest_step_first() -> None:
    guide = SPACE.guide()
    kept = guide.expect(set()).kept
    steps = [row for row in ladder(SPACE.log_bytes, kept, LADDER, LEAST, NOISE) if row != 0]
    rows = searched(guide, SPACE, 10)
    assert 3 <= len(steps) <= LADDER
    assert rows[: len(steps)] == steps
    assert (np.diff(SPACE.log_bytes[steps]) < 0.0).all()
    assert (kept[steps] >= LEAST).all()
    assert (np.diff(kept[steps]) <= -NOISE).all()
    # What comes then was not settled beforehand, but is worth the most by what is known.
    other = SPACE.guide()
    for row in steps:
        other.propose(set(), BASELINE, EVEN)
        SPACE.tell(other, row)
    gain = other.expect(set()).gain
    gain[[0, *steps]] = 0.0
    assert rows[len(steps)] == int(np.argmax(gain))


def test_no_row_comes_twice_none_that_is_closed_and_none_without_end() -> None:
    closed = BASELINE | (OPTIONS[:, 2] == 2)
    rows = searched(SPACE.guide(), SPACE, 500, closed)
    assert len(set(rows)) == len(rows) < ROWS
    assert not closed[rows].any()
    assert next_row(SPACE.guide(), set(), np.ones(ROWS, dtype=bool), EVEN) is None


def test_rows_under_way_are_not_proposed_and_taken_as_they_are_expected() -> None:
    guide = SPACE.guide()
    pending: set[int] = set()
    for _ in range(40):
        row = next_row(guide, pending, BASELINE, EVEN)
        assert row is not None and row not in pending
        pending.add(row)
    found = guide.expect(pending)
    rows = sorted(pending)
    # A row under way is worth nothing any more where all goes as expected: what is left is doubt.
    assert found.gain[rows].max() < guide.expect(set()).gain[rows].max() / 2


def test_a_proposal_says_what_was_expected_when_it_was_chosen() -> None:
    guide = SPACE.guide()
    for row in searched(SPACE.guide(), SPACE, 9):
        found = guide.propose({row + 1}, BASELINE, EVEN)
        assert found is not None
        again = guide.expect({row + 1})
        for name in ("kept", "odds", "gain"):
            assert getattr(found[1], name).tolist() == getattr(again, name).tolist()
        SPACE.tell(guide, row)


def test_guides_that_are_told_the_same_propose_the_same() -> None:
    first, second = SPACE.guide(), SPACE.guide()
    for row in searched(SPACE.guide(), SPACE, 12):
        SPACE.tell(first, row)
        SPACE.tell(second, row)
    assert searched(first, SPACE, 30) == searched(second, SPACE, 30)


@pytest.mark.parametrize("told", [2, 4, 9, 15])
def test_a_guide_that_is_told_a_search_so_far_goes_on_as_that_search_did(told: int) -> None:
    whole = searched(SPACE.guide(), SPACE, 25)
    guide = SPACE.guide()
    for row in whole[:told]:
        SPACE.tell(guide, row)
    assert searched(guide, SPACE, 25 - told) == whole[told:]


def test_telling_twice_is_telling_once() -> None:
    first, second = SPACE.guide(), SPACE.guide()
    for row in (50, 120, 7):
        SPACE.tell(first, row)
        SPACE.tell(second, row)
        SPACE.tell(second, row)
    assert searched(first, SPACE, 10) == searched(second, SPACE, 10)


def test_rows_that_are_likely_below_the_floor_are_left_out_whatever_they_would_gain() -> None:
    guide, rows = SPACE.guide(), [0]
    left_out = 0
    while (row := next_row(guide, set(), BASELINE, EVEN)) is not None:
        found = guide.expect(set())
        if len(rows) > LADDER:
            useless = found.belief.odds_below(FLOOR) > MOST_USELESS
            assert not useless[row]
            left_out += int(found.gain[useless].max() > found.gain[row])
        rows.append(row)
        SPACE.tell(guide, row)
    assert left_out > 10
    # The trials ended though rows were open: nearly all of these are below the floor.
    left = np.setdiff1d(np.arange(ROWS), rows)
    assert len(left) > 20
    assert (SPACE.kept[left] < FLOOR).mean() > 0.85
    assert (SPACE.kept[rows[:40]] < FLOOR).sum() <= 4


def test_a_row_that_takes_longer_waits() -> None:
    told = searched(SPACE.guide(), SPACE, 8)

    def after(seconds: Array) -> int:
        guide = SPACE.guide()
        for row in told:
            next_row(guide, set(), BASELINE, seconds)
            SPACE.tell(guide, row)
        found = next_row(guide, set(), BASELINE, seconds)
        assert found is not None
        return found

    quick = after(EVEN)
    slow = EVEN.copy()
    slow[quick] = 10_000.0
    assert after(slow) != quick
    assert after(5.0 * EVEN) == quick


def test_what_failed_keeps_nothing_is_not_learned_from_and_never_comes_again() -> None:
    guide = SPACE.guide()
    row = next_row(guide, set(), BASELINE, EVEN)
    assert row is not None
    before = guide.expect(set()).kept
    guide.tell(row, None, None)
    assert guide.known == {row: 0.0} and guide.measured == {}
    assert guide.expect(set()).kept.tolist() == before.tolist()
    assert row not in searched(guide, SPACE, 60)


def test_a_quality_without_a_divergence_stands_on_the_frontier() -> None:
    guide = SPACE.guide()
    row = next_row(guide, set(), BASELINE, EVEN)
    assert row is not None
    before = guide.expect(set())
    guide.tell(row, 0.99, None)
    after = guide.expect(set())
    assert after.kept.tolist() == before.kept.tolist()
    larger = SPACE.log_bytes >= SPACE.log_bytes[row]
    assert (after.gain[larger] <= before.gain[larger]).all()
    assert after.gain.sum() < 0.8 * before.gain.sum()


def test_what_may_not_stand_is_learned_from_and_dominates_nothing() -> None:
    guide, other = SPACE.guide(), SPACE.guide()
    row = next_row(guide, set(), BASELINE, EVEN)
    assert row is not None
    divergence = float(SPACE.divergence[row])
    guide.tell(row, 0.9, divergence, stands=False)
    other.tell(row, 0.9, divergence)
    found, standing = guide.expect(set()), other.expect(set())
    assert found.kept.tolist() == standing.kept.tolist()
    assert (found.odds < standing.odds).all()
    # Given that it stands, what comes gains as if there were no point yet.
    empty, taken = found.gain / found.odds, standing.gain / standing.odds
    assert (empty >= taken - 1e-12).all()
    assert empty.sum() > 1.2 * taken.sum()
    assert row not in searched(guide, SPACE, 60)


def test_a_point_that_is_no_row_takes_what_it_dominates_from_the_gain() -> None:
    guide = SPACE.guide()
    before = guide.expect(set())
    guide.tell_other(15.0, 0.9)
    after = guide.expect(set())
    assert after.kept.tolist() == before.kept.tolist()
    larger = SPACE.log_bytes >= 15.0
    assert (after.gain[larger] < before.gain[larger])[before.gain[larger] > 1e-6].all()
    assert (after.gain[~larger] <= before.gain[~larger]).all()
    assert guide.known == {}


def test_the_profile_alone_says_the_sum_of_the_parts() -> None:
    guide = SPACE.guide()
    rows = [0, 17, 200]
    expected = [sum(HARM[axis][option] for axis, option in enumerate(OPTIONS[row])) for row in rows]
    assert guide.prior(rows).tolist() == pytest.approx(expected)
    searched(guide, SPACE, 5)
    assert guide.prior(rows).tolist() == pytest.approx(expected)


def test_before_anything_is_told_a_trimmed_vocabulary_costs_more_a_nat() -> None:
    guide = Guide(
        (VOCABULARY, "weights"), np.array([[0, 0], [1, 0], [0, 1]]), np.array([3.0, 2.0, 2.0]),
        (np.array([0.0, 0.5]), np.array([0.0, 0.5])), most=3.0,
    )  # fmt: skip
    kept = guide.expect(set()).kept
    assert kept[0] == pytest.approx(1.0, abs=1e-4)
    assert kept[1] < kept[2] < 1.0
    assert VOCABULARY_FACTOR > 0.0


def test_what_is_told_makes_surer() -> None:
    guide = SPACE.guide()
    before = guide.expect(set())
    rows = searched(guide, SPACE, 20)
    after = guide.expect(set())
    others = np.setdiff1d(np.arange(ROWS), [0, *rows])
    spans = [found.belief.high - found.belief.low for found in (before, after)]
    assert np.median(spans[1][others] / spans[0][others]) < 0.8
    wrong = np.abs(np.stack([before.kept, after.kept]) - SPACE.kept)[:, others].mean(axis=1)
    assert wrong[1] < 0.7 * wrong[0]
