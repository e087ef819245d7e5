"""The bytes predicted before a trial are those of the folder that the real compressor writes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from search_spaces.errors import CandidateError
from search_spaces.methods.pruners import RemoveLayers, Wanda
from search_spaces.methods.quantizers import GPTQ, RTN, BitsAndBytes, QuantizeEmbeddings
from search_spaces.methods.registry import Step
from search_spaces.methods.trainers import Distill, Finetune, Recover
from search_spaces.predicted_size import predicted_bytes
from search_spaces.sizes.student_shape import student_shape
from search_spaces.sizes.tensor_table import Checkpoint, Tensor
from search_spaces.sizes.trained import after_distill
from tests.support.examples import llama_table, segment
from tests.support.tiny_models import SETTINGS, tiny_model
from workers.checkpoints.adapters import ADAPTER_FILES, AdapterSettings, LowRank, write_adapter
from workers.checkpoints.model_files import bytes_on_disk, read_checkpoint
from workers.evaluation.methods import compress
from workers.plan.compression_context import CompressionContext
from workers.translation.prompts import PROMPTS

WITHIN = 0.005
SHAPE = {"vocab_size": 1000, "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 3}
MODELS: dict[str, dict[str, Any]] = {
    "untied": {"tie_word_embeddings": False},
    "tied": {"tie_word_embeddings": True},
    "biased": {"tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True},
    "float32": {"tie_word_embeddings": False, "dtype": torch.float32},
}
QUANTIZERS: list[Step] = [
    *(RTN(bits=bits, group_size=size) for bits in (8, 4, 3) for size in (32, 64, 128, -1)),
    BitsAndBytes(format="int8"),
    BitsAndBytes(format="nf4"),
]
PRUNED: list[tuple[Step, ...]] = [
    (RemoveLayers(count=2),),
    (RemoveLayers(count=1), RTN(bits=4)),
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
    steps: tuple[Step, ...] = (RTN(bits=bits, group_size=-1),)
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
        predicted_bytes(table, (RTN(bits=4, group_size=size),))
    predicted_bytes(table, (RTN(bits=4, group_size=32),))
    predicted_bytes(table, (RTN(bits=4, group_size=-1),))


@pytest.mark.parametrize("steps", [(RemoveLayers(count=3),), (RemoveLayers(count=2), RemoveLayers(count=1))])
def test_a_model_keeps_at_least_one_layer(table: Checkpoint, steps: tuple[Step, ...]) -> None:
    with pytest.raises(CandidateError, match="leaves none of the model's"):
        predicted_bytes(table, steps)
    assert predicted_bytes(table, (RemoveLayers(count=2),)) < predicted_bytes(table, ())


BEFORE_TRAINING: list[tuple[Step, ...]] = [
    (),
    (RTN(bits=3, group_size=32, symmetric=False),),
    (BitsAndBytes(format="nf4"),),
    (BitsAndBytes(format="int8"),),
    (Wanda(),),
    (RemoveLayers(count=1), Wanda(), GPTQ(bits=4)),
]


@pytest.mark.parametrize("before", BEFORE_TRAINING, ids=str)
@pytest.mark.parametrize("adapter", [Recover(rank=4, alpha=8.0), Recover(adapter="dora", loss="references")], ids=str)
def test_an_adapter_kept_apart_takes_what_its_files_take(
    folders: dict[str, Path], tmp_path: Path, before: tuple[Step, ...], adapter: Recover
) -> None:
    checkpoint = read_checkpoint(folders["untied"])
    left = checkpoint.layers - sum(step.count for step in before if isinstance(step, RemoveLayers))
    shapes = {name: tensor.shape for name, tensor in checkpoint.targets().items() if f".{left}." not in name}
    weights = {
        name.removesuffix(".weight"): LowRank(
            torch.zeros(adapter.rank, columns), torch.zeros(rows, adapter.rank), adapter.alpha / adapter.rank,
            torch.zeros(rows) if adapter.adapter == "dora" else None,
        )
        for name, (rows, columns) in shapes.items()
    }  # fmt: skip
    modules = tuple(sorted({stem.rpartition(".")[2] for stem in weights}))
    dora = adapter.adapter == "dora"
    write_adapter(tmp_path, weights, AdapterSettings(adapter.rank, adapter.alpha, adapter.dropout, dora, modules))
    written_bytes = sum((tmp_path / name).stat().st_size for name in ADAPTER_FILES)
    more = predicted_bytes(checkpoint, (*before, adapter)) - predicted_bytes(checkpoint, before)
    assert more == pytest.approx(written_bytes, rel=WITHIN)


def test_training_that_leaves_weights_where_they_are_costs_no_byte(table: Checkpoint) -> None:
    three: tuple[Step, ...] = (RTN(bits=3, group_size=32),)
    cases: list[tuple[tuple[Step, ...], Step]] = [
        ((), Finetune()),
        ((), Recover(merged=True)),
        (three, Finetune()),
        (three, Recover(adapter="scales")),
    ]
    for before, trained in cases:
        assert predicted_bytes(table, (*before, trained)) == predicted_bytes(table, before)


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize(
    ("step", "shape"),
    [
        (Distill(layers=2), {"num_hidden_layers": 2}),
        (Distill(layers=1, width=0.5), {"num_hidden_layers": 1, "hidden_size": 128}),
        (Distill(channels=0.35), {"intermediate_size": 256}),
        (Distill(width=0.75, channels=0.5), {"hidden_size": 192, "intermediate_size": 384}),
    ],
    ids=str,
)
def test_a_student_takes_what_a_model_of_its_shape_takes(
    folders: dict[str, Path], save_llama: Any, name: str, step: Distill, shape: dict[str, int]
) -> None:
    checkpoint = read_checkpoint(folders[name])
    student = save_llama(**(SHAPE | MODELS[name] | shape | {"head_dim": 64}))
    assert predicted_bytes(checkpoint, (step,)) == pytest.approx(bytes_on_disk(student), rel=WITHIN)
    for more in (
        (RTN(bits=4, group_size=32),),
        (GPTQ(bits=3), Recover(rank=2)),
        (QuantizeEmbeddings(bits=8),),
    ):
        alone = predicted_bytes(read_checkpoint(student), more)
        assert predicted_bytes(checkpoint, (step, *more)) == pytest.approx(alone, rel=WITHIN)


def table_of(family: str, **shape: Any) -> Checkpoint:
    """The tensor table that transformers gives a model of the family."""
    model = tiny_model(family, **shape)
    tied = model.config.tie_word_embeddings
    tensors = {
        name: Tensor("F32", tuple(tensor.shape))
        for name, tensor in model.state_dict().items()
        if not (tied and name == "lm_head.weight")
    }
    return Checkpoint(tensors, model.config.to_dict(), 1000, 0)


@pytest.mark.parametrize("family", SETTINGS)
def test_a_students_tensors_are_those_of_its_family(family: str) -> None:
    parent = table_of(family, hidden_size=64, intermediate_size=96)
    types = {"layer_types": SETTINGS[family]["layer_types"][:2]} if "layer_types" in SETTINGS[family] else {}
    student = table_of(family, hidden_size=32, intermediate_size=64, num_hidden_layers=2, **types)
    found = after_distill(parent, Distill(layers=2, width=0.5, channels=0.667))
    assert dict(found.tensors) == dict(student.tensors)


@pytest.mark.parametrize("as_folder", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_a_student_may_be_given_by_its_config(
    folders: dict[str, Path], save_llama: Any, tmp_path: Path, tied: bool, as_folder: bool
) -> None:
    shape = {"hidden_size": 96, "intermediate_size": 200, "num_hidden_layers": 5, "num_attention_heads": 6}
    student = save_llama(**(SHAPE | {"num_key_value_heads": 3, "tie_word_embeddings": tied} | shape))
    step = Distill(config=str(student if as_folder else student / "config.json"))
    for name in ("untied", "tied"):
        predicted = predicted_bytes(read_checkpoint(folders[name]), (step,))
        assert predicted == pytest.approx(bytes_on_disk(student), rel=WITHIN)


CONFIGS: list[tuple[dict[str, Any] | str, str]] = [
    ({"model_type": "mistral"}, "has model_type 'mistral', and the model has 'llama'"),
    ({"vocab_size": 7}, "has a vocabulary of 7 tokens, and the model of 1000; .* trim_vocabulary before it"),
    ({"num_hidden_layers": 0}, "has no num_hidden_layers of at least 1"),
    ({"hidden_size": None}, "hidden_size, intermediate_size and num_attention_heads, one of each, and distill.config"),
    ({"num_attention_heads": 3}, "has 3 heads, which do not divide the hidden size 256"),
    ({"num_hidden_layers": SHAPE["num_hidden_layers"]}, "has the model's own shape: that is not a smaller student"),
    ("[]", "holds no JSON object"),
    ("{", "can't be read as JSON"),
]


@pytest.mark.parametrize(("config", "reason"), CONFIGS, ids=str)
def test_a_config_that_no_student_can_have_is_refused(
    folders: dict[str, Path], tmp_path: Path, config: dict[str, Any] | str, reason: str
) -> None:
    plain = json.loads((folders["untied"] / "config.json").read_text())
    text = config if isinstance(config, str) else json.dumps(plain | {"num_hidden_layers": 1} | config)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CandidateError, match=reason):
        predicted_bytes(read_checkpoint(folders["untied"]), (Distill(config=str(tmp_path)),))
    with pytest.raises(CandidateError, match="can't be read"):
        predicted_bytes(read_checkpoint(folders["untied"]), (Distill(config=str(tmp_path / "none.json")),))


HEADS = {"hidden_size": 96, "intermediate_size": 160, "num_attention_heads": 6}


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (Distill(), "that is not a smaller student; give layers, width, channels or a smaller config, or use finetune"),
        (Distill(layers=3), "that is not a smaller student"),
        (Distill(layers=4), "distill.layers=4 is more than the model's 3 layers; keep fewer"),
        (Distill(width=0.5), r"distill.width=0.5 keeps 0 of 96 \(in steps of 96\); choose another share"),
        (Distill(channels=0.95), r"distill.channels=0.95 keeps 160 of 160 \(in steps of 32\)"),
    ],
    ids=str,
)
def test_a_shape_that_is_none_is_refused_with_the_way_out(table: Checkpoint, step: Distill, reason: str) -> None:
    with pytest.raises(CandidateError, match=reason):
        predicted_bytes(replace(table, config=HEADS), (step,))


def test_a_model_whose_config_has_no_shape_has_no_students(table: Checkpoint) -> None:
    with pytest.raises(CandidateError, match=r"distill needs hidden_size, .* and the model's config.json lacks one"):
        predicted_bytes(table, (Distill(layers=1),))


def test_a_width_is_a_multiple_of_32_that_the_heads_divide() -> None:
    config = {"hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3}
    shape = student_shape(replace(llama_table(hidden=576, ffn=1536), config=config), Distill(width=0.6, channels=0.3))
    assert (shape.layers, shape.hidden_size, shape.intermediate_size) == (4, 288, 448)
    assert (shape.heads, shape.key_value_heads, shape.head_dim, shape.tied) == (9, 3, 64, False)


def test_a_student_is_cut_from_what_is_left_after_pruning(folders: dict[str, Path]) -> None:
    checkpoint = read_checkpoint(folders["untied"])
    once = predicted_bytes(checkpoint, (Distill(layers=1),))
    assert predicted_bytes(checkpoint, (RemoveLayers(count=1), Distill(layers=1))) == once
    with pytest.raises(CandidateError, match=r"distill\.layers=3 is more than the model's 2 layers"):
        predicted_bytes(checkpoint, (RemoveLayers(count=1), Distill(layers=3)))
