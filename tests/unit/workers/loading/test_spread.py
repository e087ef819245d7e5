"""Models whose layers lie on several devices. To torch `cpu:0` is the CPU, and to a placement another device, so that
all but the moves themselves runs without a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import transformers.modeling_utils

from search_spaces.errors import StudyError
from search_spaces.methods.pruners import Magnitude
from search_spaces.methods.quantizers import FP8, RTN, W8A8, BitsAndBytes, QuantizeEmbeddings
from search_spaces.methods.registry import Step
from tests.support.dense_reference import CPU, logits
from tests.support.paths import CAPTIONS
from tests.support.tiny_models import tiny_model
from workers.calibration.layer_inputs import LayerInputs
from workers.checkpoints.model_files import read_checkpoint
from workers.compression.pruning.layer_search import bypass_layers
from workers.decoder.families import read_blueprint, why_unknown
from workers.evaluation.methods import compress
from workers.loading import load
from workers.loading.load import CUDA_DTYPE, gpus_that_hold, load_model
from workers.loading.spread import Arrivals, Placement, device_map_of, moved, placement_of, skeleton, with_moves
from workers.packed.load import load_packed

HOME, OTHER = torch.device("cpu"), torch.device("cpu", 0)
LAYERS = read_checkpoint(CAPTIONS).layers
SPREAD = Placement(HOME, (HOME, *[OTHER] * (LAYERS - 1)))
STEPS: dict[str, tuple[Step, ...]] = {
    "dense": (),
    "packed": (RTN(bits=4),),
    "own": (RTN(bits=4), QuantizeEmbeddings(bits=8)),
    "sparse": (Magnitude(),),
    "8-bit inputs": (FP8(activations=True),),
    "w8a8": (W8A8(),),
    "nf4": (BitsAndBytes(format="nf4"),),
}


@pytest.fixture(autouse=True)
def no_dispatch(monkeypatch: pytest.MonkeyPatch) -> None:
    """accelerate takes `cpu:0` for another device than its tensors'; what it does is undone anyway."""
    monkeypatch.setattr(transformers.modeling_utils, "accelerate_dispatch", lambda *given: None)


def folder_of(steps: tuple[Step, ...], at: Path) -> Path:
    parent = CAPTIONS
    for number, step in enumerate(steps):
        (out := at / str(number)).mkdir()
        compress(parent, out, step, CPU)
        parent = out
    return parent


@pytest.mark.parametrize("name", STEPS)
def test_a_spread_model_is_the_same_and_known_to_the_decoder(name: str, tmp_path: Path) -> None:
    folder = folder_of(STEPS[name], tmp_path)
    plain, spread = load_model(folder, "cpu"), load_model(folder, SPREAD)
    assert torch.equal(logits(spread), logits(plain))
    assert not any(hasattr(module, "_hf_hook") for module in spread.modules())
    assert why_unknown(spread) is None
    one, other = read_blueprint(plain), read_blueprint(spread)
    assert one.capturable == other.capturable
    if name == "packed":
        assert torch.equal(logits(load_packed(folder, SPREAD)), logits(load_packed(folder, HOME)))


def test_every_weight_has_one_device_in_the_map() -> None:
    found = device_map_of(skeleton(CAPTIONS, torch.float32), SPREAD)
    assert found["model.layers.0"] == HOME
    assert found[f"model.layers.{LAYERS - 1}"] == OTHER
    assert {name for name in found if "layers" not in name} == {
        "model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head",
    }  # fmt: skip
    assert device_map_of(None, Placement(OTHER)) == {"": OTHER}


def test_a_placement_says_where_a_tensor_goes() -> None:
    assert SPREAD.of("model.layers.1.mlp.up_proj.weight_packed") == OTHER
    assert SPREAD.of("lm_head.weight") == HOME == Placement(HOME).of("model.layers.1.mlp.up_proj.weight")
    assert SPREAD.devices == (HOME, OTHER)
    assert SPREAD.is_spread
    assert not Placement(HOME, (HOME, HOME)).is_spread


def test_what_is_no_device_is_refused() -> None:
    with pytest.raises(StudyError, match="device_map is 'sequential'; say auto, balanced or a device"):
        placement_of("sequential", HOME, lambda: [])
    assert placement_of("auto", HOME, lambda: []) == Placement(HOME)


class Elsewhere(torch.Tensor):
    """A tensor that says it lies on another device until it is moved, and notes each move."""

    moves: ClassVar[list[tuple[Any, ...]]] = []

    @property
    def device(self) -> torch.device:
        return torch.device("cuda", 7)

    def to(self, *where: Any, **named: Any) -> torch.Tensor:
        Elsewhere.moves.append(where)
        return self.as_subclass(torch.Tensor)


def test_a_whole_model_goes_on_each_gpu_that_has_room_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert torch.cuda.device_count() > 1 or gpus_that_hold(CAPTIONS) == []
    weights = sum(one.nbytes for one in skeleton(CAPTIONS, CUDA_DTYPE).parameters())
    free = {0: 2 * weights, 1: weights, 2: 10 * weights}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(free))
    monkeypatch.setattr(load, "free_memory", lambda device: free[device.index])
    assert gpus_that_hold(CAPTIONS) == ["cuda:0", "cuda:2"]
    free.update(dict.fromkeys(free, weights))
    assert gpus_that_hold(CAPTIONS) == []


def test_what_layers_share_is_moved_once_a_pass() -> None:
    Elsewhere.moves.clear()
    mask = torch.ones(2).as_subclass(Elsewhere)
    arrivals = Arrivals(HOME)
    layer = torch.nn.Identity()
    for _ in range(3):
        _, named = arrivals.take(layer, (), {"attention_mask": mask, "turns": (mask, None), "cache": layer})
        assert type(named["attention_mask"]) is torch.Tensor
        assert named["turns"][0] is named["attention_mask"]
        assert named["turns"][1] is None
        assert named["cache"] is layer
    assert len(Elsewhere.moves) == 1
    arrivals.forget(layer, (), None)
    arrivals.take(layer, (mask,), {"attention_mask": mask})
    assert Elsewhere.moves == [(HOME,)] * 3


def test_tuples_and_lists_are_moved_by_their_tensors() -> None:
    one = torch.zeros(1)
    assert moved((one, [one, "x"], None), lambda tensor: 5) == (5, [5, "x"], None)


def test_layers_are_skipped_and_begun_at_as_in_a_model_on_one_device() -> None:
    plain, spread = tiny_model("llama"), tiny_model("llama")
    with_moves(spread, Placement(HOME, (HOME, OTHER, OTHER)))
    ids = torch.arange(3, 11)[None]

    def without_last(model: Any) -> torch.Tensor:
        with torch.inference_mode(), bypass_layers([model.model.layers[-1]]):
            return model(input_ids=ids).logits

    assert torch.equal(without_last(spread), without_last(plain))
    inputs = LayerInputs()
    run = lambda model, batch: model(input_ids=batch.ids).logits  # noqa: E731
    batch = type("Shown", (), {"ids": ids})()
    inputs.take(spread, [batch], run)
    with torch.inference_mode(), inputs.starting_at(spread, 1, 0):
        assert torch.equal(run(spread, batch), plain(input_ids=ids).logits)


def test_accelerates_hooks_are_known_and_taken_off() -> None:
    from accelerate import dispatch_model

    plain, model = tiny_model("llama"), tiny_model("llama")
    dispatch_model(model, {"": "cpu"}, force_hooks=True)
    assert why_unknown(model) == "accelerate moves its tensors from one device to another"
    with_moves(model, Placement(HOME, (HOME, OTHER, OTHER)))
    assert why_unknown(model) is None
    assert read_blueprint(model).capturable
    assert not any("forward" in vars(module) for module in model.modules())
    ids = torch.arange(3, 11)[None]
    assert torch.equal(model(input_ids=ids).logits, plain(input_ids=ids).logits)


def test_where_weights_lie_the_decoder_can_follow_or_says_why_not() -> None:
    model = tiny_model("llama")
    model.model.layers[1].mlp.to("meta")
    assert why_unknown(model) == "it is on cpu and meta"
