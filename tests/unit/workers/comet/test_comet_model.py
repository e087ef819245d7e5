"""Batches for COMET: of like length, in the order that was asked for, and halved where there is no room."""

from __future__ import annotations

from typing import Any

import torch

from workers.comet.model import score


class Lengths:
    """Scores a hypothesis by its length, and has room for `room` rows at a time."""

    device = torch.device("cpu")

    def __init__(self, room: int) -> None:
        self.room = room
        self.batches: list[list[int]] = []

    def prepare_for_inference(self, samples: list[dict[str, str]]) -> list[int]:
        return [len(sample["mt"]) for sample in samples]

    def transfer_batch_to_device(self, batch: list[int], device: Any, number: int) -> list[int]:
        return batch

    def predict_step(self, batch: list[int]) -> dict[str, torch.Tensor]:
        if len(batch) > self.room:
            raise torch.OutOfMemoryError("none left")
        self.batches.append(batch)
        return {"scores": torch.tensor(batch, dtype=torch.float32)}


SAMPLES = [{"src": "s", "mt": "x" * (37 * at % 101)} for at in range(100)]


def test_scores_come_back_in_the_order_of_their_samples() -> None:
    model = Lengths(room=64)
    assert score(model, SAMPLES) == [len(sample["mt"]) for sample in SAMPLES]
    assert [len(batch) for batch in model.batches] == [64, 36]
    assert min(model.batches[0]) > max(model.batches[1])


def test_a_batch_without_room_is_halved_and_nothing_is_lost() -> None:
    model = Lengths(room=20)
    assert score(model, SAMPLES) == [len(sample["mt"]) for sample in SAMPLES]
    assert [len(batch) for batch in model.batches] == [16, 16, 16, 16, 18, 18]
