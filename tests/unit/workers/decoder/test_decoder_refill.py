"""How the decoder fills its batch: the order prompts are read in, slots that are given on, and memory that runs out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from tests.support.tiny_models import VOCABULARY, tiny_model
from workers.decoder import decode
from workers.decoder.decode import Decoder
from workers.decoder.engines.dense import DenseEngine
from workers.decoder.engines.engine import Admission
from workers.decoder.greedy import PREFILL_TOKENS, DecodeRequest, GreedyLoop, longest_first

STOPS = tuple(range(2, VOCABULARY, 9))


class Answers:
    """Tokens that are there already, and a note of when they were looked at."""

    def __init__(self, engine: CountingEngine, values: list[int]) -> None:
        self._engine = engine
        self._values = values
        engine.unread += 1

    def tokens(self) -> list[int]:
        self._engine.unread -= 1
        return self._values


class CountingEngine:
    """Gives every sequence the token 1, for ever, and notes what it was asked."""

    def __init__(self, slots: int, rows: int = 10**9, ahead: int = 0, packed_slots: bool = False) -> None:
        self.slots = slots
        self.ahead = ahead
        self.packed_slots = packed_slots
        self.rows = rows
        self.held: dict[int, int] = {}
        self.read: list[list[int]] = []
        self.steps: list[list[int]] = []
        self.unread = 0
        self.most_unread = 0

    def fits(self, rooms: Sequence[int]) -> int:
        left = self.rows - sum(self.held.values())
        for count, room in enumerate(rooms):
            left -= room
            if left < 0:
                return count
        return len(rooms)

    def prefill(self, admissions: Sequence[Admission]) -> Answers:
        for one in admissions:
            assert one.slot not in self.held, "a slot was given twice"
            self.held[one.slot] = one.room
        self.read.append([len(one.ids) for one in admissions])
        return Answers(self, [1] * len(admissions))

    def step(self, slots: Sequence[int]) -> Answers:
        self.steps.append(list(slots))
        answers = Answers(self, [1] * len(slots))
        self.most_unread = max(self.most_unread, self.unread)
        return answers

    def move(self, source: int, target: int) -> None:
        self.held[target] = self.held.pop(source)

    def release(self, slot: int) -> None:
        del self.held[slot]


def run(engine: Any, requests: list[DecodeRequest], done: dict[int, list[int]] | None = None) -> dict[int, list[int]]:
    finished: dict[int, list[int]] = {} if done is None else done
    GreedyLoop(engine, requests, longest_first(requests, finished), (), finished, lambda count: None).run()
    return finished


def of_lengths(*lengths: int, limit: int = 3) -> list[DecodeRequest]:
    return [DecodeRequest((7,) * length, limit) for length in lengths]


def test_the_longest_prompts_are_read_first_and_every_request_is_answered_in_its_place() -> None:
    engine = CountingEngine(slots=2)
    done = run(engine, [DecodeRequest((7,) * length, limit) for length, limit in ((2, 4), (9, 1), (5, 2), (7, 3))])
    assert [length for batch in engine.read for length in batch] == [9, 7, 5, 2]
    assert {position: len(tokens) for position, tokens in done.items()} == {0: 4, 1: 1, 2: 2, 3: 3}


def test_a_slot_is_given_on_while_the_others_go_on() -> None:
    engine = CountingEngine(slots=2)
    run(
        engine,
        [
            DecodeRequest((7,) * 9, 10),
            DecodeRequest((7,) * 8, 2),
            DecodeRequest((7,) * 7, 2),
            DecodeRequest((7,) * 6, 2),
        ],
    )
    assert engine.read == [[9, 8], [7], [6]]
    # Nine further tokens for the first; the others share the second slot meanwhile, one step each.
    assert len(engine.steps) == 9
    assert [len(slots) for slots in engine.steps] == [2, 2, 2, 1, 1, 1, 1, 1, 1]


def test_a_refill_waits_until_an_eighth_of_the_slots_is_free() -> None:
    engine = CountingEngine(slots=16)
    limits = [3, 20, *[20] * 14, 5]
    run(engine, [DecodeRequest((7,) * (40 - place), limit) for place, limit in enumerate(limits)])
    assert len(engine.read[0]) == 16
    # One free slot of sixteen is not enough: the seventeenth waits for the rest.
    assert engine.steps[2] == list(range(1, 16))
    assert len(engine.steps) == 19 + 4


def test_long_prompts_are_read_in_parts() -> None:
    engine = CountingEngine(slots=8)
    run(engine, of_lengths(PREFILL_TOKENS, 500, 400, 2))
    assert engine.read == [[PREFILL_TOKENS], [500, 400, 2]]


def test_no_more_is_admitted_than_there_is_room_for() -> None:
    engine = CountingEngine(slots=8, rows=30)
    done = run(engine, of_lengths(9, 9, 9, 9, 9))
    assert len(done) == 5
    assert max(len(slots) for slots in engine.steps) == 2


def test_a_sequence_that_has_no_room_even_alone_is_out_of_memory() -> None:
    with pytest.raises(MemoryError, match="one sequence of 43 tokens"):
        run(CountingEngine(slots=8, rows=30), of_lengths(40))


def test_an_engine_that_runs_ahead_is_asked_before_its_tokens_are_read_and_answers_alike() -> None:
    requests = [DecodeRequest((7,) * (12 - place), 2 + place % 4) for place in range(9)]
    behind, ahead = CountingEngine(slots=3), CountingEngine(slots=3, ahead=1)
    assert run(behind, requests) == run(ahead, requests)
    assert behind.most_unread == 1
    assert ahead.most_unread == 2


def test_packed_slots_are_never_stepped_with_a_hole() -> None:
    engine = CountingEngine(slots=5, packed_slots=True)
    run(engine, [DecodeRequest((7,) * (20 - place), 1 + place % 5) for place in range(11)])
    assert all(slots == list(range(len(slots))) for slots in engine.steps)


class Cramped(DenseEngine):
    """Runs out of memory after a few steps with more than two slots."""

    made: list[int]

    def __init__(self, blueprint: Any, slots: int, room: int, penalty: float) -> None:
        super().__init__(blueprint, slots, room, penalty)
        type(self).made.append(slots)
        self._left = 6

    def _step(self, slots: Sequence[int], tokens: torch.Tensor) -> torch.Tensor:
        self._left -= 1
        if self.slots > 2 and self._left < 0:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super()._step(slots, tokens)


@pytest.mark.parametrize("beams", [1, 2])
def test_out_of_memory_halves_the_batch_keeps_what_is_done_and_says_so(
    beams: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Cramped.made = []
    model = tiny_model("llama")
    asked = [DecodeRequest(tuple(range(3, 5 + place)), 10) for place in range(12)]
    expected = Decoder(model, STOPS, 8, beams).decode(asked)
    monkeypatch.setattr(decode, "_engine", Cramped)
    told: list[int] = []
    decoder = Decoder(model, STOPS, 8 // beams, beams)
    assert decoder.decode(asked, told.append) == expected
    assert Cramped.made == [8, 4, 2]
    assert decoder.batch_size == 2 // beams
    assert "out of memory: continuing with" in caplog.text
    assert told == list(range(1, 13)), "what was finished was done again"


def test_out_of_memory_with_one_sequence_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hopeless(DenseEngine):
        def _prefill(self, admissions: Sequence[Admission]) -> torch.Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(decode, "_engine", Hopeless)
    with pytest.raises(torch.OutOfMemoryError):
        Decoder(tiny_model("llama"), STOPS, 4).decode(of_lengths(3, 4))
