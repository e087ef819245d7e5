"""Models whose layers lie on two GPUs: the tokens, speeds and artefacts that they have on one."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from search_spaces.methods.pruners import RemoveLayers
from search_spaces.methods.quantizers import AWQ, FP8, GPTQ, RTN, BitsAndBytes, MixedWidths, QuantizeEmbeddings
from search_spaces.methods.registry import Step
from tests.support.examples import segment
from tests.support.paths import CAPTIONS
from tests.support.tiny_models import SETTINGS, VOCABULARY, tiny_model
from workers.checkpoints.model_files import weight_files
from workers.decoder.decode import Decoder
from workers.decoder.generate import generate
from workers.decoder.greedy import DecodeRequest
from workers.evaluation.methods import compress
from workers.evaluation.speed import measure_speed
from workers.loading.load import load_model, placement_for
from workers.loading.spread import Placement, with_moves
from workers.packed.load import load_packed, packed_placement
from workers.plan.compression_context import CompressionContext
from workers.plan.conditions import device_name
from workers.runtime.gpu_memory import bytes_left_behind
from workers.translation.prompts import PROMPTS

pytestmark = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
FIRST, SECOND = torch.device("cuda", 0), torch.device("cuda", 1)
BOTH = (FIRST, SECOND, SECOND)
STOPS = tuple(range(2, VOCABULARY, 9))
STEPS: dict[str, tuple[Step, ...]] = {
    "dense": (),
    "rtn": (RTN(bits=4),),
    "packed embeddings": (RTN(bits=3, symmetric=False), QuantizeEmbeddings(bits=8)),
    "8-bit inputs": (FP8(activations=True),),
    "nf4": (BitsAndBytes(format="nf4"),),
    "int8": (BitsAndBytes(format="int8"),),
}
MADE: dict[str, Step] = {
    "rtn": RTN(bits=4),
    "gptq": GPTQ(bits=4),
    "awq": AWQ(bits=4),
    "mixed": MixedWidths(bits=3.5, embeddings=True),
    "fewer layers": RemoveLayers(count=2),
    "fewer layers, measured": RemoveLayers(count=2, by="greedy"),
    "nf4": BitsAndBytes(format="nf4"),
    "int8": BitsAndBytes(format="int8"),
}


class Counted(nn.Module):
    """A layer that asks the host for a number, which no CUDA graph can hold."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.out_features = linear.out_features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) * float(x.isfinite().all().item())


def requests(count: int, vocabulary: int = VOCABULARY, seed: int = 0) -> list[DecodeRequest]:
    rng = random.Random(seed)
    return [
        DecodeRequest(tuple(rng.randrange(3, vocabulary) for _ in range(rng.randrange(1, 90))), rng.randrange(1, 40))
        for _ in range(count)
    ]


def on_two(model: Any, places: tuple[torch.device, ...]) -> Any:
    """The model, which lies on the first GPU, with its layers where they are to go."""
    for layer, device in zip(model.model.layers, places, strict=True):
        layer.to(device)
    return with_moves(model, Placement(FIRST, places))


@pytest.mark.parametrize(
    ("family", "beams", "graphs", "places"),
    [
        *((family, 1, True, BOTH) for family in SETTINGS),
        *((family, 3, True, BOTH) for family in ("llama", "gemma2")),
        *((family, beams, False, BOTH) for family in ("llama", "gemma2") for beams in (1, 3)),
        ("llama", 1, True, (SECOND, SECOND, SECOND)),
        ("llama", 1, False, (SECOND, SECOND, SECOND)),
    ],
)
def test_tokens_are_those_on_one_gpu(family: str, beams: int, graphs: bool, places: tuple[torch.device, ...]) -> None:
    one, two = tiny_model(family).to(FIRST), tiny_model(family).to(FIRST)
    if not graphs:
        for model in (one, two):
            model.model.layers[1].mlp.down_proj = Counted(model.model.layers[1].mlp.down_proj)
    on_two(two, places)
    asked = requests(70)
    for batch in (1, 64):
        some = asked[:6] if batch == 1 else asked
        decoder = Decoder(two, STOPS, batch, beams)
        assert decoder.unknown is None
        # Twice: the second time from what was captured.
        for _ in range(2):
            assert decoder.decode(some) == Decoder(one, STOPS, batch, beams).decode(some)


@pytest.mark.parametrize("beams", [1, 3])
def test_a_repetition_penalty_holds_on_two(beams: int) -> None:
    one, two = tiny_model("qwen2").to(FIRST), tiny_model("qwen2").to(FIRST)
    on_two(two, BOTH)
    for model in (one, two):
        model.generation_config.repetition_penalty = 1.4
    asked = requests(24)
    assert Decoder(two, STOPS, 5, beams).decode(asked) == Decoder(one, STOPS, 5, beams).decode(asked)


@pytest.mark.parametrize("family", SETTINGS)
def test_generate_runs_a_spread_model_too(family: str) -> None:
    found = []
    for places in ((FIRST,) * 3, BOTH):
        model = on_two(tiny_model(family).to(FIRST), places)
        done: dict[int, list[int]] = {}
        generate(model, requests(12), STOPS, 4, 1, done, lambda count: None)
        found.append(done)
    assert found[0] == found[1]


def test_the_fuller_gpu_says_how_many_sequences_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    from workers.decoder.engines import paged

    one, two = tiny_model("llama").to(FIRST), tiny_model("llama").to(FIRST)
    on_two(two, BOTH)
    token_bytes = 2 * 2 * 2 * 16 * 4
    monkeypatch.setattr(paged, "free_memory", lambda device: 2**30 if device == FIRST else 300 * token_bytes)
    asked = requests(20)
    assert Decoder(two, STOPS, 16).decode(asked) == Decoder(one, STOPS, 16).decode(asked)


def folder_of(steps: tuple[Step, ...], at: Path) -> Path:
    parent = CAPTIONS
    for number, step in enumerate(steps):
        (out := at / str(number)).mkdir()
        compress(parent, out, step, context(at, ""))
        parent = out
    return parent


def context(store: Path, device_map: str) -> CompressionContext:
    pairs = [segment(f"Source {n} is here.", f"Quelle {n} ist da!") for n in range(64)]
    return CompressionContext(
        pairs, PROMPTS["alma"], FIRST, 0, device_map=device_map, store=store, parent_key="shipped",
        calibration_tokens=1024,
    )  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
def test_folders_load_onto_two_gpus_with_the_tokens_of_one(name: str, tmp_path: Path) -> None:
    folder = folder_of(STEPS[name], tmp_path)
    asked = requests(64, vocabulary=4000)
    placement = placement_for(folder, "balanced")
    assert placement.devices == (FIRST, SECOND)
    assert placement_for(folder, "auto").devices == (FIRST,)
    for load, spread in ((load_model, placement), (load_packed, packed_placement(folder, "balanced"))):
        one, two = load(folder, Placement(FIRST)), load(folder, spread)
        assert {parameter.device for parameter in two.parameters()} == {FIRST, SECOND}
        for batch in (1, 64):
            some = asked[:4] if batch == 1 else asked
            decoder = Decoder(two, (2,), batch)
            assert decoder.unknown is None
            assert decoder.decode(some) == Decoder(one, (2,), batch).decode(some)


def test_a_speed_is_taken_on_both() -> None:
    speed = measure_speed(CAPTIONS, [[5, 6, 7]], packed_placement(CAPTIONS, "balanced"), batches=(1, 8), new_tokens=8)
    assert speed.reason is None
    assert set(speed.tokens_s) == {1, 8}
    assert device_name(FIRST, SECOND) == f"2 × {torch.cuda.get_device_name(FIRST)}"


def test_what_a_trial_leaves_on_any_gpu_is_seen() -> None:
    before = bytes_left_behind()
    kept = torch.ones(2**22, dtype=torch.uint8, device=SECOND)
    assert bytes_left_behind() - before == kept.nbytes


@pytest.mark.parametrize("name", MADE)
def test_artefacts_of_a_spread_model_are_those_of_one_on_one_gpu(name: str, tmp_path: Path) -> None:
    found = []
    for device_map in ("", "balanced"):
        store, out = tmp_path / f"store{device_map}", tmp_path / f"out{device_map}"
        store.mkdir()
        out.mkdir()
        report = compress(CAPTIONS, out, MADE[name], context(store, device_map))
        files = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in weight_files(out)}
        found.append((files, report))
    assert found[0] == found[1]
