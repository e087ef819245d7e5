"""The decoder's one door: a loaded model and prompts in, new tokens out, in the prompts' order."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch

from workers.decoder.beam import BeamLoop
from workers.decoder.blueprint import Blueprint
from workers.decoder.engines.dense import DenseEngine
from workers.decoder.engines.engine import BeamEngine
from workers.decoder.engines.forward import current
from workers.decoder.families import read_blueprint, why_unknown
from workers.decoder.generate import generate
from workers.decoder.greedy import DecodeRequest, GreedyLoop, longest_first, room_of
from workers.decoder.settings import repetition_penalty
from workers.decoder.streams import Work, run_streams, shares, streams_for

log = logging.getLogger(__name__)


class Decoder:
    """Greedy and beam search for one model.

    The model's generation config is followed as `generate` follows it; an architecture or a setting that is not known
    runs through `generate`, with a warning. When memory runs out the batch is halved, with a warning, and what was
    finished is kept. Raises torch.OutOfMemoryError when one sequence does not fit.
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
        self._penalty = repetition_penalty(model.generation_config)
        self.unknown = why_unknown(model, beams)
        if self.unknown is not None:
            log.warning("translating with generate, which is slower: %s", self.unknown)
        self._blueprint: Blueprint | None = None
        self._engines: list[BeamEngine] = []
        self._room = 0

    def decode(
        self, requests: Sequence[DecodeRequest], progress: Callable[[int], None] = lambda done: None
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
    def _run(
        self, requests: Sequence[DecodeRequest], done: dict[int, list[int]], progress: Callable[[int], None]
    ) -> None:
        if self.unknown is not None:
            generate(
                self._model,
                requests,
                stops=self._stops,
                batch_size=self.batch_size,
                beams=self._beams,
                done=done,
                progress=progress,
            )
            return
        engines = self._engines_for(requests)
        order = longest_first(requests, done)
        if len(engines) == 1:
            with current(engines[0].device):
                self._loop(engines[0], requests, order, done, progress).run()
            return

        def work(engine: BeamEngine, share: Sequence[int]) -> Work:
            return lambda told: self._loop(engine, requests, share, done, told).run()

        works = [work(engine, share) for engine, share in zip(engines, shares(order, len(engines)), strict=True)]
        run_streams(works, lambda: progress(len(done)))

    def _loop(
        self,
        engine: BeamEngine,
        requests: Sequence[DecodeRequest],
        order: Sequence[int],
        done: dict[int, list[int]],
        progress: Callable[[int], None],
    ) -> GreedyLoop | BeamLoop:
        if self._beams == 1:
            return GreedyLoop(
                engine=engine,
                requests=requests,
                order=order,
                stops=self._stops,
                done=done,
                progress=progress,
                line_ends=self._line_ends,
            )
        return BeamLoop(
            engine=engine,
            requests=requests,
            order=order,
            stops=self._stops,
            beams=self._beams,
            done=done,
            progress=progress,
        )

    def _engines_for(self, requests: Sequence[DecodeRequest]) -> list[BeamEngine]:
        """A stream's engine each; those of an earlier call, with captured steps, where sequences are long enough."""
        room = max(room_of(request) for request in requests)
        if not self._engines or room > self._room:
            self._engines = []
            if self._blueprint is None:
                self._blueprint = read_blueprint(self._model)
            count = self._streams(self._blueprint)
            sizes = [len(share) for share in shares(range(self.batch_size), count)]
            self._engines = [_engine(self._blueprint, size * self._beams, room, self._penalty) for size in sizes]
            self._room = room
        return self._engines

    def _streams(self, blueprint: Blueprint) -> int:
        """One on a GPU, and where layers are not known to be safe in several threads."""
        if blueprint.device.type != "cpu" or not blueprint.capturable:
            return 1
        return min(streams_for(self.batch_size * self._beams, torch.get_num_threads()), self.batch_size)

    def _halve(self) -> None:
        self._engines = []
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.batch_size = max(1, self.batch_size // 2)
        log.warning("out of memory: continuing with %d sequences at a time", self.batch_size)


def _engine(blueprint: Blueprint, slots: int, room: int, penalty: float) -> BeamEngine:
    if blueprint.device.type == "cuda":
        from workers.decoder.engines.paged import PagedEngine

        return PagedEngine(blueprint, slots, room, penalty)
    return DenseEngine(blueprint, slots, room, penalty)
