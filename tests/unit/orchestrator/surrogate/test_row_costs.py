"""What options cost as they were timed: in proportion where something is removed, by width where bits are fewer, the
dearest where nobody could tell."""

from __future__ import annotations

import math

import numpy as np
import pytest

from orchestrator.surrogate.row_costs import MemoryCosts, TimedCosts
from orchestrator.surrogate.rows import Steps
from search_spaces.methods.pruners import RemoveChannels, RemoveLayers
from search_spaces.methods.quantizers import GPTQ, RTN
from search_spaces.methods.trainers import Finetune
from search_spaces.spaces.enumeration import Rows, enumerate_rows
from search_spaces.spaces.offers import offer_for
from search_spaces.spaces.registry import SPACES
from workers.checkpoints.base_model import open_base


@pytest.fixture(scope="module")
def rows() -> Rows:
    checkpoint = open_base("models/captions", None, False, lambda *_: None).checkpoint
    found = enumerate_rows(SPACES["joint"], offer_for(checkpoint), checkpoint)
    assert found is not None
    return found


def seconds(steps: Steps) -> float:
    """A token's: half the layers take half the time of what layers take, four bits half as long again."""
    found = 1e-3
    for step in steps:
        if isinstance(step, RemoveLayers):
            found *= 1.0 - 0.2 * step.count
        elif step.kind == "quantizer":
            found *= 1.5
    return found


def told(rows: Rows, unknown: tuple[str, ...] = ()) -> TimedCosts:
    costs = TimedCosts(rows, lambda steps: True)
    for steps in costs.to_time:
        costs.timed(steps, math.inf if any(step.kind in unknown for step in steps) else seconds(steps))
    return costs


def test_it_is_ready_once_all_was_told_and_the_first_telling_counts(rows: Rows) -> None:
    costs = TimedCosts(rows, lambda steps: not any(step.kind == "quantizer" for step in steps))
    assert costs.to_time[0] == ()
    assert not any(step.kind == "quantizer" for steps in costs.to_time for step in steps)
    for steps in costs.to_time:
        assert not costs.ready
        costs.timed(steps, 1.0)
        costs.timed(steps, 2.0)
    costs.timed((RTN(bits=4, group_size=32),), 9.0)
    assert costs.ready
    np.testing.assert_allclose(costs.rows(), 0.0)


def test_layers_cost_in_proportion_and_steps_multiply(rows: Rows) -> None:
    costs = told(rows)
    one, two = (RemoveLayers(count=count, by="greedy") for count in (1, 2))
    at = {steps: row for row in range(len(rows.bytes)) if len(steps := rows.steps(row)) <= 2}
    logs = costs.rows()
    assert logs[0] == 0.0
    assert logs[at[(two,)]] == pytest.approx(math.log(0.6))
    assert logs[at[(one,)]] == pytest.approx(math.log(0.8))
    packed = next(steps for steps in at if len(steps) == 2 and steps[0] == one and isinstance(steps[1], GPTQ))
    assert logs[at[packed]] == pytest.approx(math.log(0.8 * 1.5))
    assert costs.of(packed, 0) == pytest.approx(float(logs[at[packed]]))


def test_a_width_costs_the_same_by_any_method_and_training_nothing(rows: Rows) -> None:
    costs = told(rows)
    assert costs.of((RTN(bits=4, group_size=128), Finetune(tokens=1_000_000)), 0) == pytest.approx(math.log(1.5))
    # No option of the space is like it.
    assert costs.of((RemoveChannels(share=0.05),), 0) == 0.0


def test_what_could_not_be_timed_is_the_slowest(rows: Rows) -> None:
    costs = told(rows, unknown=("quantizer",))
    logs = costs.rows()
    packed = [row for row in range(len(rows.bytes)) if any(step.kind == "quantizer" for step in rows.steps(row))]
    dense = sorted(set(range(len(rows.bytes))) - set(packed))
    np.testing.assert_allclose(logs[packed], logs[dense].max())
    assert logs[dense].min() < logs[dense].max() == 0.0


def test_where_the_baseline_could_not_be_timed_all_cost_the_same(rows: Rows) -> None:
    costs = TimedCosts(rows, lambda steps: True)
    for steps in costs.to_time:
        costs.timed(steps, seconds(steps) if steps else math.inf)
    np.testing.assert_allclose(costs.rows(), 0.0)


def test_memory_needs_no_timing(rows: Rows) -> None:
    costs = MemoryCosts(rows, int(rows.bytes[0]), lambda steps, size: size + 1_000_000)
    assert costs.ready and costs.to_time == []
    expected = np.log((rows.bytes + 1_000_000) / (rows.bytes[0] + 1_000_000))
    np.testing.assert_allclose(costs.rows(), expected)
