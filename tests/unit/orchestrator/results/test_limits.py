"""Limits on what a model does as it ships: who breaks them may not stand, whoever picks, and who was not timed is not
judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.finish.kept_models import kept_model
from orchestrator.finish.run_folder import read_data, reopen
from orchestrator.finish.wrap_up import read_results, worth_scoring
from orchestrator.ledger.records import LedgerWriter
from orchestrator.results.limits import Limits
from orchestrator.results.picking import picked
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


def run(folder: Path, speeds: dict[int, Speed], **spec: object) -> Path:
    """A run of a baseline and three candidates, the smaller the worse; those of `speeds` were timed."""
    made = [Made(11_000_000, 0.0, None), Made(6_000_000, 0.05, 8), Made(5_000_000, 0.1, 4), Made(4_000_000, 0.15, 3)]
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
    ("asked", "said"),
    [
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
