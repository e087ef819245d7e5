"""Beam search in a batch that is refilled, with the rules of `generate`: length penalty 1, early stopping off.

Finished hypotheses are scored by their mean log-probability a token, the stop token counted (length normalization: Wu
et al. 2016, https://arxiv.org/abs/1609.08144, section 7); a sentence is done when its best running beam, so scored, is
no better than the worst of its `beams` finished ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import islice

import torch

from workers.decoder.engines.engine import Admission, BeamEngine
from workers.decoder.greedy import PREFILL_TOKENS, REFILL_SHARE, DecodeRequest, fitting_count, room_of


@dataclass(frozen=True, slots=True)
class BeamHypothesis:
    """score: the sum of log-probabilities while it runs, their mean when it has finished."""

    score: float
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Continuation:
    """A running beam and the token that would extend it; score: the sum of log-probabilities with it."""

    score: float
    beam: int
    token: int


@dataclass(slots=True)
class Sentence:
    """A request's beams, best first, and its finished hypotheses, best first."""

    request: int
    running: list[BeamHypothesis]
    finished: list[BeamHypothesis] = field(default_factory=list)
    over: bool = False


def advance(sentence: Sentence, continuations: Sequence[Continuation], stops: frozenset[int], limit: int) -> list[int]:
    """Choose the next beams among the continuations, best first; returns which beam each of them extends.

    continuations: the best (1 + number of stop tokens, at least 2) * beams of them, so that enough go on.
    """
    beams = len(sentence.running)
    length = len(sentence.running[0].tokens) + 1
    ended, going = [], []
    for rank, one in enumerate(continuations):
        tokens = (*sentence.running[one.beam].tokens, one.token)
        if one.token in stops or length >= limit:
            # The others are only there so that enough beams go on.
            if rank < beams:
                ended.append(BeamHypothesis(one.score / length, tokens))
        else:
            going.append((one, tokens))
    sentence.finished = sorted([*sentence.finished, *ended], key=lambda kept: -kept.score)[:beams]
    sentence.running = [BeamHypothesis(one.score, tokens) for one, tokens in going[:beams]]
    if len(sentence.running) < beams:
        sentence.over = True
        return []
    best = sentence.running[0].score / length
    sentence.over = len(sentence.finished) == beams and best <= sentence.finished[-1].score
    return [one.beam for one, _ in going[:beams]]


class BeamLoop:
    """Carries requests through an engine, `beams` slots each; otherwise as `GreedyLoop`."""

    def __init__(
        self,
        engine: BeamEngine,
        requests: Sequence[DecodeRequest],
        order: Sequence[int],
        stops: Collection[int],
        beams: int,
        done: dict[int, list[int]],
        progress: Callable[[int], None],
    ) -> None:
        self._engine = engine
        self._requests = requests
        self._stops = frozenset(stops)
        self._beams = beams
        self._done = done
        self._progress = progress
        self._groups = engine.slots // beams
        self._queue = deque(order)
        self._active: dict[int, Sentence] = {}

    def run(self) -> None:
        """Until every request is done."""
        while self._queue or self._active:
            free = self._groups - len(self._active)
            if self._queue and (not self._active or free >= max(1, self._groups // REFILL_SHARE)):
                self._refill()
            if self._engine.packed_slots:
                self._close_ranks()
            if self._active:
                self._step()

    def _refill(self) -> None:
        groups = [group for group in range(self._groups) if group not in self._active]
        taken = list(islice(self._queue, len(groups)))
        rooms = [room_of(self._requests[position]) for position in taken for _ in range(self._beams)]
        count = min(
            self._engine.fits(rooms) // self._beams,
            fitting_count(PREFILL_TOKENS, [len(self._requests[position].ids) for position in taken]),
        )
        if count == 0:
            if not self._active:
                raise MemoryError(f"no room for {self._beams} beams of {rooms[0]} tokens")
            return
        admitted = []
        for group in groups[:count]:
            position = self._queue.popleft()
            request = self._requests[position]
            self._active[group] = Sentence(position, [BeamHypothesis(0.0, ())] * self._beams)
            admitted.append(Admission(group * self._beams, request.ids, room_of(request), request.shared))
        scores = self._engine.prefill_scores(admitted)
        firsts, others = [], []
        for one in admitted:
            for slot in range(one.slot + 1, one.slot + self._beams):
                self._engine.reserve(slot, one.room)
                firsts.append(one.slot)
                others.append(slot)
        self._engine.copy(firsts, others)
        # All beams hold the same prompt: only the first one's continuations count.
        self._choose(groups[:count], scores[:, None, :])

    def _step(self) -> None:
        groups = sorted(self._active)
        running = [beam for group in groups for beam in self._active[group].running]
        slots = [slot for group in groups for slot in self._slots(group)]
        scores = self._engine.step_scores(slots, torch.tensor([beam.tokens[-1] for beam in running]))
        before = torch.tensor([beam.score for beam in running], device=scores.device)
        self._choose(groups, (scores + before[:, None]).view(len(groups), self._beams, -1))

    def _choose(self, groups: Sequence[int], scores: torch.Tensor) -> None:
        """scores: (groups, beams, vocabulary), of each beam extended by each token."""
        vocabulary = scores.shape[2]
        keep = min(max(2, 1 + len(self._stops)) * self._beams, scores.shape[1] * vocabulary)
        best, at = scores.flatten(1).topk(keep, dim=1)
        sources: list[int] = []
        targets: list[int] = []
        for group, row, places in zip(groups, best.tolist(), at.tolist(), strict=True):
            sentence = self._active[group]
            continuations = [
                Continuation(score, place // vocabulary, place % vocabulary)
                for score, place in zip(row, places, strict=True)
            ]
            limit = self._requests[sentence.request].limit
            parents = advance(sentence, continuations, self._stops, limit)
            if sentence.over:
                self._end(group, sentence)
                continue
            sources.extend(group * self._beams + parent for parent in parents)
            targets.extend(self._slots(group))
        self._engine.copy(sources, targets)

    def _end(self, group: int, sentence: Sentence) -> None:
        self._done[sentence.request] = list(sentence.finished[0].tokens)
        del self._active[group]
        for slot in self._slots(group):
            self._engine.release(slot)
        self._progress(len(self._done))

    def _close_ranks(self) -> None:
        count = len(self._active)
        holes = [group for group in range(count) if group not in self._active]
        for hole, source in zip(holes, sorted(group for group in self._active if group >= count), strict=True):
            self._engine.copy(list(self._slots(source)), list(self._slots(hole)))
            self._active[hole] = self._active.pop(source)

    def _slots(self, group: int) -> range:
        return range(group * self._beams, (group + 1) * self._beams)
