"""The learner: its loss is the definition's, whatever the padding, the micro-batches, the chunks and the wrapping."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from search_spaces.errors import StudyError
from search_spaces.methods.trainers import Distill, Finetune, Recover
from tests.support.tiny_models import VOCABULARY, tiny_model
from tests.support.tiny_training import batch_of
from workers.training.loop import learner as learner_module
from workers.training.loop.learner import Learner
from workers.training.teachers.cache import open_cache
from workers.training.teachers.teacher import CachedTeacher, LiveTeacher

SEQUENCES = (([1, 40, 7, 90, 33, 2], 4), ([1, 12, 64, 2], 1), ([1, 8, 3, 77, 2], 2))
REFERENCES = Finetune(loss="references")


def by_hand(model: Any) -> torch.Tensor:
    """Σ over target tokens of −log q(token | what stands before it), each sequence by itself."""
    total = torch.zeros(())
    for ids, start in SEQUENCES:
        logs = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        for position in range(start, len(ids)):
            total = total - logs[position - 1, ids[position]]
    return total


def gradients(module: torch.nn.Module, total: torch.Tensor) -> dict[str, torch.Tensor]:
    module.zero_grad()
    total.backward()
    return {name: weight.grad.clone() for name, weight in module.named_parameters() if weight.grad is not None}


def same_gradients(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-4, msg=name)


@pytest.fixture
def model() -> Any:
    return tiny_model("llama", seed=1).train()


@pytest.fixture(scope="module")
def teacher() -> LiveTeacher:
    return LiveTeacher(tiny_model("llama"))


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {}),
        ("llama", {"tie_word_embeddings": True}),
        ("mistral", {}),
        ("qwen3", {}),
        ("gemma3_text", {"final_logit_softcapping": 2.0}),
        ("granite", {"logits_scaling": 3.0}),
        ("cohere", {"logit_scale": 0.5}),
    ],
)
def test_cross_entropy_on_references_is_the_definition(family: str, changes: dict[str, Any]) -> None:
    model = tiny_model(family, seed=1, **changes).train()
    loss = Learner(model, REFERENCES, None)(batch_of(*SEQUENCES))
    assert loss.tokens == 2 + 3 + 3
    assert loss.sum.dtype == torch.float32
    expected = by_hand(model)
    torch.testing.assert_close(loss.sum, expected, rtol=1e-4, atol=1e-4)
    same_gradients(gradients(model, loss.sum), gradients(model, expected))


@pytest.mark.parametrize(
    "step",
    [
        REFERENCES,
        Finetune(loss="forward_kl", reference_share=0.3),
        Finetune(loss="reverse_kl"),
        Distill(loss="skew_kl", hidden=0.5),
    ],
)
def test_padding_and_micro_batches_change_nothing(step: Any, model: Any, teacher: LiveTeacher) -> None:
    learner = Learner(model, step, teacher if step.has_divergence else None)
    whole = learner(batch_of(*SEQUENCES))
    expected = gradients(learner, whole.sum)
    wider = learner(batch_of(*SEQUENCES, width=11))
    torch.testing.assert_close(wider.sum, whole.sum, rtol=1e-5, atol=1e-5)
    same_gradients(gradients(learner, wider.sum), expected)
    parts = [learner(batch_of(sequence)) for sequence in SEQUENCES]
    total = torch.stack([part.sum for part in parts]).sum()
    assert sum(part.tokens for part in parts) == whole.tokens
    torch.testing.assert_close(total, whole.sum, rtol=1e-5, atol=1e-5)
    same_gradients(gradients(learner, total), expected)


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("kept", [0, 100])
def test_chunks_change_nothing(
    cached: bool, kept: int, model: Any, teacher: LiveTeacher, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: Any = CachedTeacher(open_cache(tmp_path, {}, VOCABULARY, k=6), teacher) if cached else teacher
    learner = Learner(model, Finetune(loss="forward_kl", reference_share=0.4), asked)
    whole = learner(batch_of(*SEQUENCES))
    expected = gradients(learner, whole.sum)
    # Three tokens' logits at a time; made again in the backward, or not.
    learner.chunk_bytes = 3 * 4 * VOCABULARY
    monkeypatch.setattr(learner_module, "_KEPT_CHUNKS", kept)
    calls: list[int] = []
    handle = model.lm_head.register_forward_hook(lambda module, inputs, output: calls.append(len(inputs[0])))
    found = learner(batch_of(*SEQUENCES))
    assert calls == [3, 3, 2]
    torch.testing.assert_close(found.sum, whole.sum, rtol=1e-5, atol=1e-5)
    same_gradients(gradients(learner, found.sum), expected)
    assert len(calls) == (6 if kept == 0 else 3)
    handle.remove()


@pytest.mark.parametrize("cached", [False, True])
def test_autocast_loses_no_more_than_its_rounding(
    cached: bool, model: Any, teacher: LiveTeacher, tmp_path: Any
) -> None:
    asked: Any = CachedTeacher(open_cache(tmp_path, {}, VOCABULARY, k=6), teacher) if cached else teacher
    learner = Learner(model, Distill(reference_share=0.4, hidden=0.0 if cached else 1.0), asked)
    exact = learner(batch_of(*SEQUENCES))
    expected = gradients(learner, exact.sum)
    with torch.autocast("cpu", torch.bfloat16):
        found = learner(batch_of(*SEQUENCES))
        said = teacher.says(batch_of(*SEQUENCES))
    assert found.sum.dtype == torch.float32
    torch.testing.assert_close(found.sum, exact.sum, rtol=3e-2, atol=0.0)
    for name, gradient in gradients(learner, found.sum).items():
        assert float((gradient - expected[name]).norm()) < 0.1 * float(expected[name].norm()), name
    # The teacher is asked in its own type, whatever the student is trained in.
    assert torch.equal(said.states, teacher.says(batch_of(*SEQUENCES)).states)
    assert said.logits(slice(None)).dtype == torch.float32


def test_a_student_in_bfloat16(model: Any, teacher: LiveTeacher) -> None:
    exact = Learner(model, Distill(hidden=1.0), teacher)(batch_of(*SEQUENCES)).sum
    narrow = tiny_model("llama", seed=1, hidden_size=24)
    for half in (model.bfloat16(), narrow.bfloat16()):
        learner = Learner(half, Distill(hidden=1.0), teacher).bfloat16()
        found = learner(batch_of(*SEQUENCES)).sum
        assert found.dtype == torch.float32
        assert all(gradient.dtype == torch.bfloat16 for gradient in gradients(learner, found).values())
        if half is model:
            torch.testing.assert_close(found, exact, rtol=3e-2, atol=0.0)


@pytest.mark.parametrize("kind", ["references", "live", "cached"])
def test_a_batch_without_target_tokens_adds_nothing(kind: str, model: Any, teacher: LiveTeacher, tmp_path: Any) -> None:
    # Prompts that were cut before their translation.
    batch = batch_of(([1, 40, 7], 3), ([1, 12, 64, 2], 4))
    if kind == "references":
        learner = Learner(model, REFERENCES, None)
    elif kind == "live":
        learner = Learner(model, Distill(hidden=1.0), teacher)
    else:
        learner = Learner(model, Distill(), CachedTeacher(open_cache(tmp_path, {}, VOCABULARY, k=6), teacher))
    loss = learner(batch)
    assert loss.tokens == 0
    assert float(loss.sum.detach()) == 0.0
    assert all(not gradient.any() for gradient in gradients(learner, loss.sum).values())


def test_recomputed_layers_change_nothing(model: Any, teacher: LiveTeacher) -> None:
    learner = Learner(model, Distill(loss="forward_kl", hidden=1.0), teacher).train()
    whole = learner(batch_of(*SEQUENCES))
    expected = gradients(learner, whole.sum)
    learner.enable_checkpointing()
    calls: list[int] = []
    handle = model.model.layers[0].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    found = learner(batch_of(*SEQUENCES))
    torch.testing.assert_close(found.sum, whole.sum)
    same_gradients(gradients(learner, found.sum), expected)
    assert len(calls) == 2
    handle.remove()


def test_a_student_that_is_the_teacher_has_nothing_to_learn(teacher: LiveTeacher) -> None:
    model = tiny_model("llama").train()
    for loss in ("forward_kl", "reverse_kl", "skew_kl"):
        learner = Learner(model, Distill(loss=loss, hidden=1.0), teacher)
        found = learner(batch_of(*SEQUENCES))
        assert abs(float(found.sum.detach())) < 1e-5
        assert all(float(one.abs().max()) < 1e-5 for one in gradients(learner, found.sum).values())


def test_hidden_states_are_matched_over_the_layer_map(model: Any, teacher: LiveTeacher) -> None:
    sequence = batch_of(SEQUENCES[1])
    plain = Learner(model, Distill(), teacher)(sequence)
    matched = Learner(model, Distill(hidden=0.5), teacher, layer_map={0: 2})(sequence)
    own = model(input_ids=sequence.ids, output_hidden_states=True).hidden_states[1]
    theirs: list[torch.Tensor] = []
    handle = teacher.readout.layers[2].register_forward_hook(lambda module, inputs, output: theirs.append(output))
    teacher.readout.model(input_ids=sequence.ids)
    handle.remove()
    apart = (own - theirs[0]).square().sum(-1) / theirs[0].square().sum(-1)
    # Mean over the 4 real tokens, for each of 3 target tokens.
    torch.testing.assert_close(matched.sum - plain.sum, 0.5 * 3 * apart.mean(), rtol=1e-4, atol=1e-4)
    with pytest.raises(StudyError, match="the layer map has 0 -> 9"):
        Learner(model, Distill(hidden=0.5), teacher, layer_map={0: 9})


def test_a_narrower_student_learns_a_projection(teacher: LiveTeacher) -> None:
    narrow = tiny_model("llama", hidden_size=24, num_hidden_layers=2)
    learner = Learner(narrow, Distill(hidden=1.0), teacher)
    assert {name: tuple(weight.shape) for name, weight in learner.projections.named_parameters()} == {
        "0.weight": (32, 24),
        "1.weight": (32, 24),
    }
    found = gradients(learner, learner(batch_of(*SEQUENCES)).sum)
    assert float(found["projections.1.weight"].abs().max()) > 0
    assert not any(name.startswith("projections") for name, _ in narrow.named_parameters())
    again = Learner(narrow, Distill(hidden=1.0), teacher)
    assert torch.equal(again.projections["1"].weight, learner.projections["1"].weight)


def test_training_brings_the_student_to_the_teacher(model: Any, teacher: LiveTeacher, tmp_path: Any) -> None:
    cached = CachedTeacher(open_cache(tmp_path, {}, VOCABULARY, k=16), teacher)
    learner = Learner(model, Finetune(loss="forward_kl", teacher="cached"), cached)
    optimizer = torch.optim.AdamW(learner.parameters(), lr=1e-2)
    losses = []
    for _ in range(12):
        loss = learner(batch_of(*SEQUENCES))
        optimizer.zero_grad()
        (loss.sum / loss.tokens).backward()
        optimizer.step()
        losses.append(float(loss.sum.detach()))
    assert losses[-1] < 0.3 * losses[0]
    assert not any(weight.requires_grad for weight in teacher.readout.model.parameters())


def test_the_teacher_is_no_part_of_the_learner(model: Any, teacher: LiveTeacher) -> None:
    learner = Learner(model, Distill(), teacher).train()
    assert len(list(learner.parameters())) == len(list(model.parameters()))
    assert not teacher.readout.model.training
    assert set(learner.state_dict()) == {f"model.{name}" for name in model.state_dict()}


def test_what_the_step_lacks_is_refused(model: Any, teacher: LiveTeacher, tmp_path: Any) -> None:
    with pytest.raises(ValueError, match="forward_kl is a divergence from a teacher, and none was given"):
        Learner(model, Finetune(), None)
    cached = CachedTeacher(open_cache(tmp_path, {}, VOCABULARY), teacher)
    with pytest.raises(ValueError, match="a cache keeps none"):
        Learner(model, Distill(hidden=1.0), cached)
    with pytest.raises(StudyError, match=r'80 vocabulary entries and the teacher 96.*use the loss "sequence"'):
        Learner(tiny_model("llama", vocab_size=80), Finetune(), teacher)


def test_adapters_learn_and_nothing_else(model: Any, teacher: LiveTeacher) -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", lora_dropout=0.0)
    wrapped = peft.get_peft_model(model, config)
    learner = Learner(wrapped, Recover(), teacher)
    loss = learner(batch_of(*SEQUENCES))
    found = gradients(learner, loss.sum)
    assert found and all("lora_" in name for name in found)
    assert len(found) == 2 * 7 * 3
    with torch.no_grad():
        for name, weight in learner.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.3)
    apart = learner(batch_of(*SEQUENCES)).sum
    assert abs(float((apart - loss.sum).detach())) > 0.1
    learner.enable_checkpointing()
    same_gradients(gradients(learner.train(), learner(batch_of(*SEQUENCES)).sum), gradients(learner, apart))
    merged = Learner(wrapped.merge_and_unload(), Recover(), teacher)(batch_of(*SEQUENCES)).sum
    torch.testing.assert_close(merged, apart, rtol=1e-4, atol=1e-4)
