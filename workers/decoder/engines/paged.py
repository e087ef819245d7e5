"""The engine for a GPU: keys and values in one pool, the step captured in CUDA graphs, prompts read end to end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch

from workers.decoder.blueprint import Blueprint, Layer
from workers.decoder.engines.engine import Admission
from workers.decoder.engines.forward import hidden_states, logits
from workers.decoder.engines.launch import (
    Places,
    TritonOperations,
    decode_attention,
    prefill_attention,
    rotate_and_keep,
)
from workers.decoder.engines.repetition import Repetition
from workers.runtime.gpu_memory import free_memory

# Rows of a captured step; a batch runs in the smallest that holds it.
GRAPH_ROWS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512)
# Of the free memory; the rest is for activations, logits and the graphs' own pool.
POOL_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class PendingTokens:
    """Tokens on their way to the host."""

    values: torch.Tensor
    arrived: torch.cuda.Event

    def tokens(self) -> list[int]:
        self.arrived.synchronize()
        tokens: list[int] = self.values.tolist()
        return tokens


@dataclass(frozen=True, slots=True)
class _Step:
    """A step for so many rows. slots: which each row extends, read anew each time. scores, chosen: what came out:
    logits (rows, vocabulary) in float32, and the best token of each, repetitions penalized."""

    slots: torch.Tensor
    scores: torch.Tensor
    chosen: torch.Tensor
    graph: torch.cuda.CUDAGraph | None


class PagedEngine:
    """A slot's tokens have a row each in the pool, set aside when it is admitted, so that no step allocates.

    One slot more than asked for takes the rows that fill a graph up; row 0 of the pool is its.
    """

    packed_slots = False
    ahead = 1

    def __init__(self, blueprint: Blueprint, slots: int, room: int, penalty: float = 1.0) -> None:
        """room: tokens that the longest sequence will have. penalty: of repetitions. Raises torch.OutOfMemoryError."""
        self.slots = slots
        self._blueprint = blueprint
        self._ops = TritonOperations()
        device = blueprint.device
        self._width = room + 1
        token_bytes = sum(2 * layer.kv_heads * layer.head_dim for layer in blueprint.layers) * blueprint.dtype.itemsize
        # A step that is under way when a sequence ends still writes one token behind it.
        wanted = 1 + slots * (room + 1)
        rows = min(wanted, int(free_memory(device) * POOL_SHARE) // token_bytes)
        shape = {index: (rows, layer.kv_heads, layer.head_dim) for index, layer in enumerate(blueprint.layers)}
        self._keys = [torch.zeros(shape[i], dtype=blueprint.dtype, device=device) for i in shape]
        self._values = [torch.zeros(shape[i], dtype=blueprint.dtype, device=device) for i in shape]
        self._free = list(range(rows - 1, 0, -1))
        self._held: dict[int, list[int]] = {}
        self._table = torch.zeros((slots + 1, self._width), dtype=torch.int32, device=device)
        self._lengths = torch.zeros(slots + 1, dtype=torch.int32, device=device)
        self._last = torch.zeros(slots + 1, dtype=torch.int64, device=device)
        self._repetition = None if penalty == 1.0 else Repetition(penalty, slots + 1, self._width, device)
        at = torch.arange(self._width, device=device)
        self._ropes = {name: tuple(part.contiguous() for part in table(at)) for name, table in blueprint.ropes.items()}
        self._steps: dict[int, _Step] = {}
        self._graphs = torch.cuda.graph_pool_handle()

    def fits(self, rooms: Sequence[int]) -> int:
        left = len(self._free)
        for count, room in enumerate(rooms):
            left -= room + 1
            if left < 0:
                return count
        return len(rooms)

    def release(self, slot: int) -> None:
        self._free.extend(reversed(self._held.pop(slot)))

    def move(self, source: int, target: int) -> None:
        raise NotImplementedError("slots of this engine may have holes, so nothing need move")

    def prefill(self, admissions: Sequence[Admission]) -> PendingTokens:
        slots = self._on_device([one.slot for one in admissions], torch.int64)
        chosen = self._lowered(slots, self._prefill(admissions)).argmax(dim=-1)
        self._last[slots] = chosen
        return _sent(chosen)

    def step(self, slots: Sequence[int]) -> PendingTokens:
        return _sent(self._stepped(slots).chosen[: len(slots)])

    def reserve(self, slot: int, room: int) -> None:
        self._held[slot] = [self._free.pop() for _ in range(room + 1)]
        row = [*self._held[slot], *[0] * (self._width - room - 1)]
        self._table[slot] = self._on_device(row, torch.int32)

    def prefill_scores(self, admissions: Sequence[Admission]) -> torch.Tensor:
        scores = torch.log_softmax(self._prefill(admissions), dim=-1)
        return self._lowered(self._on_device([one.slot for one in admissions], torch.int64), scores)

    def step_scores(self, slots: Sequence[int], tokens: torch.Tensor) -> torch.Tensor:
        places = self._on_device(slots, torch.int64)
        self._last[places] = tokens.to(self._blueprint.device)
        return self._lowered(places, torch.log_softmax(self._stepped(slots).scores[: len(slots)], dim=-1))

    def copy(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Point the targets' past at the sources' rows; nothing is overwritten there, since all write ahead of it."""
        if not sources:
            return
        source, target = self._on_device(sources, torch.int64), self._on_device(targets, torch.int64)
        lengths = self._lengths[source]
        past = torch.arange(self._width, device=self._blueprint.device) < lengths[:, None]
        self._table[target] = torch.where(past, self._table[source], self._table[target])
        self._lengths[target] = lengths
        if self._repetition is not None:
            self._repetition.copy(source, target)

    def _lowered(self, slots: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The scores with the penalty, where there is one: in place."""
        return scores if self._repetition is None else self._repetition.lower(scores, slots)

    def _stepped(self, slots: Sequence[int]) -> _Step:
        step = self._step_of(len(slots))
        rows = step.slots.shape[0]
        step.slots.copy_(self._on_device([*slots, *[self.slots] * (rows - len(slots))], torch.int32))
        if step.graph is not None:
            step.graph.replay()
        else:
            self._advance(step)
        return step

    def _step_of(self, count: int) -> _Step:
        rows = next((size for size in GRAPH_ROWS if size >= count), count)
        if rows not in self._steps:
            self._steps[rows] = self._captured(rows)
        return self._steps[rows]

    def _captured(self, rows: int) -> _Step:
        """A step for so many rows; as a CUDA graph where every layer can be in one."""
        device = self._blueprint.device
        slots = torch.full((rows,), self.slots, dtype=torch.int32, device=device)
        chosen = torch.zeros(rows, dtype=torch.int64, device=device)
        scores = torch.zeros((rows, self._blueprint.vocabulary), dtype=torch.float32, device=device)
        plain = _Step(slots, scores, chosen, None)
        if not self._blueprint.capturable:
            return plain
        # On the spare slot: compiles the kernels and warms cuBLAS up, outside the graph.
        side = _side_stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            self._advance(plain)
        torch.cuda.current_stream(device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._graphs):
            self._advance(plain)
        return _Step(slots, scores, chosen, graph)

    def _advance(self, step: _Step) -> None:
        """Extend the step's slots by their last tokens, and choose the next."""
        slots = step.slots.long()
        places = Places(step.slots, self._lengths[slots], self._table)
        if self._repetition is not None:
            self._repetition.add(slots, places.positions.long(), self._last[slots])

        def attend(index: int, layer: Layer, qkv: torch.Tensor) -> torch.Tensor:
            keys, values = self._keys[index], self._values[index]
            query = rotate_and_keep(layer, qkv, turns=self._ropes[layer.rope], keys=keys, values=values, places=places)
            return decode_attention(layer, query, keys, values, places)

        hidden = hidden_states(self._blueprint, self._ops, self._last[slots], attend)
        step.scores.copy_(logits(self._blueprint, self._ops, hidden))
        # Beam search takes the logits as they are: a penalty comes behind their softmax there.
        scores = step.scores if self._repetition is None else self._repetition.lower(step.scores.clone(), slots)
        step.chosen.copy_(scores.argmax(dim=-1))
        self._last[slots] = step.chosen
        # The spare slot stays where it is, on the pool's first row.
        self._lengths[slots] = torch.where(slots == self.slots, 0, places.positions + 1).to(torch.int32)

    def _prefill(self, admissions: Sequence[Admission]) -> torch.Tensor:
        lengths = [len(one.ids) for one in admissions]
        starts = [sum(lengths[:index]) for index in range(len(lengths))]
        for one in admissions:
            self.reserve(one.slot, one.room)
        slots = self._on_device([one.slot for one in admissions], torch.int32)
        counts, begins = self._on_device(lengths, torch.int32), self._on_device(starts, torch.int32)
        self._lengths[slots.long()] = counts
        if self._repetition is not None:
            self._repetition.begin(slots.long(), [one.ids for one in admissions])
        places = Places(
            torch.repeat_interleave(slots, counts, output_size=sum(lengths)),
            self._on_device([position for length in lengths for position in range(length)], torch.int32),
            self._table,
        )
        longest = max(lengths)

        def attend(index: int, layer: Layer, qkv: torch.Tensor) -> torch.Tensor:
            keys, values = self._keys[index], self._values[index]
            query = rotate_and_keep(layer, qkv, turns=self._ropes[layer.rope], keys=keys, values=values, places=places)
            return prefill_attention(
                layer,
                query,
                keys=keys,
                values=values,
                table=self._table,
                slots=slots,
                starts=begins,
                lengths=counts,
                longest=longest,
            )

        ids = self._on_device([token for one in admissions for token in one.ids], torch.int64)
        hidden = hidden_states(self._blueprint, self._ops, ids, attend, (begins + counts - 1).long())
        return logits(self._blueprint, self._ops, hidden).float()

    def _on_device(self, values: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        return torch.tensor(values, dtype=dtype).pin_memory().to(self._blueprint.device, non_blocking=True)


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """One for the process: cuBLAS keeps a workspace for every stream that it has multiplied in, 32 MiB on an H100."""
    return torch.cuda.Stream(device)


def _sent(tokens: torch.Tensor) -> PendingTokens:
    values = torch.empty(tokens.shape, dtype=tokens.dtype, pin_memory=True)
    values.copy_(tokens, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()
    return PendingTokens(values, arrived)
