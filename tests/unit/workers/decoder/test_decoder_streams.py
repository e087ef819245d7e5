"""Decoding on a CPU in several threads: the same tokens, one progress, errors that end all of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import pytest
import torch

from tests.support.tiny_models import VOCABULARY, tiny_model
from workers.decoder import decode, streams
from workers.decoder.blueprint import Blueprint
from workers.decoder.decode import Decoder
from workers.decoder.engines.dense import DenseEngine
from workers.decoder.greedy import DecodeRequest
from workers.decoder.streams import run_streams, shares, streams_for

STOPS = tuple(range(2, VOCABULARY, 9))


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    monkeypatch.setattr(streams, "LEAST_SLOTS", 4)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def asked(count: int = 23) -> list[DecodeRequest]:
    return [
        DecodeRequest(tuple(3 + (place * 7 + step) % 50 for step in range(1 + place % 11)), 12)
        for place in range(count)
    ]


@pytest.mark.parametrize(
    ("slots", "cores", "expected"), [(64, 2, 1), (256, 2, 2), (256, 1, 1), (256, 64, 2), (255, 8, 1), (1024, 4, 4)]
)
def test_a_stream_has_at_least_so_many_slots_and_a_core(
    slots: int, cores: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LEAST_SLOTS", 128)
    assert streams_for(slots, cores) == expected


def test_shares_are_dealt_out_in_turns() -> None:
    assert shares([9, 8, 7, 6, 5], 2) == [[9, 7, 5], [8, 6]]


@pytest.mark.parametrize("beams", [1, 2])
def test_streams_decode_what_one_does_each_in_a_thread_of_its_own(beams: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    seen: dict[int, tuple[int, int]] = {}

    class Noting(DenseEngine):
        def _step(self, slots: Sequence[int], tokens: torch.Tensor) -> torch.Tensor:
            seen[threading.get_ident()] = (self.slots, torch.get_num_threads())
            return super()._step(slots, tokens)

    monkeypatch.setattr(streams, "LEAST_SLOTS", 100)
    expected = Decoder(model, STOPS, 8, beams).decode(asked())
    monkeypatch.setattr(streams, "LEAST_SLOTS", 4)
    monkeypatch.setattr(decode, "_engine", Noting)
    told: list[int] = []
    decoder = Decoder(model, STOPS, 8 // beams, beams)
    assert decoder.decode(asked(), told.append) == expected
    assert sorted(seen.values()) == [(4, 1), (4, 1)] and threading.get_ident() not in seen
    assert told == list(range(1, 24))
    assert torch.get_num_threads() == 2
    assert decoder.decode(asked(5)) == expected[:5], "the engines of the first call go on"


def test_out_of_memory_in_one_stream_halves_the_batch_and_keeps_what_is_done(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_model("llama")
    expected = Decoder(model, STOPS, 2).decode(asked())
    made: list[int] = []

    class Cramped(DenseEngine):
        def __init__(self, blueprint: Blueprint, slots: int, room: int, penalty: float) -> None:
            super().__init__(blueprint, slots, room, penalty)
            made.append(slots)
            self.fails = len(made) == 2
            self.left = 6

        def _step(self, slots: Sequence[int], tokens: torch.Tensor) -> torch.Tensor:
            self.left -= 1
            if self.fails and self.left < 0:
                raise MemoryError("no room")
            return super()._step(slots, tokens)

    monkeypatch.setattr(decode, "_engine", Cramped)
    told: list[int] = []
    assert Decoder(model, STOPS, 8).decode(asked(), told.append) == expected
    assert made == [4, 4, 4] and "continuing with 4 sequences at a time" in caplog.text
    assert told == sorted(set(told)) and told[-1] == 23


def test_an_error_in_one_stream_ends_the_others_at_their_next_sequence() -> None:
    begun = threading.Event()
    ended: list[int] = []

    def fails(told: object) -> None:
        assert begun.wait(10)
        raise ValueError("broken")

    def goes_on(told: Callable[[int], None]) -> None:
        for count in range(10**9):
            begun.set()
            ended.append(count)
            told(count)

    with pytest.raises(ValueError, match="broken"):
        run_streams([fails, goes_on], lambda: None)
    assert len(ended) < 10**9 and torch.get_num_threads() == 2


def test_a_listener_that_raises_ends_all_of_it() -> None:
    def listener(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Decoder(tiny_model("llama"), STOPS, 8).decode(asked(), listener)
    assert torch.get_num_threads() == 2
