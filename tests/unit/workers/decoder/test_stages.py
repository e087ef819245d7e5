"""A model on several devices, as far as one shows it: the layers cut into runs, and a step into stages."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from tests.support.tiny_models import SETTINGS, tiny_model
from workers.decoder.blueprint import Run
from workers.decoder.engines.dense import DenseEngine
from workers.decoder.engines.engine import Admission
from workers.decoder.engines.stages import Stage, stages_of
from workers.decoder.families import read_blueprint

HOME, SECOND, THIRD = (torch.device("cuda", number) for number in range(3))
# To torch both are the CPU.
CPUS = torch.device("cpu"), torch.device("cpu", 0)


def test_on_one_device_a_step_is_one_stage() -> None:
    run = Run(HOME, 0, 9)
    assert stages_of([run], HOME) == (Stage(HOME, run, begins=True, ends=True, counts=True),)


def test_a_step_comes_home_and_counts_once_on_each_device() -> None:
    runs = [Run(HOME, 0, 3), Run(SECOND, 3, 6), Run(THIRD, 6, 9)]
    assert stages_of(runs, HOME) == (
        Stage(HOME, runs[0], begins=True, ends=False, counts=False),
        Stage(SECOND, runs[1], begins=False, ends=False, counts=True),
        Stage(THIRD, runs[2], begins=False, ends=False, counts=True),
        Stage(HOME, None, begins=False, ends=True, counts=True),
    )


def test_home_may_have_no_layer() -> None:
    run = Run(SECOND, 0, 9)
    assert stages_of([run], HOME) == (
        Stage(HOME, None, begins=True, ends=False, counts=False),
        Stage(SECOND, run, begins=False, ends=False, counts=True),
        Stage(HOME, None, begins=False, ends=True, counts=True),
    )


@pytest.mark.parametrize("family", SETTINGS)
@pytest.mark.parametrize("places", [(0, 1, 1), (0, 0, 1), (1, 1, 1), (0, 1, 0)])
def test_layers_in_several_runs_compute_what_they_do_in_one(family: str, places: tuple[int, ...]) -> None:
    whole = read_blueprint(tiny_model(family))
    layers = [replace(layer, device=CPUS[place]) for layer, place in zip(whole.layers, places, strict=True)]
    cut = replace(whole, layers=tuple(layers))
    assert len(whole.runs) == 1
    assert [number for run in cut.runs for number in range(run.first, run.end)] == [0, 1, 2]
    assert len(cut.runs) == 1 + sum(one != other for one, other in pairwise(places))
    prompts = [Admission(slot, tuple(range(3, 9 + slot)), 30) for slot in range(3)]
    with torch.inference_mode():
        found = []
        for blueprint in (whole, cut):
            engine = DenseEngine(blueprint, 3, 30)
            first = engine.prefill_scores(prompts)
            found.append(torch.cat([first, engine.step_scores(range(3), first.argmax(dim=-1))]))
    assert torch.equal(*found)
