"""The GPU actor: a Ray Tune trainable whose `step()` is one rung, and that reports only what the ledger has kept.

One process serves trial after trial (`reuse_actors`), so imports and the CUDA context are paid for once. A trial that
races asks the ledger's actor after each rung but the last whether to go on; Tune itself stops none.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import ray
from ray.tune import Trainable

from search_spaces.candidate import Candidate, candidate_from_json
from search_spaces.outcome import Failure, Measurement, Probe, Race, Speed, outcome_from_json
from workers.evaluation.attempt import kept_lines, result_or_fault, unless_machine
from workers.evaluation.evaluate import Evaluated, Evaluation, races
from workers.evaluation.preflight import lacking
from workers.evaluation.probe import probe
from workers.evaluation.remote_evaluation import RemoteEvaluation, measure_remotely
from workers.evaluation.shipped_speed import shipped_speed
from workers.evaluation.trial_lines import BegunTrial, EndedTrial, TrialLine, asked_of
from workers.failures.table import MachineFault
from workers.languages.codes import name_languages
from workers.plan.evaluation_plan import PROFILE_SPLIT, SPEED_SPLIT, EvaluationPlan, data_split
from workers.runtime.callbacks import Doing, ProgressCallback, at_most_every, counting
from workers.runtime.gpu_memory import MOST_LEFT_BEHIND, bytes_left_behind, leave_to_stay, release_memory
from workers.runtime.ray_process import Resources
from workers.runtime.stages import Stages
from workers.runtime.torch_environment import prepare_torch
from workers.runtime.warned import Hear, Warnings, heard_by
from workers.runtime.working import followed_by, now_and_then

LEDGER_NAMESPACE = "mtpareto"
# The ledger's actor hears of a training at most so often.
TELL_SECONDS = 2.0


@dataclass(slots=True)
class RunningTrial:
    """A trial that has begun. record: the part of its ledger line that is known. evaluation: None where nothing is
    scored: only the speed is asked for, or a probe."""

    record: BegunTrial
    candidate: Candidate
    evaluation: Evaluation | RemoteEvaluation | None
    stages: Stages


class CompressionTrial(Trainable):
    """config: what the searcher suggests: `number`, `candidate`, `split`, `choices`, `predicted_bytes`."""

    def setup(
        self,
        config: dict[str, Any],
        plan: EvaluationPlan,
        ledger: str,
        apart: Resources | None = None,
        packages: Sequence[str] = (),
    ) -> None:
        """plan: what every candidate is measured under. ledger: the name of the ledger's actor. apart: what other
        processes take that do this trial's work; None when this process does it. packages: what workers import."""
        prepare_torch()
        if apart is not None:
            # Ray hides no GPU from a process that asked for none.
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        name_languages(plan.languages)
        self._plan = plan
        self._apart = apart
        self._ledger = ray.get_actor(ledger, namespace=LEDGER_NAMESPACE)
        self._trial = config
        self._under_way: RunningTrial | None = None
        self._packages = packages
        self._ready = False
        self._settled = False

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial in the same process.

        Raises RuntimeError when GPU memory was left behind: the searcher proposes the trial again, for a new process.
        After a False, Tune would end the trial and tell the searcher nothing.
        """
        self._trial = new_config
        self._under_way = None
        if not self._settled:
            # The first trial has loaded the libraries, and nothing of it is under way.
            leave_to_stay()
            self._settled = True
        if (held := bytes_left_behind()) > MOST_LEFT_BEHIND:
            raise RuntimeError(
                f"{held / 2**30:.2f} GiB were left on the GPU by the trial before; another process takes this one"
            )
        return True

    def step(self) -> dict[str, Any]:
        """Translate the candidate's next rung. With its last one, or where the race ends it, wait until the ledger has
        the outcome on disk, and report it; otherwise report that it goes on. A fault of the machine's is reported to
        the search alone."""
        if not self._ready:
            # Before the ledger hears of the trial: it has not begun.
            lacks = lacking(self._plan, self._packages, [] if self._apart else ray.get_gpu_ids())
            if lacks is not None:
                return report_fault(self._trial, lacks)
            self._ready = True
        if self._under_way is None:
            known = unless_machine(self._begin, "ledger")
            if known is not None:
                return report_fault(self._trial, known) if isinstance(known, MachineFault) else report(known)
        assert self._under_way is not None
        under_way = self._under_way
        found: Evaluated | Speed | Probe | Failure | MachineFault | None
        if under_way.evaluation is None:
            stages = under_way.stages
            measure = self._probe if under_way.record["split"] == PROFILE_SPLIT else self._speed
            found = result_or_fault(lambda: measure(under_way.candidate, stages), stages, self._losing)
        else:
            found = self._rung(under_way, under_way.evaluation)
            if found is None:
                return going_on(under_way.record, len(under_way.evaluation.positions))
        self._under_way = None
        if isinstance(found, MachineFault):
            return report_fault(self._trial, found)
        record: EndedTrial = {
            **under_way.record,
            "outcome": (found.measurement if isinstance(found, Evaluated) else found).to_json(),
            "ended": _now(),
            "worker": _place(),
        }
        lines = kept_lines(found) if isinstance(found, Evaluated) else []
        kept = unless_machine(lambda: ray.get(self._ledger.append.remote(record, lines)), "ledger")
        return report_fault(self._trial, kept) if isinstance(kept, MachineFault) else report(kept)

    def _begin(self) -> TrialLine | None:
        """The ledger's line when it has this trial already; else None, and the trial is under way."""
        asked = asked_of(self._trial)
        known: TrialLine | None
        known, attempt = ray.get(self._ledger.begin.remote(asked))
        if known is not None:
            return known
        candidate, split = candidate_from_json(asked["candidate"]), asked["split"]
        stages = Stages(begins=self._begins)
        record: BegunTrial = {**asked, "attempt": attempt, "started": _now()}
        scored = split not in (SPEED_SPLIT, PROFILE_SPLIT)
        evaluation = self._evaluation(candidate, split, stages) if scored else None
        self._under_way = RunningTrial(record, candidate, evaluation, stages)
        return None

    def _evaluation(self, candidate: Candidate, split: str, stages: Stages) -> Evaluation | RemoteEvaluation:
        # Nothing but the search's own trials races.
        racing = races(candidate, split, self._plan)
        split = data_split(split)
        tell, warn = self._telling(), self._warning()
        if self._apart is None:
            done = counting(TELL_SECONDS, "translate", len(self._plan.data[split].segments), self._does)
            return Evaluation(
                candidate=candidate,
                split=split,
                plan=self._plan,
                stages=stages,
                progress=done,
                racing=racing,
                report=tell,
                warn=warn,
            )
        return RemoteEvaluation(
            candidate=candidate,
            split=split,
            plan=self._plan,
            stages=stages,
            share=self._apart,
            racing=racing,
            report=tell,
            warn=warn,
        )

    def _speed(self, candidate: Candidate, stages: Stages) -> Speed | Failure | MachineFault:
        tell = self._telling()
        # A speed has no notes: these are told, and that is all.
        with heard_by(Warnings(self._warning())):
            if self._apart is None:
                return shipped_speed(candidate, self._plan, stages, tell)
            return measure_remotely(shipped_speed, candidate, self._plan, stages, self._apart, tell)

    def _probe(self, candidate: Candidate, stages: Stages) -> Probe | Failure | MachineFault:
        tell = self._telling()
        with followed_by(now_and_then(TELL_SECONDS, self._works)), heard_by(Warnings(self._warning())):
            if self._apart is None:
                return probe(candidate, self._plan, stages, tell)
            return measure_remotely(probe, candidate, self._plan, stages, self._apart, tell)

    def _begins(self, stage: str) -> None:
        self._does(Doing(stage))

    def _does(self, doing: Doing) -> None:
        """Tells the ledger's actor what this trial does, and waits for no answer."""
        self._ledger.does.remote(self._trial["number"], doing)

    def _works(self, what: str, done: int, of: int) -> None:
        if self._under_way is not None:
            self._does(Doing(self._under_way.stages.current, done, of, what))

    def _telling(self) -> ProgressCallback:
        """Tells the ledger's actor how far this trial's training is, and waits for no answer."""
        ledger, number = self._ledger, self._trial["number"]
        return at_most_every(TELL_SECONDS, lambda progress: ledger.hear.remote(number, progress))

    def _warning(self) -> Hear:
        """Tells the ledger's actor of a warning, and waits for no answer."""
        ledger = self._ledger

        def warn(text: str) -> None:
            ledger.warn.remote(text)

        return warn

    def _rung(
        self, under_way: RunningTrial, evaluation: Evaluation | RemoteEvaluation
    ) -> Evaluated | Failure | MachineFault | None:
        """One rung further: what was measured, once that is all or the race has ended it; None when it goes on."""
        with followed_by(now_and_then(TELL_SECONDS, self._works)):
            failure = result_or_fault(evaluation.advance, under_way.stages, self._losing)
        if failure is not None:
            return failure
        race: Race | None = None
        if not evaluation.over:
            asked = (evaluation.positions, evaluation.qualities, evaluation.bytes)
            race = ray.get(self._ledger.judge.remote(under_way.record, *asked))
            if race is None:
                return None
        return result_or_fault(lambda: evaluation.evaluated(race), under_way.stages, self._losing)

    def _losing(self, why: str, fault: MachineFault | None) -> None:
        """Tells the ledger's actor why this worker gives its trial up; waits for no answer that does not come."""
        told = self._ledger.lose.remote(self._trial["number"], why, fault and fault.to_json())
        ray.wait([told], timeout=TELL_SECONDS)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing to save: finished work is in the ledger and the artefact store."""

    def load_checkpoint(self, checkpoint_dir: Any) -> None:
        """Nothing to load."""

    def cleanup(self) -> None:
        """Give the GPU's memory back before the process ends."""
        self._under_way = None
        release_memory()


def going_on(record: BegunTrial, segments: int) -> dict[str, Any]:
    """What Tune is told after a rung that ended nothing."""
    return {"done": False, "number": record["number"], "split": record["split"], "failed": 0, "segments": segments}


def report_fault(trial: Mapping[str, Any], fault: MachineFault) -> dict[str, Any]:
    """What Tune is told of a trial that the machine kept from being measured: JSON, for Tune flattens mappings."""
    return {
        "done": True,
        "number": trial["number"],
        "split": trial["split"],
        "failed": 1,
        "fault": json.dumps(fault.to_json()),
    }


def report(record: TrialLine) -> dict[str, Any]:
    """What Tune is told at a trial's end: plain numbers, present whether the trial was measured or failed.

    quality: projected where a race ended the trial, which is then `raced`, with its Race. sanity: pairs of a check and
    the share of hypotheses that failed it. divergence: in nats, nan where it was not measured. seconds: of all stages.
    pairs: of a language pair and its quality.
    """
    outcome = outcome_from_json(record["outcome"])
    told: dict[str, Any] = {"done": True, "number": record["number"], "split": record["split"], "failed": 1}
    if isinstance(outcome, Failure):
        told["failure"] = json.dumps(outcome.to_json())
    if isinstance(outcome, Speed):
        told |= {"failed": 0, "speed": spell_speed(outcome), "shipped": json.dumps(outcome.to_json())}
    if isinstance(outcome, Probe):
        told |= {
            "failed": 0,
            "divergence": outcome.nats,
            "bytes": outcome.bytes,
            "seconds": sum(outcome.seconds.values()),
        }
    if isinstance(outcome, Measurement):
        race = outcome.race
        told |= {
            "failed": 0,
            "quality": outcome.overall(next(iter(outcome.scores))) if race is None else race.projected,
            "bytes": outcome.footprint.bytes,
            "segments": outcome.segments,
            "raced": int(race is not None),
            # A list, for Tune flattens mappings.
            "sanity": [list(item) for item in outcome.sanity.items()],
            "divergence": outcome.nats,
            "seconds": sum(outcome.seconds.values()),
            "pairs": [[pair, score.value] for pair, score in next(iter(outcome.scores.values())).items()],
        }
        if race is not None:
            told["race"] = asdict(race)
    return told


def spell_speed(speed: Speed) -> str:
    """`81, 610, 3,120 tokens/s at batch 1, 8, 64`, or why it was not measured."""
    if speed.reason is not None:
        return f"speed not measured: {speed.reason}"
    return (
        ", ".join(f"{value:,.0f}" for value in speed.tokens_s.values())
        + " tokens/s at batch "
        + ", ".join(str(batch) for batch in speed.tokens_s)
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _place() -> str:
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return f"{socket.gethostname()}:{os.getpid()}" + (f":gpu{gpus}" if gpus else "")
