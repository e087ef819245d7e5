"""Fitting trials to a cluster: each takes what a node with a GPU can give, and what no node can hold is refused."""

from __future__ import annotations

import re

import pytest

from orchestrator.cluster import join as cluster
from orchestrator.cluster.join import Placement, place
from search_spaces.errors import StudyError

DRIVER = {"CPU": 32.0}
WORKER = {"CPU": 16.0, "GPU": 1.0}


@pytest.fixture(name="nodes")
def fake_nodes(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, float]]:
    """The nodes that Ray says are there; a dead one stands beside them."""
    nodes: list[dict[str, float]] = []
    dead = {"Alive": False, "Resources": {"CPU": 512.0, "GPU": 8.0}}
    monkeypatch.setattr(cluster.ray, "nodes", lambda: [dead, *({"Alive": True, "Resources": node} for node in nodes)])
    return nodes


@pytest.mark.parametrize(
    ("there", "gpus", "placement"),
    [
        ([DRIVER], None, Placement(32.0, 0.0, 1)),
        ([{"CPU": 64.0, "GPU": 8.0}], None, Placement(8.0, 1.0, 8)),
        ([{"CPU": 64.0, "GPU": 8.0}], 2.0, Placement(16.0, 2.0, 4)),
        ([{"CPU": 64.0, "GPU": 8.0}], 0.5, Placement(4.0, 0.5, 16)),
        ([WORKER], 0.0, Placement(16.0, 0.0, 1)),
        # The largest node has no GPU, or few.
        ([DRIVER, WORKER, WORKER], None, Placement(16.0, 1.0, 2)),
        ([{"CPU": 128.0, "GPU": 1.0}, {"CPU": 32.0, "GPU": 4.0}], None, Placement(8.0, 1.0, 5)),
        # What can't hold a trial anyway takes no CPUs from the others.
        ([{"CPU": 4.0, "GPU": 1.0}, {"CPU": 64.0, "GPU": 4.0}], 2.0, Placement(32.0, 2.0, 2)),
        ([{"GPU": 4.0}, WORKER], None, Placement(16.0, 1.0, 1)),
        # Fewer CPUs than GPUs: as many trials as CPUs.
        ([{"CPU": 2.0, "GPU": 4.0}], None, Placement(1.0, 1.0, 2)),
    ],
)
def test_trials_fit_the_nodes_that_have_what_they_take(
    nodes: list[dict[str, float]], there: list[dict[str, float]], gpus: float | None, placement: Placement
) -> None:
    nodes += there
    assert place(None, gpus, None) == placement


def test_what_is_asked_for_is_kept(nodes: list[dict[str, float]]) -> None:
    nodes += [DRIVER, WORKER, {"CPU": 16.0, "GPU": 2.0}]
    assert place(2.0, None, None) == Placement(2.0, 1.0, 3)
    assert place(2.0, 0.5, 4) == Placement(2.0, 0.5, 4)
    assert place(0.0, None, None) == Placement(0.0, 1.0, 3)
    assert place(4.0, None, None, training=3).apart


@pytest.mark.parametrize(
    ("there", "cpus", "gpus", "said"),
    [
        (
            [DRIVER, WORKER, WORKER, {"CPU": 8.0, "GPU": 4.0}], 32.0, None,
            "a trial requires 32 CPUs and 1 GPUs, and no node has both: with GPUs there are nodes with 8 CPUs and 4 "
            "GPUs, 16 CPUs and 1 GPUs; give less",
        ),
        ([DRIVER, WORKER], None, 4.0, "a trial requires 1 CPUs and 4 GPUs, and no node has both: with GPUs there are "
         "nodes with 16 CPUs and 1 GPUs; give less"),
        ([{"GPU": 1.0}], None, None, "no node has both: with GPUs there are nodes with 0 CPUs and 1 GPUs; give"),
        ([DRIVER], None, 1.0, "a trial requires 1 CPUs and 1 GPUs, and no node has a GPU; give less"),
        ([DRIVER, WORKER], 64.0, 0.0, "a trial requires 64 CPUs and 0 GPUs, and the largest node has 32 CPUs; give"),
        ([], None, None, "a trial requires 1 CPUs and 0 GPUs, and the largest node has 0 CPUs; give less"),
    ],
)  # fmt: skip
def test_what_no_node_can_hold_is_refused_with_what_there_is(
    nodes: list[dict[str, float]], there: list[dict[str, float]], cpus: float | None, gpus: float | None, said: str
) -> None:
    nodes += there
    with pytest.raises(StudyError, match=re.escape(said)) as caught:
        place(cpus, gpus, None)
    assert str(caught.value).endswith("give less with --cpus-per-trial and --gpus-per-trial, or add a node")


@pytest.mark.parametrize(("there", "gpus"), [([DRIVER], None), ([WORKER], 0.0)])
def test_a_trial_that_takes_nothing_is_refused(
    nodes: list[dict[str, float]], there: list[dict[str, float]], gpus: float | None
) -> None:
    nodes += there
    with pytest.raises(StudyError, match=r"can't run on 0 CPUs and 0 GPUs; .* --cpus-per-trial"):
        place(0.0, gpus, None)


def test_above_one_gpus_are_whole(nodes: list[dict[str, float]]) -> None:
    nodes += [{"CPU": 8.0, "GPU": 4.0}]
    with pytest.raises(StudyError, match=r"can't run on 1\.5 GPUs: above one they are whole"):
        place(None, 1.5, None)
    assert place(None, 4.0, None) == Placement(8.0, 4.0, 1)


def test_a_training_over_more_gpus_than_there_are_is_refused(nodes: list[dict[str, float]]) -> None:
    nodes += [DRIVER, WORKER, WORKER]
    with pytest.raises(StudyError, match="training_gpus is 3, and the cluster has 2 GPUs; give at most 2"):
        place(None, None, None, training=3)
    with pytest.raises(StudyError, match="2 GPUs, of which COMET takes a part of one; give at most 1"):
        place(None, None, None, training=2, taken=0.1)
