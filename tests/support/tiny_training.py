"""A training small enough for tests: random pairs, a learner of some hundred weights, and one to kill on the way."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from search_spaces.methods.trainers import Finetune
from workers.reading.training_data import training_data
from workers.training.data.batches import TrainingBatch, made_batch
from workers.training.data.tokenized_pairs import TokenizedPairs, tokenize_pairs
from workers.training.loop.one_device import Task
from workers.translation.prompts import PROMPTS

VOCABULARY = 32
WIDTH = 8


class Summed(NamedTuple):
    """What a learner answers."""

    sum: torch.Tensor
    tokens: int


class Words:
    """A tokenizer of one token a letter, as far as `tokenize_pairs` asks."""

    eos_token_id = 2
    chat_template = None

    def __call__(self, text: Any, **keywords: Any) -> dict[str, Any]:
        return {"input_ids": self._ids(text) if isinstance(text, str) else [self._ids(one) for one in text]}

    @staticmethod
    def _ids(text: str) -> list[int]:
        return [3 + ord(letter) % (VOCABULARY - 3) for letter in text]


def tiny_pairs(folder: Path, count: int = 60) -> TokenizedPairs:
    """Pairs of 1 to 9 letters each, from a file in the folder."""
    file = folder / "pairs.jsonl"
    rows = (
        {"langs": "en-de", "src": f"{number} " + "ab" * (number % 5), "ref": f"{number} " + "xyz" * (number % 4)}
        for number in range(count)
    )
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = training_data([(str(file), 1.0)], ["en-de"])
    return tokenize_pairs(data, Words(), "letters", PROMPTS["few-shot"], folder / "store", held_out_count=0)


class TinyLearner(nn.Module):
    """Predicts each token from the one before it.

    limit: a batch of more tokens with padding finds no memory. spoil: told the number of each call, says whether its
    loss is not a number. seconds: that each call takes.
    """

    def __init__(
        self,
        dropout: float = 0.1,
        limit: int = 0,
        spoil: Callable[[int], bool] = lambda call: False,
        seconds: float = 0.0,
    ) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(WIDTH, VOCABULARY)
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
        self.limit, self.spoil, self.seconds = limit, spoil, seconds
        self.calls = 0
        self.sizes: list[int] = []

    def forward(self, batch: TrainingBatch) -> Summed:
        self.calls += 1
        self.sizes.append(batch.ids.numel())
        if self.limit and batch.ids.numel() > self.limit:
            raise MemoryError(f"{batch.ids.numel()} tokens")
        time.sleep(self.seconds)
        states = self.dropout(self.norm(self.embedding(batch.ids[:, :-1])))
        logits = self.head(states[batch.target[:, 1:]])
        total = nn.functional.cross_entropy(logits, batch.ids[:, 1:][batch.target[:, 1:]], reduction="sum")
        return Summed(total * float("nan") if self.spoil(self.calls) else total, len(logits))


class Recomputing(TinyLearner):
    """Says when it is asked to compute activations again; it then takes half the memory."""

    asked = 0

    def enable_checkpointing(self) -> None:
        self.asked += 1
        self.limit *= 2


def batch_of(*sequences: tuple[list[int], int], width: int = 0, rows: tuple[int, ...] = ()) -> TrainingBatch:
    """Sequences (ids, where the translation begins), padded on the right to the longest or to `width`."""
    width = max(width, max(len(ids) for ids, _ in sequences))
    ids = torch.zeros(len(sequences), width, dtype=torch.int64)
    mask = torch.zeros(len(sequences), width, dtype=torch.bool)
    target = torch.zeros(len(sequences), width, dtype=torch.bool)
    for row, (tokens, start) in enumerate(sequences):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = True
        target[row, start : len(tokens)] = True
    return made_batch(ids, mask, target, rows or tuple(range(len(sequences))))


def weights(learner: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in learner.named_parameters()}


def tiny_task(learner: nn.Module, pairs: TokenizedPairs, checkpoints: Path, **changes: Any) -> Task:
    """A task of 2,000 tokens on the CPU with a checkpoint every 5 steps; names of `Finetune`'s fields change the step,
    others the task."""
    fields = {"tokens": 2000, "loss": "references", "rate": 1e-2, "warm_up": 3, "weight_decay": 0.01, "batch": 3}
    step = {name: changes.pop(name) for name in list(changes) if name in Finetune.__dataclass_fields__}
    values: dict[str, Any] = {
        "seed": 7,
        "device": torch.device("cpu"),
        "held_out": None,
        "report": lambda progress: None,
        "micro_tokens": 4096,
        "checkpoint_steps": 5,
    }
    return Task(
        learner=learner,
        pairs=pairs,
        step=Finetune(**{**fields, **step}),
        checkpoints=checkpoints,
        **{**values, **changes},
    )


def train_slowly(pairs: Path, checkpoints: Path, out: Path, tokens: int) -> None:
    """Train slowly enough to be killed on the way; the learner's weights go to `out`."""
    from safetensors.torch import save_file

    from workers.training.loop.one_device import train

    learner = TinyLearner(seconds=0.02)
    train(tiny_task(learner, TokenizedPairs(pairs), checkpoints, tokens=tokens))
    save_file(weights(learner), out)
