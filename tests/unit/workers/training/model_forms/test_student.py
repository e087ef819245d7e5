"""Students cut out of their parents: which layers and channels stay, and that what stays is the parent's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from search_spaces.errors import CandidateError
from search_spaces.methods.trainers import Distill
from search_spaces.predicted_size import predicted_bytes
from tests.support.dense_reference import logits
from tests.support.tiny_models import tiny_model
from tests.support.trained_parents import empty, training_context
from workers.checkpoints.model_files import bytes_on_disk, read_checkpoint, read_config
from workers.loading.load import load_model
from workers.plan.compression_context import CompressionContext
from workers.training.model_forms import importance
from workers.training.model_forms.student import Student, write_student
from workers.training.steps import training_pairs

WIDE = {"hidden_size": 128, "intermediate_size": 160, "num_hidden_layers": 4, "num_attention_heads": 4}
Write = Callable[..., tuple[Path, Student]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """(parent, step) -> the student's folder, and what is said of it."""

    def written(parent: Path, step: Distill, **changes: Any) -> tuple[Path, Student]:
        context: CompressionContext = training_context(tmp_path, parent, **changes)
        out = empty(tmp_path)
        return out, write_student(parent, out, step, training_pairs(parent, step, context), context)

    return written


def stored(folder: Path) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = load_file(folder / "model.safetensors")
    return tensors


def idle_channels(channels: torch.Tensor, hidden: torch.Tensor) -> Callable[[Any], None]:
    """An edit of a model after which these MLP and residual channels are 0 whatever it reads."""

    def edit(model: Any) -> None:
        model.model.embed_tokens.weight[:, hidden] = 0
        for layer in model.model.layers:
            for linear in (layer.mlp.down_proj, layer.self_attn.o_proj):
                linear.weight[hidden] = 0
            for linear in (layer.mlp.gate_proj, layer.mlp.up_proj):
                linear.weight[channels] = 0

    return edit


@pytest.mark.parametrize(("count", "expected"), [(1, [0]), (2, [0, 3]), (3, [0, 2, 3])])
def test_layers_stay_whole_and_evenly_spread(save_llama: Any, write: Write, count: int, expected: list[int]) -> None:
    parent = save_llama(num_hidden_layers=4)
    step = Distill(layers=count, loss="references")
    out, student = write(parent, step)
    assert list(student.layers.values()) == expected
    assert student.notes == (
        f"student: {count} of 4 layers ({', '.join(map(str, expected))}); tensors: {3 + 9 * count} copied",
    )
    before, after = stored(parent), stored(out)
    for name, tensor in after.items():
        layer = next((number for number in range(count) if f"layers.{number}." in name), None)
        source = name if layer is None else name.replace(f"layers.{layer}.", f"layers.{expected[layer]}.")
        assert torch.equal(tensor, before[source])
    assert load_model(out, "cpu").config.num_hidden_layers == count
    assert predicted_bytes(read_checkpoint(parent), (step,)) == pytest.approx(bytes_on_disk(out), rel=0.005)


def test_the_channels_that_do_nothing_go_and_the_function_stays(save_llama: Any, write: Write) -> None:
    channels = torch.arange(160).reshape(-1, 5)[:, :2].flatten()
    hidden = torch.arange(128)[1::4]
    parent = save_llama(**WIDE, edit=idle_channels(channels, hidden), initializer_range=0.2, dtype=torch.float32)
    step = Distill(width=0.75, channels=0.6, loss="references")
    out, student = write(parent, step)
    assert "hidden_size 128 -> 96, intermediate_size 160 -> 96" in student.notes[0]
    config = read_config(out)
    assert (config["hidden_size"], config["intermediate_size"], config["head_dim"]) == (96, 96, 32)
    kept = torch.tensor([number for number in range(128) if number % 4 != 1])
    assert torch.equal(stored(out)["model.embed_tokens.weight"], stored(parent)["model.embed_tokens.weight"][:, kept])
    model = load_model(out, "cpu")
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            # A mean over fewer channels is larger by what the idle ones were of all.
            parameter.data *= (128 / 96) ** 0.5
    torch.testing.assert_close(logits(model), logits(load_model(parent, "cpu")), rtol=1e-3, atol=1e-3)
    assert predicted_bytes(read_checkpoint(parent), (step,)) == pytest.approx(bytes_on_disk(out), rel=0.005)


def test_fewer_tokens_than_channels_choose_all_the_same_and_are_said(
    save_llama: Any, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importance, "TOKENS", 100)
    parent = save_llama(num_hidden_layers=1, intermediate_size=1024)
    out, student = write(parent, Distill(channels=0.5, loss="references"))
    assert read_config(out)["intermediate_size"] == 512
    assert "calibration tokens are fewer than the 1,024 inputs of the widest weight" in student.notes[1]


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3", "gemma3_text"])
def test_every_family_can_be_narrowed(character_tokenizer: Any, tmp_path: Path, write: Write, family: str) -> None:
    model = tiny_model(family, vocab_size=len(character_tokenizer), hidden_size=64, intermediate_size=96)
    parent = tmp_path / "parent"
    model.to(torch.bfloat16).save_pretrained(parent)
    character_tokenizer.save_pretrained(parent)
    out, student = write(parent, Distill(layers=2, width=0.5, channels=0.34, loss="references"))
    narrowed = load_model(out, "cpu")
    assert narrowed.model.embed_tokens.weight.shape == (len(character_tokenizer), 32)
    assert narrowed.model.layers[0].mlp.up_proj.weight.shape == (32, 32)
    assert logits(narrowed).isfinite().all()
    assert "random" not in student.notes[0]
    if family == "gemma3_text":
        assert narrowed.config.layer_types == ["sliding_attention", "sliding_attention"]


def given_config(parent: Path, scratch: Path, **changes: Any) -> str:
    path = scratch / "student.json"
    path.write_text(json.dumps({**read_config(parent), **changes}))
    return str(path)


def test_a_given_config_takes_what_fits_and_draws_the_rest(save_llama: Any, tmp_path: Path, write: Write) -> None:
    parent = save_llama(**WIDE, tie_word_embeddings=True)
    path = given_config(
        parent, tmp_path, hidden_size=64, head_dim=32, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=192, num_hidden_layers=2, tie_word_embeddings=False, initializer_range=0.01,
    )  # fmt: skip
    out, student = write(parent, Distill(config=path, loss="references"))
    found, before = stored(out), stored(parent)
    # Wider MLPs are drawn; heads, of the parent's width, are its first ones; the head begins as the embeddings.
    assert student.notes[0].endswith("tensors: 15 cut, 6 random")
    gate = found["model.layers.1.mlp.gate_proj.weight"].float()
    assert tuple(gate.shape) == (192, 64)
    assert float(gate.std()) == pytest.approx(0.01, rel=0.1)
    queries = found["model.layers.1.self_attn.q_proj.weight"]
    kept = [
        next(column for column in range(128) if torch.equal(before["model.embed_tokens.weight"][:, column], one))
        for one in found["model.embed_tokens.weight"].T
    ]
    assert kept == sorted(kept)
    assert torch.equal(queries, before["model.layers.3.self_attn.q_proj.weight"][:64][:, kept])
    assert torch.equal(found["lm_head.weight"], found["model.embed_tokens.weight"])
    assert torch.equal(found["model.norm.weight"], before["model.norm.weight"][kept])
    model = load_model(out, "cpu")
    assert logits(model).isfinite().all()
    again, _ = write(parent, Distill(config=path, loss="references"))
    assert all(torch.equal(tensor, found[name]) for name, tensor in stored(again).items())


def test_a_config_that_does_not_say_whether_embeddings_are_tied_has_its_parents(
    save_llama: Any, tmp_path: Path, write: Write
) -> None:
    parent = save_llama(**WIDE, tie_word_embeddings=True)
    path = Path(given_config(parent, tmp_path, num_hidden_layers=1))
    config = json.loads(path.read_text())
    del config["tie_word_embeddings"]
    path.write_text(json.dumps(config))
    out, _ = write(parent, Distill(config=str(path), loss="references"))
    assert "lm_head.weight" not in stored(out)
    assert load_model(out, "cpu").config.tie_word_embeddings is True


def test_a_deeper_student_draws_the_layers_that_its_parent_lacks(save_llama: Any, tmp_path: Path, write: Write) -> None:
    parent = save_llama(num_hidden_layers=2)
    out, student = write(parent, Distill(config=given_config(parent, tmp_path, num_hidden_layers=3), loss="references"))
    assert student.layers == {0: 0, 1: 1}
    assert student.notes[0].endswith("tensors: 21 copied, 9 random")
    assert torch.equal(stored(out)["model.layers.2.input_layernorm.weight"], torch.ones(64, dtype=torch.bfloat16))


def test_heads_of_another_width_are_drawn(save_llama: Any, tmp_path: Path, write: Write) -> None:
    parent = save_llama(num_hidden_layers=1)
    path = given_config(parent, tmp_path, head_dim=8)
    _, student = write(parent, Distill(config=path, loss="references"))
    assert student.notes[0].endswith("tensors: 8 copied, 4 random")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vocab_size": 50}, "vocabulary of 50"),
        ({"model_type": "gemma"}, "family"),
        ({"head_dim": None, "intermediate_size": 64}, None),
    ],
)
def test_configs_of_other_models_are_refused(
    save_llama: Any, tmp_path: Path, write: Write, changes: dict[str, Any], said: str | None
) -> None:
    parent = save_llama(num_hidden_layers=1)
    step = Distill(config=given_config(parent, tmp_path, **changes), loss="references")
    if said is None:
        assert "random" not in write(parent, step)[1].notes[0]
    else:
        with pytest.raises(CandidateError, match=said):
            write(parent, step)
