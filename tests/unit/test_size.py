"""The bytes predicted before a trial are those of the folder that the real compressor writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from search_spaces.checkpoint import Checkpoint
from search_spaces.errors import CandidateError
from search_spaces.methods import Step
from search_spaces.pruners import RemoveLayers
from search_spaces.quantizers import BitsAndBytes, RoundToNearest
from search_spaces.size import predicted_bytes
from tests.examples import llama_table, segment
from workers.compression.context import CompressionContext
from workers.compression.registry import compress
from workers.model_files import bytes_on_disk, read_checkpoint
from workers.prompts import PROMPTS

WITHIN = 0.005
SHAPE = {"vocab_size": 1000, "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 3}
MODELS: dict[str, dict[str, Any]] = {
    "untied": {"tie_word_embeddings": False},
    "tied": {"tie_word_embeddings": True},
    "biased": {"tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True},
    "float32": {"tie_word_embeddings": False, "dtype": torch.float32},
}
QUANTIZERS: list[Step] = [
    *(RoundToNearest(bits=bits, group_size=size) for bits in (8, 4, 3) for size in (32, 64, 128, -1)),
    BitsAndBytes(format="int8"),
    BitsAndBytes(format="nf4"),
]
PRUNED: list[tuple[Step, ...]] = [
    (RemoveLayers(count=2),),
    (RemoveLayers(count=1), RoundToNearest(bits=4)),
    (RemoveLayers(count=1), BitsAndBytes(format="nf4")),
]


@pytest.fixture(scope="session")
def folders(save_llama: Any) -> dict[str, Path]:
    return {name: save_llama(**(SHAPE | config)) for name, config in MODELS.items()}


def written(folder: Path, steps: tuple[Step, ...], into: Path) -> Path:
    """The folder that the compressors make of the model, step by step."""
    pairs = [segment("A dog runs.", "Ein Hund rennt."), segment("Two men.", "Zwei Leute.")]
    context = CompressionContext(pairs, PROMPTS["alma"], torch.device("cpu"), 0)
    for number, step in enumerate(steps):
        out = into / str(number)
        out.mkdir()
        compress(folder, out, step, context)
        folder = out
    return folder


def test_the_baseline_takes_what_its_needed_files_take(folders: dict[str, Path]) -> None:
    for folder in folders.values():
        files = [folder / "config.json", folder / "generation_config.json", folder / "model.safetensors"]
        files += [folder / "tokenizer.json", folder / "tokenizer_config.json"]
        assert predicted_bytes(read_checkpoint(folder), ()) == sum(file.stat().st_size for file in files)


@pytest.mark.parametrize("steps", [*((step,) for step in QUANTIZERS), *PRUNED], ids=str)
@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_prediction_is_what_is_written(
    folders: dict[str, Path], tmp_path: Path, name: str, steps: tuple[Step, ...]
) -> None:
    out = written(folders[name], steps, tmp_path)
    predicted = predicted_bytes(read_checkpoint(folders[name]), steps)
    assert predicted == pytest.approx(bytes_on_disk(out), rel=WITHIN)
    assert bytes_on_disk(out) < bytes_on_disk(folders[name])


@pytest.mark.parametrize("bits", [8, 4, 3])
def test_rows_that_do_not_fill_whole_words_are_predicted(save_llama: Any, tmp_path: Path, bits: int) -> None:
    folder = save_llama(hidden_size=248, intermediate_size=1002, num_attention_heads=4, num_hidden_layers=4)
    steps: tuple[Step, ...] = (RoundToNearest(bits=bits, group_size=-1),)
    out = written(folder, steps, tmp_path)
    assert predicted_bytes(read_checkpoint(folder), steps) == pytest.approx(bytes_on_disk(out), rel=WITHIN)


@pytest.fixture
def table() -> Checkpoint:
    return llama_table(layers=3, hidden=96, ffn=160)


@pytest.mark.parametrize("size", [64, 128])
def test_a_group_size_that_does_not_divide_is_refused_with_the_weight_and_the_way_out(
    table: Checkpoint, size: int
) -> None:
    reason = rf"rtn.group_size={size} does not divide the 96 input weights of model.layers.0.\S+; use a group size that"
    with pytest.raises(CandidateError, match=reason):
        predicted_bytes(table, (RoundToNearest(bits=4, group_size=size),))
    predicted_bytes(table, (RoundToNearest(bits=4, group_size=32),))
    predicted_bytes(table, (RoundToNearest(bits=4, group_size=-1),))


@pytest.mark.parametrize("steps", [(RemoveLayers(count=3),), (RemoveLayers(count=2), RemoveLayers(count=1))])
def test_a_model_keeps_at_least_one_layer(table: Checkpoint, steps: tuple[Step, ...]) -> None:
    with pytest.raises(CandidateError, match="leaves none of the model's"):
        predicted_bytes(table, steps)
    assert predicted_bytes(table, (RemoveLayers(count=2),)) < predicted_bytes(table, ())
