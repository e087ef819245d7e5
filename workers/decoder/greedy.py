"""Greedy decoding in a batch that is refilled: longest prompts first, a slot given on as soon as its sequence ends."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import islice

from workers.decoder.engines.engine import Admission, Engine, Tokens

# A refill waits until this share of the slots is free: reading a few prompts costs nearly what reading many does.
REFILL_SHARE = 8
# Prompt tokens read at once; activations of a long prefill are what memory runs out for.
PREFILL_TOKENS = 8192


@dataclass(frozen=True, slots=True)
class DecodeRequest:
    """A prompt's ids, and how many tokens may follow. shared: how many of its first ids others begin with too."""

    ids: tuple[int, ...]
    limit: int
    shared: int = 0


@dataclass(slots=True)
class _Sequence:
    request: int
    tokens: list[int] = field(default_factory=list)


class GreedyLoop:
    """Carries requests through an engine. `done` keeps what is finished, also when the engine runs out of memory."""

    def __init__(
        self,
        engine: Engine,
        requests: Sequence[DecodeRequest],
        order: Sequence[int],
        stops: Collection[int],
        done: dict[int, list[int]],
        progress: Callable[[int], None],
        line_ends: frozenset[int] = frozenset(),
    ) -> None:
        """order: positions of the requests to carry through, the first ones first. done: position -> new tokens, the
        stop token included. line_ends: ids that end a sequence once it holds another token."""
        self._engine = engine
        self._requests = requests
        self._stops = frozenset(stops)
        self._done = done
        self._progress = progress
        self._line_ends = line_ends
        self._queue = deque(order)
        self._active: dict[int, _Sequence] = {}
        self._under_way: deque[tuple[list[tuple[int, _Sequence]], Tokens]] = deque()

    def run(self) -> None:
        """Until every request is done."""
        while self._queue or self._active:
            if self._time_to_refill():
                self._settle(0)
                self._refill()
            if self._active:
                if self._engine.packed_slots:
                    self._close_ranks()
                slots = sorted(self._active)
                tokens = self._engine.step(slots)
                self._under_way.append(([(slot, self._active[slot]) for slot in slots], tokens))
            self._settle(self._engine.ahead)

    def _time_to_refill(self) -> bool:
        if not self._queue:
            return False
        free = self._engine.slots - len(self._active)
        return not self._active or free >= max(1, self._engine.slots // REFILL_SHARE)

    def _refill(self) -> None:
        while self._queue and len(self._active) < self._engine.slots:
            free = [slot for slot in range(self._engine.slots) if slot not in self._active]
            taken = list(islice(self._queue, len(free)))
            count = min(
                self._engine.fits([room_of(self._requests[position]) for position in taken]),
                fitting_count(PREFILL_TOKENS, [len(self._requests[position].ids) for position in taken]),
            )
            if count == 0:
                if not self._active:
                    raise MemoryError(
                        f"no room for the keys of one sequence of {room_of(self._requests[taken[0]])} tokens"
                    )
                return
            admitted = []
            for slot in free[:count]:
                position = self._queue.popleft()
                request = self._requests[position]
                self._active[slot] = _Sequence(position)
                admitted.append(Admission(slot, request.ids, room_of(request), request.shared))
            tokens = self._engine.prefill(admitted)
            self._under_way.append(([(one.slot, self._active[one.slot]) for one in admitted], tokens))
            self._settle(0)

    def _settle(self, ahead: int) -> None:
        """Look at tokens until no more than so many steps are under way, and free the slots of what ended."""
        while len(self._under_way) > ahead:
            asked, tokens = self._under_way.popleft()
            for (slot, sequence), token in zip(asked, tokens.tokens(), strict=True):
                if sequence.request in self._done:
                    continue
                sequence.tokens.append(token)
                if self._has_ended(sequence, token):
                    self._end(slot, sequence)

    def _has_ended(self, sequence: _Sequence, token: int) -> bool:
        if token in self._stops or len(sequence.tokens) >= self._requests[sequence.request].limit:
            return True
        return token in self._line_ends and any(earlier not in self._line_ends for earlier in sequence.tokens)

    def _end(self, slot: int, sequence: _Sequence) -> None:
        self._done[sequence.request] = sequence.tokens
        del self._active[slot]
        self._engine.release(slot)
        self._progress(len(self._done))

    def _close_ranks(self) -> None:
        """Move the last sequences into the holes before them."""
        count = len(self._active)
        holes = [slot for slot in range(count) if slot not in self._active]
        for hole, source in zip(holes, sorted(slot for slot in self._active if slot >= count), strict=True):
            self._engine.move(source, hole)
            self._active[hole] = self._active.pop(source)


def longest_first(requests: Sequence[DecodeRequest], done: Collection[int]) -> list[int]:
    """Positions of the requests that are not done, longest prompts first: what takes longest leaves no tail then."""
    left = [position for position in range(len(requests)) if position not in done]
    return sorted(left, key=lambda position: (-len(requests[position].ids), position))


def room_of(request: DecodeRequest) -> int:
    """Tokens that a slot must hold for it."""
    return len(request.ids) + request.limit


def fitting_count(limit: int, sizes: Sequence[int]) -> int:
    """How many of the sizes, from the first on, stay within the limit together; at least one."""
    total = 0
    for count, size in enumerate(sizes):
        total += size
        if total > limit and count:
            return count
    return len(sizes)
