"""What Tune's loop tells us of its trials; every hook only puts a word in a queue, so none can raise into the loop.

A trial that ended in an error is the searcher's business: it may be tried again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.tune import Callback

from orchestrator.finish.mirroring import MirrorThread
from orchestrator.progress.display import ProgressDisplay
from orchestrator.progress.trial_table import BASELINE
from orchestrator.results.resampling import Resampling
from orchestrator.results.step_labels import short_steps
from search_spaces.methods.registry import step_from_json
from search_spaces.outcome import Race
from workers.plan.evaluation_plan import CONTROL_SPLITS, PROFILE_SPLIT, RACED_SPLIT, SPEED_SPLIT


class TrialWatcher(Callback):
    """Passes starts and ends on to the table, and nudges whoever reads the ledger as it grows."""

    def __init__(
        self,
        progress: ProgressDisplay,
        *readers: MirrorThread | Resampling,
        due: Callable[[str], int] = lambda split: 0,
    ) -> None:
        """due: how many trials of a split that follows the search have not ended."""
        self._progress = progress
        self._due = due
        self._readers = readers

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks for a restore that this project does from the ledger instead."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        config = trial.config
        steps = [step_from_json(step) for step in config["candidate"]["steps"]]
        split = config["split"]
        due = 0 if split in (RACED_SPLIT, PROFILE_SPLIT, *CONTROL_SPLITS) else self._due(split)
        label = " + ".join(step.describe() for step in steps) or BASELINE
        self._progress.started(config["number"], label, split, due, short_steps(steps))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        result = trial.last_result or {}
        if "fault" in result:
            # The trial has not ended: the searcher has it tried again, or stops.
            return
        race = Race(**result["race"]) if result.get("race") else None
        number = trial.config["number"]
        split, failed = trial.config["split"], result.get("failed", 1)
        if split == SPEED_SPLIT and not failed:
            self._progress.timed(number, result.get("speed"))
        elif split == PROFILE_SPLIT and not failed:
            self._progress.timed(number, f"{result['divergence']:.2g} nats from the baseline")
        else:
            self._progress.ended(number, result.get("quality"), result.get("bytes"), race)
        for reader in self._readers:
            reader.nudge()
