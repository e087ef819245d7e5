"""The decoder's one door: a loaded model and prompts in, new tokens out, in the prompts' order."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch

from workers.decoder.beam import BeamLoop
from workers.decoder.blueprint import Blueprint
from workers.decoder.dense_engine import DenseEngine
from workers.decoder.engine import BeamEngine
from workers.decoder.families import read_blueprint, why_unknown
from workers.decoder.generate import generate
from workers.decoder.greedy import GreedyLoop, Request, room_of

log = logging.getLogger(__name__)


class Decoder:
    """Greedy and beam search for one model.

    An architecture that is not known runs through `generate`, with a warning. When memory runs out the batch is halved,
    with a warning, and what was finished is kept. Raises torch.OutOfMemoryError when one sequence does not fit.
    """

    def __init__(
        self,
        model: Any,
        stops: Collection[int],
        batch_size: int,
        beams: int = 1,
        line_ends: frozenset[int] = frozenset(),
    ) -> None:
        """stops: ids that end a sequence; none lets every sequence run to its limit. batch_size: sequences at a time;
        beam search counts a sentence's beams as one. line_ends: ids at which a greedy sequence ends too, once it holds
        another token: what follows would not be read."""
        self._model = model
        self._stops = tuple(stops)
        self._beams = beams
        self._line_ends = line_ends
        self.batch_size = batch_size
        self.unknown = why_unknown(model)
        if self.unknown is not None:
            log.warning("translating with generate, which is slower: %s", self.unknown)
        self._blueprint: Blueprint | None = None
        self._engine: BeamEngine | None = None
        self._room = 0

    def decode(
        self, requests: Sequence[Request], progress: Callable[[int], None] = lambda done: None
    ) -> list[list[int]]:
        """New tokens of each request, in order; a stop token, where one was met, is the last."""
        done: dict[int, list[int]] = {}
        while len(done) < len(requests):
            try:
                self._run(requests, done, progress)
            except (torch.OutOfMemoryError, MemoryError):
                if self.batch_size == 1:
                    raise
                self._halve()
        return [done[position] for position in range(len(requests))]

    @torch.inference_mode()
    def _run(self, requests: Sequence[Request], done: dict[int, list[int]], progress: Callable[[int], None]) -> None:
        if self.unknown is not None:
            generate(self._model, requests, self._stops, self.batch_size, self._beams, done, progress)
            return
        engine = self._engine_for(requests)
        if self._beams == 1:
            GreedyLoop(engine, requests, self._stops, done, progress, self._line_ends).run()
        else:
            BeamLoop(engine, requests, self._stops, self._beams, done, progress).run()

    def _engine_for(self, requests: Sequence[Request]) -> BeamEngine:
        """The engine of an earlier call, with its captured steps, where its sequences are long enough."""
        room = max(room_of(request) for request in requests)
        if self._engine is None or room > self._room:
            self._engine = None
            if self._blueprint is None:
                self._blueprint = read_blueprint(self._model)
            self._engine = _engine(self._blueprint, self.batch_size * self._beams, room)
            self._room = room
        return self._engine

    def _halve(self) -> None:
        self._engine = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.batch_size = max(1, self.batch_size // 2)
        log.warning("out of memory: going on with %d sequences at a time", self.batch_size)


def _engine(blueprint: Blueprint, slots: int, room: int) -> BeamEngine:
    if blueprint.device.type == "cuda":
        from workers.decoder.paged_engine import PagedEngine

        return PagedEngine(blueprint, slots, room)
    return DenseEngine(blueprint, slots, room)
