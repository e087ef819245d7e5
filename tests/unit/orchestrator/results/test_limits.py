"""Limits on what a model does as it ships: who breaks them may not stand, whoever picks, and who was not timed is not
judged."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.finish.kept_models import kept_model
from orchestrator.finish.run_folder import read_data, reopen
from orchestrator.finish.wrap_up import read_results, worth_scoring
from orchestrator.ledger.records import LedgerWriter
from orchestrator.results.limits import Limits, Third
from orchestrator.results.picking import picked
from orchestrator.results.tables.terminal_table import print_frontier
from orchestrator.study.spec import spec_from_mapping
from search_spaces.errors import StudyError
from search_spaces.outcome import Speed
from tests.support.examples import trial
from tests.support.recorded_run import Made, write_data, write_run


def timed(tokens_s: float, peak: int | None = 5_000_000_000) -> Speed:
    return Speed({1: tokens_s / 9, 8: tokens_s / 3, 64: tokens_s}, 0.1, 1.0, peak, 4_000_000_000, ("packed 4-bit",))


@pytest.mark.parametrize(
    ("limits", "speed", "said"),
    [
        (Limits(), timed(1.0), ()),
        (Limits(1000.0), None, ()),
        (Limits(1000.0), timed(1000.0), ()),
        (Limits(1000.0), timed(999.0), ("999 tokens/s at batch 64, and the study asks for 1,000",)),
        (Limits(1000.0, batch=16), timed(2400.0), ("800 tokens/s at batch 8, and the study asks for 1,000",)),
        (Limits(max_memory=5_000_000_000), timed(1.0), ()),
        (
            Limits(max_memory=4_999_999_999),
            timed(1.0),
            ("5.00 GB of memory, and the study allows 5.00 GB",),
        ),
        (Limits(max_memory=6_000_000_000), timed(1.0, None), ("its memory was not measured, since it ran on a CPU",)),
        (
            Limits(1000.0, 6_000_000_000),
            Speed(reason="the kernels need a GPU."),
            (
                "1,000 tokens/s and at most 6.00 GB of memory can't be shown, since it could not be timed: the kernels "
                "need a GPU",
            ),
        ),
    ],
)
def test_a_reason_is_given_for_each_limit_that_is_broken(
    limits: Limits, speed: Speed | None, said: tuple[str, ...]
) -> None:
    assert limits.broken(speed) == said


SMALLER_IS_WORSE = [
    Made(11_000_000, 0.0, None), Made(6_000_000, 0.05, 8), Made(5_000_000, 0.1, 4), Made(4_000_000, 0.15, 3)
]  # fmt: skip


def run(folder: Path, speeds: dict[int, Speed], made: list[Made] = SMALLER_IS_WORSE, **spec: object) -> Path:
    """A run of a baseline and three candidates; those of `speeds` were timed."""
    data = {"dev": write_data(folder / "dev.jsonl", segments=96)}
    written = write_run(folder / "run", data, made, **spec)
    writer = LedgerWriter(str(written))
    for number, speed in speeds.items():
        writer.append(trial(speed, made[number].steps, 10 + number, "speed"), [])
    writer.end(True)
    return written


def test_who_breaks_a_limit_is_no_pick_and_not_on_the_frontier(tmp_path: Path) -> None:
    slow, fast = timed(500.0), timed(2000.0)
    folder = run(tmp_path, {0: slow, 1: fast, 3: slow}, min_tokens_s=1000.0)
    ledger, spec = reopen(folder)
    dev, _ = read_results(ledger, spec, read_data(spec))
    reason = "500 tokens/s at batch 64, and the study asks for 1,000"
    assert [point.kept_off for point in dev.points] == [(), (), (), (reason,)]
    assert dev.baseline is not None, "which stays, however slow it is"
    assert 3 not in [point.record.number for point in dev.shown]
    assert picked(dev, "smallest").record.number == 2, "which was not timed yet, and so is not judged"
    with pytest.raises(StudyError, match=r"trial 2 .* was not kept"):
        kept_model(folder, "smallest")
    digests = worth_scoring(spec, read_data(spec))
    assert dev.points[3].record.candidate.digest not in digests
    assert dev.points[2].record.candidate.digest in digests, "so that it is timed next"


def test_without_a_limit_nothing_changes(tmp_path: Path) -> None:
    folder = run(tmp_path, {1: timed(1.0), 3: Speed(reason="no kernel")})
    ledger, spec = reopen(folder)
    dev, _ = read_results(ledger, spec, read_data(spec))
    assert not any(point.kept_off for point in dev.points)
    assert picked(dev, "smallest").record.number == 3


@pytest.mark.parametrize(
    ("third", "speed", "cost"),
    [
        (None, timed(2000.0), 0.0),
        (None, None, 0.0),
        ("speed", timed(2000.0), 1 / 2000.0),
        ("speed", Speed({1: 50.0, 8: 200.0}), 1 / 200.0),
        ("speed", None, math.inf),
        ("speed", Speed(reason="no kernel"), math.inf),
        ("memory", timed(2000.0), 5e9),
        ("memory", timed(2000.0, None), math.inf),
    ],
)
def test_the_cost_is_what_was_measured_and_infinite_where_it_was_not(
    third: Third | None, speed: Speed | None, cost: float
) -> None:
    assert Limits(third=third).cost(speed) == cost


@pytest.mark.parametrize(("objectives", "stand"), [("quality,bytes", [0, 2, 3]), ("quality,bytes,speed", [0, 1, 2, 3])])
def test_with_speed_for_an_objective_a_fast_point_stands_beside_a_smaller_one(
    tmp_path: Path, objectives: str, stand: list[int]
) -> None:
    # Trial 1 is larger and worse than trial 2, and twice as fast as any other.
    made = [Made(11_000_000, 0.0, None), Made(6_000_000, 0.1, 8), Made(5_000_000, 0.05, 4), Made(4_000_000, 0.15, 3)]
    speeds = {0: timed(1000.0), 1: timed(2000.0), 2: timed(900.0)}
    ledger, spec = reopen(run(tmp_path, speeds, made, objectives=objectives))
    dev, _ = read_results(ledger, spec, read_data(spec))
    assert sorted(point.record.number for point in dev.frontier) == stand
    assert [point.record.number for point in dev.line] == [3, 2, 0]
    assert dev.points[3].on_frontier, "the smallest, which was not timed"
    if dev.third:
        assert [point.cost for point in dev.points] == [1 / 1000, 1 / 2000, 1 / 900, math.inf]
    terminal = Console(file=io.StringIO(), width=120)
    print_frontier(terminal, dev, None)
    said = terminal.file.getvalue()
    assert ("Frontier of quality, size and speed" in said) == ("2,000" in said) == (dev.third == "speed")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            {"objectives": "quality,bytes,speed", "speed": False},
            "objectives quality,bytes,speed needs models to be timed; leave out --no-speed",
        ),
        (
            {"objectives": ["quality", "speed"]},
            "objectives is ['quality', 'speed']; it must be quality,bytes, or these two with speed or memory for a "
            "third",
        ),
        (
            {"objectives": "memory,quality,bytes", "target": "chrf>=99%"},
            "a target's model is the smallest that meets it, and the study has memory for an objective too",
        ),
        (
            {"objectives": "quality,bytes,speed", "space": "student", "training": ["pairs.jsonl"]},
            "objectives quality,bytes,speed needs a space that is known whole, and student is not",
        ),
        ({"min_tokens_s": 5.0, "speed": False}, "min_tokens_s needs models to be timed; leave out --no-speed"),
        ({"max_memory": "6GB", "speed": False}, "max_memory needs models to be timed"),
        ({"min_tokens_s": 0}, "min_tokens_s is 0; it must be a number above 0"),
        ({"max_memory": "six"}, "max_memory is 'six'; it must be a size such as 20GB"),
    ],
)
def test_a_limit_that_can_not_be_meant_is_refused(asked: dict[str, object], said: str) -> None:
    with pytest.raises(StudyError) as error:
        spec_from_mapping({"data": "dev.jsonl", "out": "runs/x", **asked})
    assert said in str(error.value)
