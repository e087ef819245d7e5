"""The engine for GPUs: keys and values in one pool, the step captured in CUDA graphs, prompts read end to end.

Where layers lie on several GPUs, each holds the keys of its own layers and a copy of what says where sequences stand. A
graph holds work of one GPU alone, so a step is one graph for each stretch between two moves of the hidden states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch

from workers.decoder.blueprint import Blueprint, Layer
from workers.decoder.engines.engine import Admission
from workers.decoder.engines.forward import current, hidden_states, logits, through
from workers.decoder.engines.launch import (
    Places,
    TritonOperations,
    decode_attention,
    prefill_attention,
    rotate_and_keep,
)
from workers.decoder.engines.repetition import Repetition
from workers.decoder.engines.stages import Stage, stages_of
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
class _Board:
    """Where sequences stand, on one device.

    table: (slots, width) int32, the pool's row of each position of each slot. lengths: (slots,) int32. turns: rope ->
    cos and sin of every position.
    """

    table: torch.Tensor
    lengths: torch.Tensor
    turns: dict[str, tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True, slots=True)
class _Part:
    """A stage of a step for so many rows. slots: which each row extends, read anew each time. entering, leaving: hidden
    states (rows, width) as they come from the part before and go to the next; None at the step's ends."""

    stage: Stage
    slots: torch.Tensor
    entering: torch.Tensor | None
    leaving: torch.Tensor | None


@dataclass(frozen=True, slots=True)
class _Step:
    """A step for so many rows. parts: each with its graph, or None where it has none. scores, chosen: what came out:
    logits (rows, vocabulary) in float32, and the best token of each, repetitions penalized."""

    rows: int
    scores: torch.Tensor
    chosen: torch.Tensor
    parts: tuple[tuple[_Part, torch.cuda.CUDAGraph | None], ...]


class PagedEngine:
    """A slot's tokens have a row each in the pool, set aside when it is admitted, so that no step allocates.

    One slot more than asked for takes the rows that fill a graph up; row 0 of the pool is its.
    """

    packed_slots = False
    ahead = 1

    def __init__(self, blueprint: Blueprint, slots: int, room: int, penalty: float = 1.0) -> None:
        """room: tokens that the longest sequence will have. penalty: of repetitions. Raises torch.OutOfMemoryError."""
        self.slots = slots
        self.device = blueprint.device
        self._blueprint = blueprint
        self._ops = TritonOperations()
        self._stages = stages_of(blueprint.runs, blueprint.device)
        self._width = room + 1
        # A step that is under way when a sequence ends still writes one token behind it.
        rows = min(1 + slots * (room + 1), _rows_that_fit(blueprint))
        pools = [((rows, layer.kv_heads, layer.head_dim), layer.device) for layer in blueprint.layers]
        self._keys = [torch.zeros(shape, dtype=blueprint.dtype, device=device) for shape, device in pools]
        self._values = [torch.zeros(shape, dtype=blueprint.dtype, device=device) for shape, device in pools]
        self._free = list(range(rows - 1, 0, -1))
        self._held: dict[int, list[int]] = {}
        self._last = torch.zeros(slots + 1, dtype=torch.int64, device=blueprint.device)
        self._repetition = None if penalty == 1.0 else Repetition(penalty, slots + 1, self._width, blueprint.device)
        at = torch.arange(self._width, device=blueprint.device)
        turns = {name: tuple(part.contiguous() for part in table(at)) for name, table in blueprint.ropes.items()}
        # That of embeddings and head, where the others' copies come from, is the first.
        self._boards = {
            device: self._board(device, turns)
            for device in dict.fromkeys([blueprint.device, *(stage.device for stage in self._stages)])
        }
        self._steps: dict[int, _Step] = {}
        self._graphs = {device: torch.cuda.graph_pool_handle() for device in self._boards}

    def _board(self, device: torch.device, turns: dict[str, tuple[torch.Tensor, ...]]) -> _Board:
        return _Board(
            table=torch.zeros((self.slots + 1, self._width), dtype=torch.int32, device=device),
            lengths=torch.zeros(self.slots + 1, dtype=torch.int32, device=device),
            turns={name: (cos.to(device), sin.to(device)) for name, (cos, sin) in turns.items()},
        )

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
        row = _pinned([*self._held[slot], *[0] * (self._width - room - 1)], torch.int32)
        for device, board in self._boards.items():
            board.table[slot] = row.to(device, non_blocking=True)

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
        for device, board in self._boards.items():
            source, target = (_pinned(one, torch.int64).to(device, non_blocking=True) for one in (sources, targets))
            lengths = board.lengths[source]
            past = torch.arange(self._width, device=device) < lengths[:, None]
            board.table[target] = torch.where(past, board.table[source], board.table[target])
            board.lengths[target] = lengths
            if self._repetition is not None and device == self._blueprint.device:
                self._repetition.copy(source, target)

    def _lowered(self, slots: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The scores with the penalty, where there is one: in place."""
        return scores if self._repetition is None else self._repetition.lower(scores, slots)

    def _stepped(self, slots: Sequence[int]) -> _Step:
        step = self._step_of(len(slots))
        given = _pinned([*slots, *[self.slots] * (step.rows - len(slots))], torch.int32)
        before: torch.Tensor | None = None
        for part, graph in step.parts:
            part.slots.copy_(given, non_blocking=True)
            if part.entering is not None and before is not None:
                part.entering.copy_(before)
            if graph is not None:
                graph.replay()
            else:
                with current(part.stage.device):
                    self._advance(part, step)
            before = part.leaving
        return step

    def _step_of(self, count: int) -> _Step:
        rows = next((size for size in GRAPH_ROWS if size >= count), count)
        if rows not in self._steps:
            self._steps[rows] = self._captured(rows)
        return self._steps[rows]

    def _captured(self, rows: int) -> _Step:
        """A step for so many rows; its parts as CUDA graphs where every layer can be in one."""
        device = self._blueprint.device
        step = _Step(
            rows=rows,
            scores=torch.zeros((rows, self._blueprint.vocabulary), dtype=torch.float32, device=device),
            chosen=torch.zeros(rows, dtype=torch.int64, device=device),
            parts=tuple((part, None) for part in self._parts(rows)),
        )
        if not self._blueprint.capturable:
            return step
        return replace(step, parts=tuple((part, self._graph_of(part, step)) for part, _ in step.parts))

    def _parts(self, rows: int) -> list[_Part]:
        def states(stage: Stage) -> torch.Tensor:
            shape = (rows, self._blueprint.norm.weight.shape[0])
            return torch.zeros(shape, dtype=self._blueprint.dtype, device=stage.device)

        return [
            _Part(
                stage,
                torch.full((rows,), self.slots, dtype=torch.int32, device=stage.device),
                entering=None if stage.begins else states(stage),
                leaving=None if stage.ends else states(stage),
            )
            for stage in self._stages
        ]

    def _graph_of(self, part: _Part, step: _Step) -> torch.cuda.CUDAGraph:
        device = part.stage.device
        with current(device):
            # On the spare slot: compiles the kernels and warms cuBLAS up, outside the graph.
            side = _side_stream(device)
            side.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(side):
                self._advance(part, step)
            torch.cuda.current_stream(device).wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._graphs[device], stream=_capture_stream(device)):
                self._advance(part, step)
        return graph

    def _advance(self, part: _Part, step: _Step) -> None:
        """Extend the part's slots by their last tokens as far as its stage goes; with the last one, choose the next."""
        stage, board = part.stage, self._boards[part.stage.device]
        slots = part.slots.long()
        places = Places(part.slots, board.lengths[slots], board.table)
        if stage.begins and self._repetition is not None:
            self._repetition.add(slots, places.positions.long(), self._last[slots])

        def attend(index: int, layer: Layer, qkv: torch.Tensor) -> torch.Tensor:
            keys, values = self._keys[index], self._values[index]
            query = rotate_and_keep(layer, qkv, turns=board.turns[layer.rope], keys=keys, values=values, places=places)
            return decode_attention(layer, query, keys, values, places)

        hidden = self._blueprint.embed(self._last[slots]) if part.entering is None else part.entering
        if stage.run is not None:
            hidden = through(self._blueprint, stage.run, self._ops, hidden, attend)
        if part.leaving is not None:
            part.leaving.copy_(hidden)
        else:
            self._choose(slots, hidden, step)
        if stage.counts:
            # The spare slot stays where it is, on the pool's first row.
            board.lengths[slots] = torch.where(slots == self.slots, 0, places.positions + 1).to(torch.int32)

    def _choose(self, slots: torch.Tensor, hidden: torch.Tensor, step: _Step) -> None:
        step.scores.copy_(logits(self._blueprint, self._ops, hidden))
        # Beam search takes the logits as they are: a penalty comes behind their softmax there.
        scores = step.scores if self._repetition is None else self._repetition.lower(step.scores.clone(), slots)
        step.chosen.copy_(scores.argmax(dim=-1))
        self._last[slots] = step.chosen

    def _prefill(self, admissions: Sequence[Admission]) -> torch.Tensor:
        lengths = [len(one.ids) for one in admissions]
        starts = [sum(lengths[:index]) for index in range(len(lengths))]
        for one in admissions:
            self.reserve(one.slot, one.room)
        slots = self._on_device([one.slot for one in admissions], torch.int32)
        counts, begins = self._on_device(lengths, torch.int32), self._on_device(starts, torch.int32)
        standing = torch.repeat_interleave(slots, counts, output_size=sum(lengths))
        positions = self._on_device([position for length in lengths for position in range(length)], torch.int32)
        if self._repetition is not None:
            self._repetition.begin(slots.long(), [one.ids for one in admissions])
        longest = max(lengths)
        readings = {}
        for device, board in self._boards.items():
            here = tuple(one.to(device) for one in (slots, begins, counts))
            board.lengths[here[0].long()] = here[2]
            readings[device] = (board.turns, Places(standing.to(device), positions.to(device), board.table), here)

        def attend(index: int, layer: Layer, qkv: torch.Tensor) -> torch.Tensor:
            keys, values = self._keys[index], self._values[index]
            turns, places, (read, first, count) = readings[layer.device]
            query = rotate_and_keep(layer, qkv, turns=turns[layer.rope], keys=keys, values=values, places=places)
            return prefill_attention(
                layer,
                query,
                keys=keys,
                values=values,
                table=places.table,
                slots=read,
                starts=first,
                lengths=count,
                longest=longest,
            )

        ids = self._on_device([token for one in admissions for token in one.ids], torch.int64)
        hidden = hidden_states(self._blueprint, self._ops, ids, attend, (begins + counts - 1).long())
        return logits(self._blueprint, self._ops, hidden).float()

    def _on_device(self, values: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        return _pinned(values, dtype).to(self._blueprint.device, non_blocking=True)


def _rows_that_fit(blueprint: Blueprint) -> int:
    """How many tokens' keys and values fit on the devices: as many as on the one that is full first."""
    token_bytes: dict[torch.device, int] = {}
    for layer in blueprint.layers:
        one = 2 * layer.kv_heads * layer.head_dim * blueprint.dtype.itemsize
        token_bytes[layer.device] = token_bytes.get(layer.device, 0) + one
    return min(int(free_memory(device) * POOL_SHARE) // size for device, size in token_bytes.items())


def _pinned(values: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype).pin_memory()


@cache
def _capture_stream(device: torch.device) -> torch.cuda.Stream:
    """Torch's own is of the device that the first graph of the process was captured on."""
    return torch.cuda.Stream(device)


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
