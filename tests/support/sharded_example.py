"""A tiny training for tests of several processes: random pairs, a random student and teacher, built by name."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch

from search_spaces.methods.trainers import Finetune
from tests.support.tiny_models import VOCABULARY, tiny_model
from workers.calibration.sequences import Shown
from workers.reading.segments import Segment
from workers.training.data.batches import TrainingBatch
from workers.training.data.pairs_file import pairs_writer
from workers.training.data.tokenized_pairs import TokenizedPairs
from workers.training.loop.learner import Learner, LossSum
from workers.training.teachers.teacher import LiveTeacher


def random_pairs(folder: Path, count: int = 60, seed: int = 0) -> TokenizedPairs:
    """Pairs of random tokens, 6 to 30 of them, the second half of each being its translation."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(seed)
    with pairs_writer(folder, [("en-de", 1.0)]) as writer:
        for number in range(count):
            ids = tuple(draw.randrange(3, VOCABULARY) for _ in range(draw.randint(6, 30)))
            segment = Segment(f"{number}", "en-de", f"source {number}", (f"target {number}",), f"{number}", "")
            writer.add(segment, Shown(ids, len(ids) // 2), 1.0)
        writer.finish("0" * 16, {})
    return TokenizedPairs(folder)


def finetune(tokens: int = 900, **changes: Any) -> Finetune:
    """A training of all weights, a few steps long."""
    settings = {"loss": "references", "rate": 3e-3, "warm_up": 2, "batch": 7, "weight_decay": 0.01, **changes}
    return Finetune(tokens=tokens, **settings)


def student() -> Any:
    return tiny_model("llama", seed=1, tie_word_embeddings=False)


class Spoiled(Learner):
    """A learner whose losses from call `first` up to `last`, over all of a process's learners, are not numbers."""

    calls = 0
    first = last = 0

    def forward(self, batch: TrainingBatch) -> LossSum:
        Spoiled.calls += 1
        loss = super().forward(batch)
        bad = Spoiled.first <= Spoiled.calls < Spoiled.last
        return LossSum(loss.sum * float("nan") if bad else loss.sum, loss.tokens)


def build(device: torch.device, step: Finetune, kind: type[Learner] = Learner) -> Learner:
    """The learner of `student`, its norms frozen; with a random teacher where the step asks one."""
    model = student().to(device)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("norm" not in name)
    teacher = LiveTeacher(tiny_model("llama", seed=2).to(device)) if step.has_divergence else None
    return kind(model, step, teacher)
