"""What a person is told of the trials of Tune's loop: a line each, a probe's among them."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from orchestrator.progress.display import ProgressDisplay
from orchestrator.progress.trial_table import TableRow, Totals, trial_line, trial_table
from orchestrator.search.callbacks import TrialWatcher
from search_spaces.methods.quantizers import GPTQ
from search_spaces.methods.registry import Step
from search_spaces.outcome import Failure, Outcome, Probe, Speed
from tests.support.examples import measurement, trial
from tests.support.fakes import Clock
from workers.evaluation.trial_actor import report

GPTQ4 = (GPTQ(bits=4),)
LABEL = GPTQ4[0].short_label()


def tunes_trial(outcome: Outcome, split: str, steps: tuple[Step, ...] = GPTQ4, number: int = 1) -> Any:
    """A trial of Tune's that ended so, as its callbacks get it."""
    asked = trial(outcome, steps, number, split)
    line = {"kind": "trial", "digest": "", "hypotheses": None, **asked}
    return SimpleNamespace(config=asked, last_result=report(line))  # type: ignore[arg-type]


def lines(*trials: Any) -> list[str]:
    """What is printed without a terminal where these trials took five seconds each."""
    console = Console(file=io.StringIO(), width=200, color_system=None)
    clock = Clock()
    progress = ProgressDisplay(Totals(4, 0), console, clock)

    def due(split: str) -> int:
        assert split not in ("dev", "profile"), "these two do not follow the search"
        return 1

    watcher = TrialWatcher(progress, due=due)
    for one in trials:
        watcher.on_trial_start(0, [], one)
        clock.now += 5.0
        watcher.on_trial_complete(0, [], one)
    progress.stop()
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize(("nats", "said"), [(0.0153, "0.015"), (1.25, "1.2"), (0.0, "0")])
def test_a_probes_line_says_how_far_it_is_from_the_baseline(nats: float, said: str) -> None:
    probed = tunes_trial(Probe({"en-de": nats}, 900, {"compress": 4.0}), "profile")
    assert lines(probed) == [f"[profile] {LABEL}: {said} nats from the baseline  in 5 s"]


def test_a_probe_that_failed_says_so() -> None:
    failed = tunes_trial(Failure("unsupported", "compress", "no"), "profile")
    assert lines(failed) == [f"[profile] {LABEL}: failed  in 5 s"]


def test_probes_are_not_counted_among_the_searchs_trials() -> None:
    found = lines(
        tunes_trial(measurement(60.0), "dev", (), 0),
        tunes_trial(Probe({"en-de": 0.5}, 900, {}), "profile", number=1),
        tunes_trial(measurement(50.0, 500), "dev", GPTQ4, 2),
    )
    assert [line.partition(":")[0] for line in found] == ["[1/4] baseline", f"[profile] {LABEL}", f"[2/4] {LABEL}"]


def test_a_timed_point_is_still_told_as_one() -> None:
    timed = tunes_trial(Speed({1: 81.0}, latency=0.5), "speed")
    assert any(line.startswith(f"[speed 1/1] {LABEL}: 81 tokens/s") for line in lines(timed))


def test_in_the_table_a_probe_is_called_one_and_has_its_divergence_for_a_score() -> None:
    row = TableRow(1, LABEL, "profile", "done", 0.0, 5.0, speed="0.015 nats from the baseline")
    assert trial_line(row, 1, Totals(4, 0), None) == f"[profile] {LABEL}: 0.015 nats from the baseline  in 5 s"
    console = Console(file=io.StringIO(), width=200, color_system=None)
    console.print(trial_table([row], Totals(4, 0), now=9.0))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"{LABEL} (profile)" in text
    assert "0.015 nats from the baseline, in 5 s" in text
    assert "0 of 4 trials" in text
