"""The engine for a CPU: a row of keys and values a slot, attention by torch over the active rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from workers.decoder.blueprint import Blueprint, Layer
from workers.decoder.engine import Admission
from workers.decoder.forward import TorchOperations, hidden_states, logits, rotate


@dataclass(frozen=True, slots=True)
class Known:
    """Tokens that are there already."""

    values: list[int]

    def tokens(self) -> list[int]:
        return self.values


class DenseEngine:
    """Slots are rows; the active ones stand together, so that a step reads no row of an ended sequence."""

    packed_slots = True
    ahead = 0

    def __init__(self, blueprint: Blueprint, slots: int, room: int) -> None:
        """room: tokens that the longest sequence will have, prompt and translation."""
        self.slots = slots
        self._blueprint = blueprint
        self._ops = TorchOperations()
        self._room = room
        like = {"dtype": blueprint.dtype, "device": blueprint.device}
        shapes = [(slots, layer.kv_heads, room, layer.head_dim) for layer in blueprint.layers]
        self._keys = [torch.zeros(shape, **like) for shape in shapes]
        self._values = [torch.zeros(shape, **like) for shape in shapes]
        positions = torch.arange(room, device=blueprint.device)
        self._ropes = {name: table(positions) for name, table in blueprint.ropes.items()}
        self._lengths = [0] * slots
        self._last = [0] * slots

    def fits(self, rooms: Sequence[int]) -> int:
        return len(rooms)

    def prefill(self, admissions: Sequence[Admission]) -> Known:
        return self._chosen([one.slot for one in admissions], self._prefill(admissions))

    def step(self, slots: Sequence[int]) -> Known:
        return self._chosen(slots, self._step(slots, torch.tensor([self._last[slot] for slot in slots])))

    def move(self, source: int, target: int) -> None:
        length = self._lengths[source]
        for kept in (*self._keys, *self._values):
            kept[target, :, :length] = kept[source, :, :length]
        self._lengths[target] = length
        self._last[target] = self._last[source]

    def release(self, slot: int) -> None:
        self._lengths[slot] = 0

    def reserve(self, slot: int, room: int) -> None:
        """Every row has the longest sequence's room already."""

    def prefill_scores(self, admissions: Sequence[Admission]) -> torch.Tensor:
        return torch.log_softmax(self._prefill(admissions).float(), dim=-1)

    def step_scores(self, slots: Sequence[int], tokens: torch.Tensor) -> torch.Tensor:
        return torch.log_softmax(self._step(slots, tokens).float(), dim=-1)

    def copy(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        moved = [(source, target) for source, target in zip(sources, targets, strict=True) if source != target]
        if not moved:
            return
        longest = max(self._lengths[source] for source, _ in moved)
        source_rows = torch.tensor([source for source, _ in moved], device=self._blueprint.device)
        target_rows = torch.tensor([target for _, target in moved], device=self._blueprint.device)
        for kept in (*self._keys, *self._values):
            kept[target_rows, :, :longest] = kept[source_rows, :, :longest]
        lengths = {target: self._lengths[source] for source, target in moved}
        for target, length in lengths.items():
            self._lengths[target] = length

    def _chosen(self, slots: Sequence[int], scores: torch.Tensor) -> Known:
        tokens = scores.argmax(dim=-1).tolist()
        for slot, token in zip(slots, tokens, strict=True):
            self._last[slot] = token
        return Known(tokens)

    def _prefill(self, admissions: Sequence[Admission]) -> torch.Tensor:
        """Prompts padded on the right, where causal attention never looks from a real token."""
        lengths = [len(one.ids) for one in admissions]
        width = max(lengths)
        ids = torch.tensor([[*one.ids, *[0] * (width - len(one.ids))] for one in admissions])
        ids = ids.to(self._blueprint.device)
        rows = [one.slot for one in admissions]
        first = rows[0]
        together = rows == list(range(first, first + len(rows)))
        at = slice(first, first + len(rows)) if together else torch.tensor(rows)
        turns = {name: (cos[:width], sin[:width]) for name, (cos, sin) in self._ropes.items()}

        def attend(index: int, layer: Layer, qkv: torch.Tensor) -> torch.Tensor:
            query, key, value = _heads(layer, qkv)
            cos, sin = (part.repeat(len(rows), 1) for part in turns[layer.rope])
            query, key = self._turned(layer, query, key, cos, sin)
            query, key, value = (
                part.view(len(rows), width, -1, layer.head_dim).transpose(1, 2) for part in (query, key, value)
            )
            self._keys[index][at, :, :width] = key
            self._values[index][at, :, :width] = value
            inside = layer.window is None or layer.window >= width
            mask = None if inside else _band(width, layer.window or 0, query.device)
            read = functional.scaled_dot_product_attention(
                query, key, value, mask, is_causal=inside, scale=layer.scale, enable_gqa=layer.heads != layer.kv_heads
            )
            return read.transpose(1, 2).reshape(len(rows) * width, layer.heads * layer.head_dim)

        ends = torch.tensor([row * width + length - 1 for row, length in enumerate(lengths)])
        hidden = hidden_states(self._blueprint, self._ops, ids.flatten(), attend, ends)
        for one, length in zip(admissions, lengths, strict=True):
            self._lengths[one.slot] = length
        return logits(self._blueprint, self._ops, hidden)

    def _step(self, slots: Sequence[int], tokens: torch.Tensor) -> torch.Tensor:
        count = len(slots)
        if list(slots) != list(range(count)):
            raise ValueError(f"slots {list(slots)} leave a hole; the dense engine steps the first rows only")
        device = self._blueprint.device
        positions = torch.tensor([self._lengths[slot] for slot in slots], device=device)
        rows = torch.arange(count, device=device)
        reach = max(self._lengths[slot] for slot in slots) + 1
        at = torch.arange(reach, device=device)
        seen = at <= positions[:, None]
        masks = {
            window: (seen if window is None else seen & (at > positions[:, None] - window))[:, None, None]
            for window in {layer.window for layer in self._blueprint.layers}
        }
        turns = {name: (cos[positions], sin[positions]) for name, (cos, sin) in self._ropes.items()}

        def attend(index: int, layer: Layer, qkv: torch.Tensor) -> torch.Tensor:
            query, key, value = _heads(layer, qkv)
            query, key = self._turned(layer, query, key, *turns[layer.rope])
            keys, values = self._keys[index], self._values[index]
            keys[rows, :, positions] = key
            values[rows, :, positions] = value
            read = functional.scaled_dot_product_attention(
                query[:, :, None], keys[:count, :, :reach], values[:count, :, :reach], masks[layer.window],
                scale=layer.scale, enable_gqa=layer.heads != layer.kv_heads,
            )  # fmt: skip
            return read.reshape(count, layer.heads * layer.head_dim)

        hidden = hidden_states(self._blueprint, self._ops, tokens.to(device), attend)
        for slot in slots:
            self._lengths[slot] += 1
        return logits(self._blueprint, self._ops, hidden)

    def _turned(
        self, layer: Layer, query: torch.Tensor, key: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if layer.q_norm is not None and layer.k_norm is not None:
            query, key = self._ops.norm(query, layer.q_norm), self._ops.norm(key, layer.k_norm)
        return rotate(query, cos, sin), rotate(key, cos, sin)


def _heads(layer: Layer, qkv: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(tokens, all) -> queries (tokens, heads, head_dim), keys and values (tokens, kv_heads, head_dim)."""
    split = qkv.view(qkv.shape[0], -1, layer.head_dim)
    query, key, value = split.split([layer.heads, layer.kv_heads, layer.kv_heads], dim=1)
    return query, key, value


def _band(width: int, window: int, device: torch.device) -> torch.Tensor:
    """Which positions each position sees: those up to itself, within the window."""
    at = torch.arange(width, device=device)
    return (at <= at[:, None]) & (at > at[:, None] - window)
