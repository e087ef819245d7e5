"""Batches without padding: loss and gradients are those of padded ones, and who can't read them is found out."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from search_spaces.methods.trainers import Distill, Finetune
from tests.support.tiny_models import tiny_model
from tests.support.tiny_training import batch_of
from workers.training.data.batches import packed
from workers.training.loop.learner import Learner
from workers.training.losses import packed_attention
from workers.training.losses.readout import Readout
from workers.training.teachers.teacher import LiveTeacher

# One is longer than every family's window.
SEQUENCES = (([1, 40, 7, 90, 33, 5, 61, 12, 80, 2], 4), ([1, 12, 64, 2], 1), ([1, 8, 3, 77, 2], 2))
PADDED = batch_of(*SEQUENCES, width=12)
FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma3_text")


def loss_and_gradients(learner: Learner, batch: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    learner.zero_grad()
    loss = learner(batch).sum
    loss.backward()
    return loss.detach(), {name: one.grad.clone() for name, one in learner.named_parameters() if one.grad is not None}


def same(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found[0], expected[0], rtol=1e-4, atol=1e-4)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in found[1].items():
        torch.testing.assert_close(gradient, expected[1][name], rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("recomputes", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_without_padding_loss_and_gradients_are_the_same(family: str, recomputes: bool) -> None:
    learner = Learner(tiny_model(family, seed=1).train(), Finetune(loss="references"), None)
    expected = loss_and_gradients(learner, PADDED)
    assert learner.pack()
    if recomputes:
        learner.enable_checkpointing()
    same(loss_and_gradients(learner, packed(PADDED)), expected)
    # A padded batch is still read as it was.
    same(loss_and_gradients(learner, PADDED), expected)


def test_a_live_teacher_reads_without_padding_too() -> None:
    learner = Learner(tiny_model("llama", seed=1).train(), Finetune(), LiveTeacher(tiny_model("llama")))
    expected = loss_and_gradients(learner, PADDED)
    assert learner.pack()
    assert learner.teacher._packs  # type: ignore[union-attr]
    same(loss_and_gradients(learner, packed(PADDED)), expected)


def test_hidden_states_are_matched_on_padded_batches() -> None:
    step = Distill(hidden=0.5, teacher="live", loss="forward_kl")
    learner = Learner(tiny_model("llama", seed=1).train(), step, LiveTeacher(tiny_model("llama")))
    assert not learner.pack()


def test_bounded_scores_are_read_with_padding() -> None:
    model = tiny_model("gemma2")
    assert not packed_attention.take_up(Readout(model))
    assert model.config._attn_implementation == "eager"


def test_attention_that_sees_other_sequences_is_found_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def forgetful(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **told: Any) -> Any:
        known = {name: told[name] for name in ("scaling", "dropout") if name in told}
        return sdpa_attention_forward(module, query, key, value, attention_mask, **known)

    monkeypatch.setattr(packed_attention, "attention", forgetful)
    model = tiny_model("llama").train()
    with caplog.at_level(logging.WARNING):
        assert not packed_attention.take_up(Readout(model))
    assert "goes on with padding: LlamaForCausalLM" in caplog.text
    assert model.config._attn_implementation == "sdpa" and model.training
