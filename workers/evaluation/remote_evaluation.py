"""A trial's work while its own process holds no GPU: in processes that Ray gives one for as long as they take.

So it is where several GPUs train one candidate: a trial that held a GPU while it waits for those of its training could
hold the one that the training waits for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import ray

from search_spaces.candidate import Candidate
from search_spaces.outcome import Failure, Race
from workers.checkpoints.model_files import read_config
from workers.evaluation.attempt import result_or_fault
from workers.evaluation.candidate_folder import artefact_key, build_candidate
from workers.evaluation.evaluate import Evaluated, Evaluation
from workers.failures.table import MachineFault
from workers.loading.plain_folder import base_folder
from workers.plan.evaluation_plan import EvaluationPlan
from workers.runtime.artefact_store import ArtefactStore
from workers.runtime.callbacks import ProgressCallback, ignore_progress
from workers.runtime.ray_process import Resources, in_own_process
from workers.runtime.stages import Stages
from workers.runtime.torch_environment import prepare_torch
from workers.runtime.warned import Hear, Warnings, heard_by, unheard_warning
from workers.translation.chat_template import template_of
from workers.translation.prompts import choose_prompt

T = TypeVar("T")
Measure = Callable[[Candidate, EvaluationPlan, Stages], T]


@dataclass(frozen=True, slots=True)
class RungState:
    """What is known of an evaluation after a rung; bytes: 0 when it is over."""

    over: bool
    positions: list[int]
    qualities: list[float]
    bytes: int


class RemoteEvaluation:
    """An Evaluation in a process of its own, as far as a trial sees; what would be raised there is a Failure, or the
    machine's fault, here.

    Before the first rung what trains is trained: from this process, whose parents are made in others.
    """

    def __init__(
        self,
        candidate: Candidate,
        split: str,
        plan: EvaluationPlan,
        stages: Stages,
        share: Resources,
        racing: bool,
        report: ProgressCallback = ignore_progress,
        warn: Hear = unheard_warning,
    ) -> None:
        self._candidate = candidate
        self._split = split
        self._plan = plan
        self._stages = stages
        self._share = share
        self._racing = racing
        self._report = report
        self._warn = warn
        self._actor: Any = None
        self._seen = RungState(False, [], [], 0)

    @property
    def over(self) -> bool:
        return self._seen.over

    @property
    def positions(self) -> list[int]:
        return self._seen.positions

    @property
    def qualities(self) -> list[float]:
        return self._seen.qualities

    @property
    def bytes(self) -> int:
        return self._seen.bytes

    def advance(self) -> Failure | MachineFault | None:
        """Translate the next rung; the Failure, or the machine's fault, when that did not go well."""
        if self._actor is None:
            warnings = Warnings(self._warn)
            with heard_by(warnings):
                make_trained(self._candidate, self._plan, self._share, self._stages, self._report)
            seconds = dict(self._stages.seconds)
            plan = within_process(self._plan)
            asked = (self._candidate, self._split, plan, seconds, self._racing, self._warn, warnings.texts)
            self._actor = ray.remote(**self._share.options())(_EvaluationProcess).remote(*asked)
        # Its process makes what is left to make, loads and translates.
        self._stages.begins("measure")
        seen: RungState | Failure | MachineFault = ray.get(self._actor.advance.remote())
        if not isinstance(seen, RungState):
            self._end()
            return seen
        self._seen = seen
        return None

    def evaluated(self, race: Race | None = None) -> Evaluated | Failure | MachineFault:
        """What was measured; its process then ends, and its GPU is free."""
        found: Evaluated | Failure | MachineFault = ray.get(self._actor.evaluated.remote(race))
        self._end()
        return found

    def _end(self) -> None:
        ray.kill(self._actor)
        self._actor = None


def within_process(plan: EvaluationPlan) -> EvaluationPlan:
    """The plan for a process that holds a GPU: what should be missing from the store it trains on that one alone, and
    waits for no others."""
    return replace(plan, training_processes=1)


def make_trained(
    candidate: Candidate,
    plan: EvaluationPlan,
    share: Resources,
    stages: Stages,
    report: ProgressCallback = ignore_progress,
) -> None:
    """Put in the store what the candidate's steps that train make, and so all that comes before them.

    This process starts each training and waits for it without a GPU; steps in between are made with the share.
    report: is told of the trainings' progress.
    """
    for length, step in enumerate(candidate.steps, start=1):
        prefix = candidate.prefix(length)
        if step.kind != "trainer" or _is_made(prefix, plan):
            continue
        with stages.stage("compress"):
            if length > 1:
                in_own_process(share, _make, candidate.prefix(length - 1), within_process(plan))
            build_candidate(prefix, plan, report)


def measure_remotely(
    measure: Measure[T],
    candidate: Candidate,
    plan: EvaluationPlan,
    stages: Stages,
    share: Resources,
    report: ProgressCallback = ignore_progress,
) -> T | Failure | MachineFault:
    """What `measure`, a function of a module, finds of the candidate in a process of its own, or the Failure or
    machine's fault. What trains is trained before, from this process."""
    make_trained(candidate, plan, share, stages, report)
    return in_own_process(share, _measured, measure, candidate, within_process(plan))


class _EvaluationProcess:
    """Lives in the process that holds the GPU. seconds, warned: of the stages before."""

    def __init__(
        self,
        candidate: Candidate,
        split: str,
        plan: EvaluationPlan,
        seconds: dict[str, float],
        racing: bool,
        warn: Hear,
        warned: tuple[str, ...],
    ) -> None:
        prepare_torch()
        self._stages = Stages(seconds=seconds)
        self._evaluation = Evaluation(candidate, split, plan, self._stages, racing=racing, warn=warn, warned=warned)

    def advance(self) -> RungState | Failure | MachineFault:
        return result_or_fault(self._advanced, self._stages)

    def evaluated(self, race: Race | None) -> Evaluated | Failure | MachineFault:
        return result_or_fault(lambda: self._evaluation.evaluated(race), self._stages)

    def _advanced(self) -> RungState:
        now = self._evaluation
        now.advance()
        return RungState(now.over, now.positions, now.qualities, 0 if now.over else now.bytes)


def _make(candidate: Candidate, plan: EvaluationPlan) -> None:
    build_candidate(candidate, plan)


def _measured(measure: Measure[T], candidate: Candidate, plan: EvaluationPlan) -> T | Failure | MachineFault:
    stages = Stages()
    return result_or_fault(lambda: measure(candidate, plan, stages), stages)


def _is_made(candidate: Candidate, plan: EvaluationPlan) -> bool:
    from workers.loading.load import load_tokenizer

    name = candidate.base.name
    base = base_folder(name, candidate.base.revision, plan.store, plan.trust_remote_code)
    template = template_of(load_tokenizer(base, plan.trust_remote_code))
    prompt = choose_prompt(name, read_config(base), template, plan.decoding.prompt)
    return ArtefactStore(plan.store).find(artefact_key(candidate, prompt, plan)) is not None
