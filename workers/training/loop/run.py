"""One run of a training: which steps are taken at which rate, and what happens between them. The engine computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from search_spaces.methods.trainers import Trainer
from workers.failures.training import diverged
from workers.runtime.training_progress import Progress, Trained
from workers.training.loop.checkpoints import TrainingState
from workers.training.loop.engine import TrainingEngine
from workers.training.loop.history import History
from workers.training.loop.schedules import rate_share


class TrainingRun:
    """A training under way. budget: in real tokens. state: as it begins where there is no checkpoint. held_out: scores
    translations of validation pairs (chrF). clock: in seconds."""

    def __init__(
        self,
        engine: TrainingEngine,
        *,
        step: Trainer,
        budget: int,
        state: TrainingState,
        held_out: Callable[[], float] | None,
        report: Callable[[Progress], None],
        clock: Callable[[], float],
    ) -> None:
        self.engine = engine
        self.trainer = step
        self.budget = budget
        self.state = state
        self.history = History(step.name, budget, report, clock)
        self._held_out = held_out
        self._clock = clock

    def through(self) -> Trained:
        """Train to the budget's end, and say what was done. Raises TrainingDiverged and DiskFull, and what the engine
        raises."""
        since = self._begin()
        while not self._is_done():
            if self._decay_is_next():
                self._look()
                if self._decay_is_next():
                    self._save()
                continue
            self._step()
            if self._is_done() or self.engine.look_is_due(self.state.steps):
                self._look()
        self._finish()
        curve, state = self.history.curve, self.state
        return Trained(
            tokens=state.tokens,
            steps=state.steps,
            curve=curve,
            notes=state.notes,
            chrf_before=curve[0].chrf,
            chrf_after=curve[-1].chrf,
            since=since,
        )

    def _begin(self) -> int:
        """Take up the newest checkpoint, or begin. Returns the tokens that were read before."""
        known = self.engine.load(None)
        if known is None:
            self.history.mark(0, self._score())
            self.state = replace(self.state, curve=self.history.curve)
            if self.engine.keeps_beginning:
                self._save()
        else:
            self.state = known
            self.history.begin(known.curve)
        self._beginning = self.state
        self.engine.start(self.state)
        return 0 if known is None else known.tokens

    def _is_done(self) -> bool:
        return self.state.tokens >= self.budget

    def _decay_is_next(self) -> bool:
        """Whether the next step is the first whose rate depends on the budget, and a checkpoint is to be written."""
        now, engine = self.state, self.engine
        is_next = now.decay_is_next(self.trainer.schedule, self.budget) and engine.saved_steps != now.steps
        return is_next and engine.is_worth_keeping()

    def _step(self) -> None:
        """Take the next optimizer step, or make the micro-batches smaller where memory does not suffice."""
        now, trainer = self.state, self.trainer
        share = rate_share(trainer.schedule, trainer.warm_up, now.steps, now.tokens, self.budget)
        read = self.engine.step(now, trainer.rate * now.rate_factor * share)
        self.state = read if isinstance(read, TrainingState) else now.advanced(trainer.schedule, self.budget, read)

    def _look(self) -> None:
        """See what the last steps came to: go back if it is not finite, else report it and keep it as is due."""
        seen = self.engine.read()
        if seen is None:
            return
        window, finite = seen
        if not finite:
            self._go_back()
            return
        tokens = self.state.tokens
        self.history.add(window, tokens)
        if self._is_done():
            return
        if self._held_out is not None and self.history.evaluation_is_due(tokens):
            self.history.mark(tokens, self._score())
        elif self.history.point_is_due(tokens):
            self.history.mark(tokens, None)
        if self.engine.checkpoint_is_due(self.state.steps):
            self._save()

    def _finish(self) -> None:
        """Score and keep the end, unless it was kept before."""
        last = self.history.curve[-1]
        unscored = self._held_out is not None and last.chrf is None
        if last.tokens < self.state.tokens or unscored:
            self.history.mark(self.state.tokens, self._score())
        if self.engine.saved_steps != self.state.steps and self.engine.is_worth_keeping():
            self._save()

    def _score(self) -> float | None:
        if self._held_out is None:
            return None
        began = self._clock()
        score = self._held_out()
        self.history.evaluation_s = self._clock() - began
        return score

    def _save(self) -> None:
        self.state = replace(self.state, curve=self.history.curve)
        self.engine.save(self.state)

    def _go_back(self) -> None:
        """To the last checkpoint, with half the rate; a second time raises TrainingDiverged."""
        bad, peak = self.state, self.trainer.rate * self.state.rate_factor
        if bad.rate_factor < 1.0:
            raise diverged(bad.steps, bad.tokens, peak)
        known = self.engine.load(bad.steps) or self._beginning
        note = (
            f"the loss or its gradient was not finite by step {bad.steps}: went back to step {known.steps} "
            f"with half the rate, {peak / 2:g} at its peak"
        )
        self.state = replace(
            known,
            rate_factor=0.5,
            micro_tokens=bad.micro_tokens,
            recomputing=bad.recomputing,
            notes=(*bad.notes, note),
        )
        self.history.begin(known.curve)
        self.engine.start(self.state)
