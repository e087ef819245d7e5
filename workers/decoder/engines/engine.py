"""What the decoding loops ask of an engine: read prompts into slots, and give every active slot its next token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True, slots=True)
class Admission:
    """A prompt that goes into a slot.

    room: tokens that the slot must be able to hold, prompt included. shared: how many of its first tokens other prompts
    begin with too; an engine may read them once.
    """

    slot: int
    ids: tuple[int, ...]
    room: int
    shared: int = 0


class Tokens(Protocol):
    """Next tokens under way, one an asked slot."""

    def tokens(self) -> list[int]:
        """Wait for them."""
        ...


class Engine(Protocol):
    """Keys and values of up to `slots` sequences, and the model that extends them.

    device: where tokens come and go. packed_slots: the active slots must be 0, 1, … with no hole. ahead: steps that may
    be under way before the tokens of the first are looked at.
    """

    slots: int
    device: torch.device
    packed_slots: bool
    ahead: int

    def fits(self, rooms: Sequence[int]) -> int:
        """How many of these rooms, from the first on, can be given now."""
        ...

    def prefill(self, admissions: Sequence[Admission]) -> Tokens:
        """Read prompts; the first new token of each."""
        ...

    def step(self, slots: Sequence[int]) -> Tokens:
        """One more token for each slot."""
        ...

    def move(self, source: int, target: int) -> None:
        """Let the sequence in one slot go on in another."""
        ...

    def release(self, slot: int) -> None:
        """The slot's sequence has ended."""
        ...


class BeamEngine(Engine, Protocol):
    """An engine whose slots can take each other's history, as beam search needs."""

    def reserve(self, slot: int, room: int) -> None:
        """Set so many tokens of room aside for a slot that will be copied into."""
        ...

    def prefill_scores(self, admissions: Sequence[Admission]) -> torch.Tensor:
        """Log-probabilities of the next token: (admissions, vocabulary), float32."""
        ...

    def step_scores(self, slots: Sequence[int], tokens: torch.Tensor) -> torch.Tensor:
        """Extend each slot by its token; log-probabilities of the next: (slots, vocabulary), float32."""
        ...

    def copy(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Give each target the history of its source, all at once."""
        ...
