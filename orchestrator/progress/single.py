"""What the one-candidate command says while it measures: nothing of what is short, then now and then what it is at."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from orchestrator.number_format import spell_seconds
from orchestrator.progress.display import FIRST_SECONDS
from orchestrator.progress.training_lines import LINE_SECONDS
from orchestrator.progress.trial_table import STARTING, doing_text
from search_spaces.candidate import Candidate
from workers.evaluation.evaluate import Evaluated, evaluate
from workers.plan.evaluation_plan import EvaluationPlan
from workers.runtime.callbacks import Doing
from workers.runtime.stages import Stages
from workers.runtime.working import followed_by


class Followed:
    """An `evaluate` that knows what it is at."""

    def __init__(self) -> None:
        self.doing = STARTING

    def __call__(self, candidate: Candidate, split: str, plan: EvaluationPlan, stages: Stages) -> Evaluated:
        segments = len(plan.data[split].segments)
        stages.begins = lambda stage: self._does(Doing(stage, 0, segments if stage == "translate" else 0))
        with followed_by(lambda what, done, of: self._does(Doing(stages.current, done, of, what))):
            return evaluate(candidate, split, plan, stages, lambda done: self._does(Doing("translate", done, segments)))

    def _does(self, doing: Doing) -> None:
        self.doing = doing


@contextmanager
def follow_stages(
    say: Callable[[str], None], first: float = FIRST_SECONDS, between: float = LINE_SECONDS
) -> Iterator[Followed]:
    """Inside, a line says after `first` seconds what is done, and then one every `between` seconds."""
    work, over, began = Followed(), threading.Event(), time.monotonic()

    def tell() -> None:
        wait = first
        while not over.wait(wait):
            say(f"{doing_text(work.doing)}, {spell_seconds(time.monotonic() - began)} so far")
            wait = between

    thread = threading.Thread(target=tell, name="single-progress", daemon=True)
    thread.start()
    try:
        yield work
    finally:
        over.set()
        thread.join()
