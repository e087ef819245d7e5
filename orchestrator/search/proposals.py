"""What to try next: the baseline, then anchors, or a profile and what it says, then what the sampler asks for, and last
the control arms, and on held-out data what dev left.

Knows neither Ray nor a clock; everything it has learnt can be given back to it from a ledger.
"""

from __future__ import annotations

import math
import random
import warnings
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import optuna
from optuna.trial import TrialState

from orchestrator.ledger.records import Key, TrialRecord
from orchestrator.results.control import TrainedPoint, best_trained
from orchestrator.results.findings import Finding, ProbeFinding, TrialFinding, finding_of, probe_of, speed_of
from orchestrator.results.limits import NO_LIMITS, Limits
from orchestrator.results.step_labels import short_label
from orchestrator.search.families import Families
from orchestrator.search.guidance import Fits, Guidance
from orchestrator.statistics.frontier import COST_APART, Objectives, on_frontier
from orchestrator.study.values import Target
from orchestrator.surrogate.row_costs import Memory, MemoryCosts, RowCosts, TimedCosts
from orchestrator.surrogate.step_seconds import TRAINS_TOKENS_S
from search_spaces.candidate import BaseModel, Candidate, refuse_idle_training, refuse_senseless_order
from search_spaces.errors import CandidateError
from search_spaces.methods.family import Family
from search_spaces.methods.registry import Step
from search_spaces.outcome import Failure, Speed
from search_spaces.predicted_size import predicted_bytes
from search_spaces.sizes.tensor_table import Checkpoint
from search_spaces.spaces.choices import Space, chosen_steps, every_choice
from search_spaces.spaces.enumeration import enumerate_rows
from search_spaces.spaces.offers import offer_for
from search_spaces.spaces.suggestions import NONE
from search_spaces.spaces.training_suggestions import TRAINING_CHOICES, is_sampled, raise_budget
from workers.evaluation.trial_lines import AskedTrial
from workers.plan.evaluation_plan import CONTROL_SPLITS, PROFILE_SPLIT, SPEED_SPLIT, data_split

SAMPLED_TRIES = 10
CONTROL, CONTROL_TEST = CONTROL_SPLITS

Waiting = Literal["wait", "done"]


@dataclass(frozen=True, slots=True)
class Proposal:
    """A trial to run: its number, candidate and split, and the sampler's choices ({} for a given candidate)."""

    number: int
    candidate: Candidate
    split: str
    choices: Mapping[str, Any]
    predicted_bytes: int
    why: Mapping[str, float] = field(default_factory=dict)
    """What is expected of it, where the search chose it by its profile."""
    reference: bool = False
    """Whether the study names it as a mark to judge others by."""

    @property
    def key(self) -> Key:
        return self.candidate.digest, self.split

    def to_json(self) -> AskedTrial:
        """The part of a ledger line that is known before the trial runs."""
        asked: AskedTrial = {
            "number": self.number,
            "candidate": self.candidate.to_json(),
            "split": self.split,
            "choices": dict(self.choices),
            "predicted_bytes": self.predicted_bytes,
        }
        if self.why:
            asked["why"] = dict(self.why)
        if self.reference:
            asked["reference"] = True
        return asked


class Proposer:
    """Proposes each candidate once and learns from every outcome.

    Invariant: every proposal ends in exactly one `tell`; with that many outcomes as `trials` on "dev", and then one
    for each control arm, for each candidate that is worth it on "test" and for their speed, where these are asked for,
    `propose` says "done".
    Speeds are measured one at a time, so that nothing runs beside them: last, and where speed is an objective those
    that tell of others before the profile chooses. worth: asked once the search on dev is over, the digests of these
    candidates; without it they are the frontier and the baseline.
    """

    def __init__(
        self,
        base: BaseModel,
        checkpoint: Checkpoint,
        space: Space,
        *,
        trials: int,
        seed: int,
        given: Sequence[tuple[Step, ...]] = (),
        references: Collection[tuple[Step, ...]] = (),
        start: tuple[Step, ...] = (),
        held_out: bool = False,
        speed: bool = False,
        known: Iterable[TrialRecord] = (),
        floor: float = 0.0,
        training: bool = False,
        vocabulary: bool = True,
        again: Iterable[TrialRecord] = (),
        numbers: int = 0,
        worth: Callable[[], Sequence[str]] | None = None,
        timable: Callable[[tuple[Step, ...]], bool] = lambda steps: True,
        guided: bool = False,
        aim: Target | None = None,
        max_bytes: int | None = None,
        least_rate: float = 0.0,
        control_arms: int = 0,
        fits: Fits | None = None,
        limits: Limits = NO_LIMITS,
        memory: Memory | None = None,
        tokens_s: float = TRAINS_TOKENS_S,
    ) -> None:
        """given: candidates to try right after the baseline. references: those of them that are marks to judge others
        by: they are scored on held-out data and timed too, whatever dev says of them. start: one of these, with which
        every candidate of the space begins; none is proposed before it is measured. again: an earlier driver's
        trials that are to be tried again, under their numbers. numbers: the first that is free, where that is known.
        timable: whether what the steps make can be timed here; where that holds of nothing but the baseline, nothing
        is. guided: whether candidates are chosen by a profile, where the space is known whole and is not so small that
        all of it is tried, the largest first; the sampler then has a share of them, unless there is an aim: then the
        smallest is sought that reaches it. max_bytes: no larger one is chosen by the profile. least_rate: see
        `Guidance`; where nothing is worth it the search ends. control_arms: of how many trained points the training is
        given to the uncompressed model too. fits: whether what steps make can keep the study's limits; what can't is
        not tried, but for the baseline and references. limits: what is asked of a model as it ships; where it is timed
        for that, what takes the place of what does not stand is scored and timed too. memory: bytes that what steps
        make takes as it ships, where that is an objective. tokens_s: of a training, before one was seen."""
        self._base = base
        self._references = frozenset(references)
        self._named = frozenset(given)
        self._start = start
        self._start_key = (Candidate(base, start).digest, "dev") if start else ("", "")
        self._baseline_key = (Candidate(base).digest, "dev")
        self._checkpoint = checkpoint
        self._space = space
        self._offer = offer_for(checkpoint, training, vocabulary)
        self._trials = trials
        self._held_out = held_out
        self._speed = speed
        self._floor = floor
        self._worth = worth
        self._timable = timable
        self._control_arms = control_arms
        self._leaves_out_controls = False
        self._last: list[Candidate] | None = None
        self._study = _new_study(_tpe(seed))
        self._random = random.Random(seed)
        self._found: dict[Key, TrialFinding | None] = {}
        self._candidates: dict[str, Candidate] = {}
        self._choices: dict[str, Mapping[str, Any]] = {}
        self._raised: set[str] = set()
        self._numbers = 0
        self._pending: dict[int, Proposal] = {}
        self._asked: dict[int, optuna.Trial] = {}
        self._again: deque[Proposal] = deque()
        self._families = Families()
        self._aim = aim
        self._fits = fits
        self._limits = limits
        self._limited = bool(limits) or limits.third is not None
        self._memory = memory
        self._tokens_s = tokens_s
        self._costs: RowCosts | None = None
        self._anchors = deque(space.anchors(self._offer))
        self._guidance = self._guidance_for(space, floor, max_bytes, least_rate) if guided else None
        if self._guidance is not None:
            # What stops by itself needs to know what to expect.
            own = trials - 1 - len(given)
            whole = None if aim is not None or least_rate else self._guidance.whole_space(own)
            if whole is not None:
                # Anchors may be of any size.
                self._anchors = deque((*whole, *(self._anchors if max_bytes is None else ())))
                self._guidance = None
            else:
                # The ladder takes the others' place; those that train do it in ways that have no rows.
                self._anchors = deque(choices for choices in self._anchors if _trains(choices))
        self.aim_is_met = self.gain_is_spent = False
        # Candidates whose probe ended well.
        self._sound: list[Candidate] = []
        # Trials on dev that the guidance has not heard of.
        self._told: list[tuple[tuple[Step, ...], TrialFinding | None, int]] = []
        self.refused: list[tuple[str, str]] = []
        self.references_refused: list[tuple[str, str]] = []
        self.exhausted = False
        for record in known:
            self._learn(record)
        self._numbers = max(self._numbers, numbers)
        for record in sorted(again, key=lambda record: record.number):
            self._renew(record)
        self._given = deque([(), *given])

    def propose(self, left: float = math.inf) -> Proposal | Waiting:
        """The next trial; "wait" while outcomes are due that decide it; "done" when there is nothing left.

        left: seconds that a trial may take. The profile then chooses no training that is expected to take longer.
        """
        if self._again:
            return self._again.popleft()
        if not self._over():
            if (named := self._from_given()) is not None:
                return named
            if self._start_is_under_way:
                return "wait"
            proposal = self._guided(left)
            if self.aim_is_met or self.gain_is_spent:
                return self.propose()
            proposal = proposal or self._from_anchors()
            if proposal is None:
                proposal = self._with_more_training() or self._sampled()
            if proposal is not None:
                return proposal
            self.exhausted = True
        if any(proposal.split == "dev" for proposal in self._pending.values()):
            return "wait"
        running = {proposal.key for proposal in self._pending.values()}
        for split in (CONTROL, "test", CONTROL_TEST):
            for candidate in self._without(split):
                if (candidate.digest, split) not in running:
                    return self._issue(candidate, split, {}, predicted_bytes(self._checkpoint, candidate.steps), None)
        if self._pending:
            return "wait"
        for candidate in self._without(SPEED_SPLIT):
            return self._issue(candidate, SPEED_SPLIT, {}, predicted_bytes(self._checkpoint, candidate.steps), None)
        return "done"

    def foreseen(self) -> list[Proposal]:
        """The trials that come before any that the profile or the sampler chooses, in their order and the profile's
        probes last, as far as they have not begun; nothing is proposed by asking."""
        found = list(self._again)
        anchors = (self._steps_of(choices) for choices in self._anchors)
        # Trained anchors follow what the profile chooses.
        for steps in (*self._given, *(() if self._guidance else anchors)):
            if len(found) >= self._trials:
                break
            made = self._possible(steps)
            if made is not None and made[0].digest not in {proposal.candidate.digest for proposal in found}:
                number, named = self._numbers + len(found), steps in self._references
                found.append(Proposal(number, made[0], "dev", {}, made[1], reference=named))
        probes = [Candidate(self._base, steps) for steps in self._guidance.probes] if self._guidance else []
        due = [(one, PROFILE_SPLIT) for one in probes if self._is_to_probe(one)]
        for candidate, split in (*due, *((one, SPEED_SPLIT) for one in self._to_time())):
            size = predicted_bytes(self._checkpoint, candidate.steps)
            found.append(Proposal(self._numbers + len(found), candidate, split, {}, size))
        return found

    def tell(self, number: int, found: Finding | None, failure: Failure | None = None) -> Family | None:
        """What a trial found, or None when it failed; a second telling of one trial changes nothing.

        Returns the family that the failure takes out of the search, so that no further member of it is proposed.
        """
        proposal = self._pending.pop(number, None)
        if proposal is None:
            return None
        scored = found if isinstance(found, TrialFinding) else None
        self._found[proposal.key] = scored
        if proposal.split == PROFILE_SPLIT:
            self._probed(proposal.candidate, found if isinstance(found, ProbeFinding) else None)
        if proposal.split == SPEED_SPLIT:
            self._timed(proposal.candidate, found if isinstance(found, Speed) else None)
        if proposal.split == "dev" or (self._limited and proposal.split == SPEED_SPLIT):
            self._last = None
        if (asked := self._asked.pop(number, None)) is not None:
            _tell_study(self._study, asked, scored)
        if proposal.split == "dev":
            self._guide_with(proposal.candidate.steps, scored, proposal.predicted_bytes)
        if failure is None or proposal.split in CONTROL_SPLITS:
            return None
        return self._families.learn(failure, self._worked)

    def stop_searching(self) -> None:
        """Begin no further candidate on dev; what has begun may end, and what follows the search follows."""
        self._trials = min(self._trials, self._started("dev"))

    def leave_out_controls(self) -> None:
        """Begin no further control arm; those that have begun may end."""
        self._leaves_out_controls = True

    @property
    def left_out_controls(self) -> list[Candidate]:
        """The control arms that were left out."""
        arms = self.control_candidates() if self._leaves_out_controls else []
        return [candidate for candidate in arms if not self._is_measured(candidate, CONTROL)]

    @property
    def control_seconds(self) -> float:
        """What the control arms would take, were the search over now: what the trials took whose training they repeat,
        the frontier's scores taken at their word."""
        due = (
            arm
            for arm in best_trained(self._scored(self.frontier()), self._control_arms)
            if not self._is_measured(Candidate(self._base, arm.steps), CONTROL)
        )
        return sum(arm.seconds for arm in due)

    def control_candidates(self) -> list[Candidate]:
        """The control arms that the search ends with, the best first: empty until it is over."""
        if not self._control_arms or not self._over() or self._last is None:
            return []
        return [Candidate(self._base, arm.steps) for arm in best_trained(self._scored(self._last), self._control_arms)]

    @property
    def searching(self) -> bool:
        """Whether candidates are still to be begun on dev."""
        return not self._over()

    def propose_again(self, number: int) -> None:
        """Have a pending trial proposed once more, under its number, before anything new."""
        self._again.append(self._pending[number])

    def finished(self) -> bool:
        """Whether every trial asked for has ended."""
        after = (CONTROL, "test", CONTROL_TEST, SPEED_SPLIT)
        return self._over() and not self._pending and not any(map(self._without, after))

    @property
    def nothing_to_time(self) -> bool:
        """Whether speeds are asked for, and of what is worth timing only the baseline can be."""
        worth = [candidate.steps for candidate in self._last or [] if candidate.steps]
        return self._speed and bool(worth) and not any(self._timable(steps) for steps in worth)

    def due(self, split: str) -> int:
        """How many trials of the test or of the speed have not ended, those under way among them."""
        if split == SPEED_SPLIT and not self._over():
            return len(self._to_time())
        return len(self._without(split))

    @property
    def baseline_failed(self) -> bool:
        """Whether the uncompressed model itself could not be measured: no candidate can be compared with anything."""
        return self._baseline_key in self._found and self._found[self._baseline_key] is None

    @property
    def start_failed(self) -> bool:
        """Whether what the space's candidates begin with could not be measured: none of them could be made either."""
        begun = {proposal.key for proposal in self._pending.values()}
        return bool(self._start) and self._start_key not in begun and self._found.get(self._start_key) is None

    def smallest_in_aim(self) -> Candidate | None:
        """The smallest candidate that kept what is aimed at and may stand; None without an aim, or a baseline."""
        baseline = self._found.get(self._baseline_key)
        if self._aim is None or baseline is None:
            return None
        reached = [
            (found.loss.bytes, digest)
            for (digest, split), found in self._found.items()
            if split == "dev" and found is not None and found.may_stand(baseline, self._floor)
            and (digest == self._baseline_key[0] or self._kept(found, baseline) >= self._aim.share)
        ]  # fmt: skip
        return self._candidates[min(reached)[1]] if reached else None

    def pending(self, number: int) -> Proposal | None:
        """The proposal of a trial that has not ended."""
        return self._pending.get(number)

    def under_way(self) -> list[Candidate]:
        """The candidates of all trials that have not ended."""
        return [proposal.candidate for proposal in self._pending.values()]

    def bytes_to_make(self, candidate: Candidate) -> int:
        """The predicted bytes of all artefacts on the way to a candidate, each prefix of its steps being one."""
        return sum(self.prefix_bytes(candidate, length) for length in range(1, len(candidate.steps) + 1))

    def prefix_bytes(self, candidate: Candidate, length: int) -> int:
        """The predicted bytes of the artefact of a candidate's first steps."""
        return predicted_bytes(self._checkpoint, candidate.steps[:length])

    def measured(self) -> list[Candidate]:
        """The candidates that did not fail on dev."""
        return [self._candidates[digest] for (digest, split), found in self._found.items() if found and split == "dev"]

    def frontier(self) -> list[Candidate]:
        """The candidates on the dev frontier, and the baseline, from the largest to the smallest: those measured whole,
        within every sanity limit and not below the floor, that no other of them dominates, scores taken at their word,
        and costs in a third objective as they are expected."""
        baseline = self._found.get(self._baseline_key)
        done = [
            (key[0], self._with_cost(key[0], found.loss))
            for key, found in self._found.items()
            if key[1] == "dev" and found is not None and found.may_stand(baseline, self._floor)
        ]
        kept = on_frontier([loss for _, loss in done])
        chosen = [
            (loss.bytes, self._candidates[digest])
            for (digest, loss), keep in zip(done, kept, strict=True)
            if keep or not self._candidates[digest].steps
        ]
        return [candidate for _, candidate in sorted(chosen, key=lambda item: -item[0])]

    def standing(self) -> list[Candidate]:
        """What would be scored on held-out data and kept, were the search over now: the frontier, and what is not told
        apart from it."""
        if self._last is not None:
            return self._last
        chosen = self.frontier() if self._worth is None else [self._candidates[of] for of in self._worth()]
        if self._limits.third is not None:
            # Until it is timed nothing stands for what it may cost.
            chosen += [one for one in self._worth_timing() if one not in chosen]
        return [*chosen, *(one for one in self.measured() if one.steps in self._references and one not in chosen)]

    def _worth_timing(self) -> list[Candidate]:
        """What may be on the frontier for its cost: all that may stand where nothing is known of costs."""
        if self._costs is not None and self._costs.ready:
            return self.frontier()
        baseline = self._found.get(self._baseline_key)
        return [
            self._candidates[digest]
            for (digest, split), found in self._found.items()
            if split == "dev" and found is not None and found.may_stand(baseline, self._floor)
        ]

    def _with_cost(self, digest: str, loss: Objectives) -> Objectives:
        if self._costs is None or not self._costs.ready:
            return loss
        log = self._costs.of(self._candidates[digest].steps, loss.bytes)
        # In steps of what is told apart, of which dominance knows the order alone.
        return loss._replace(cost=float(round(log / math.log(COST_APART))))

    def _over(self) -> bool:
        """Whether no more candidates are to be tried on dev."""
        failed = self.baseline_failed or (self.start_failed and not self._given)
        return self.exhausted or failed or self._started("dev") >= self._trials

    def _started(self, split: str) -> int:
        return sum(key[1] == split for key in self._found) + sum(p.split == split for p in self._pending.values())

    def _from_given(self) -> Proposal | None:
        """The first that the study names and that can be made; what begins as the space's candidates do waits for what
        those begin with, since two trials would both make it."""
        waiting: list[tuple[Step, ...]] = []
        proposal = None
        while self._given and proposal is None:
            steps = self._given.popleft()
            if self._start_is_under_way and self._begins(steps):
                waiting.append(steps)
            else:
                proposal = self._new(steps, {}, None)
        self._given.extendleft(reversed(waiting))
        return proposal

    @property
    def _start_is_under_way(self) -> bool:
        return any(one.key == self._start_key for one in self._pending.values())

    def _begins(self, steps: tuple[Step, ...]) -> bool:
        return steps[: len(self._start)] == self._start

    def _guidance_for(self, space: Space, floor: float, max_bytes: int | None, least_rate: float) -> Guidance | None:
        rows = enumerate_rows(space, self._offer, self._checkpoint)
        if rows is None or len(rows.bytes) == 1:
            return None
        target, whole = self._aim.share if self._aim else None, self._checkpoint.bytes
        if self._limits.third == "memory" and self._memory is not None:
            self._costs = MemoryCosts(rows, whole, self._memory)
        elif self._limits.third == "speed":
            self._costs = TimedCosts(rows, self._timable)
        return Guidance(
            rows, whole, floor, target, max_bytes, self._fits, least_rate, self._costs, self._tokens_s, self._start
        )

    def _guided(self, left: float) -> Proposal | Literal["wait"] | None:
        """A probe of the profile, what is timed for it, then what the profile says; "wait" while it or the baseline is
        not measured whole. None where the sampler has its turn, or there is no profile."""
        guidance = self._guidance
        if guidance is None:
            return None
        for steps in guidance.probes:
            candidate = Candidate(self._base, steps)
            if self._is_to_probe(candidate):
                return self._issue(candidate, PROFILE_SPLIT, {}, predicted_bytes(self._checkpoint, steps), None)
        if not guidance.ready or self._baseline_key not in self._found:
            return "wait"
        if to_time := self._to_time():
            # Nothing may run beside it.
            if self._pending:
                return "wait"
            return self._issue(to_time[0], SPEED_SPLIT, {}, predicted_bytes(self._checkpoint, to_time[0].steps), None)
        # Those that train take minutes of a GPU, for a point that a smaller one makes needless.
        self._anchors = deque(choices for choices in self._anchors if self._may_gain(guidance, choices))
        pending = [proposal.candidate.steps for proposal in self._pending.values() if proposal.split == "dev"]
        others = [steps for steps in pending if steps not in self._named]
        if guidance.leaves_to_others(self._started("dev"), bool(self._anchors), others):
            return None
        while (found := guidance.propose(pending, left)) is not None:
            choices, steps, reason = found
            if (proposal := self._chosen(choices, reason.to_json())) is not None:
                return proposal
            guidance.close(steps)
        if self._aim is not None or guidance.settled:
            # What runs may yet change what is expected of the others.
            if pending:
                return "wait"
            self.aim_is_met, self.gain_is_spent = self._aim is not None, guidance.settled
            self._trials = self._started("dev")
        return None

    def _is_to_probe(self, candidate: Candidate) -> bool:
        key = (candidate.digest, PROFILE_SPLIT)
        return key not in self._found and all(proposal.key != key for proposal in self._pending.values())

    def _to_time(self) -> list[Candidate]:
        """What has still to be timed for the profile, were it known what it waits for; empty without one."""
        wanted = [] if self._costs is None or self._guidance is None else self._costs.to_time
        candidates = [Candidate(self._base, steps) for steps in wanted]
        return [one for one in candidates if (one.digest, SPEED_SPLIT) not in self._found]

    def _timed(self, candidate: Candidate, speed: Speed | None) -> None:
        if self._costs is not None:
            self._costs.timed(candidate.steps, self._limits.cost(speed))

    def _probed(self, candidate: Candidate, found: ProbeFinding | None) -> None:
        if found is not None:
            self._sound.append(candidate)
        if self._guidance is not None:
            self._guidance.probed(candidate.steps, *(found or (None, 0.0)))

    def _guide_with(self, steps: tuple[Step, ...], found: TrialFinding | None, size: int) -> None:
        """Tell the guidance of a trial on dev, and of those before the baseline once that is known."""
        if self._guidance is None:
            return
        self._told.append((steps, found, size))
        baseline = self._found.get(self._baseline_key)
        if baseline is None or baseline.loss.quality <= 0:
            return
        for one, result, predicted in self._told:
            kept = None if result is None else self._kept(result, baseline)
            self._guidance.tell(
                one,
                predicted if result is None else result.loss.bytes,
                kept,
                None if result is None or not one else result.nats,
                0.0 if result is None else result.seconds,
                result is not None and result.may_stand(baseline, self._floor),
                given=one in self._named,
            )
        self._told.clear()

    def _kept(self, found: TrialFinding, baseline: TrialFinding) -> float:
        """The share of the baseline's quality: of the mean over pairs, or of the pair that keeps least where that is
        the aim."""
        if self._aim is not None and self._aim.of_worst and found.by_pair.keys() == baseline.by_pair.keys():
            return min(found.by_pair[pair] / baseline.by_pair[pair] for pair in baseline.by_pair)
        return found.loss.quality / baseline.loss.quality

    def _from_anchors(self) -> Proposal | None:
        while self._anchors:
            if (proposal := self._chosen(self._anchors.popleft())) is not None:
                return proposal
        return None

    def _may_gain(self, guidance: Guidance, choices: Mapping[str, Any]) -> bool:
        """Whether what the profile led to leaves an anchor something to gain; what can't be is refused in its turn."""
        try:
            steps = self._steps_of(self._told_of_training(choices))
            return guidance.may_gain(steps, predicted_bytes(self._checkpoint, steps))
        except CandidateError:
            return True

    def _with_more_training(self) -> Proposal | None:
        """The first candidate of the frontier that can be trained for longer, with the next budget; each once."""
        for candidate in self.frontier():
            if candidate.digest in self._raised:
                continue
            self._raised.add(candidate.digest)
            choices = raise_budget(self._choices.get(candidate.digest, {}))
            if choices is not None and (proposal := self._chosen(choices)) is not None:
                return proposal
        return None

    def _sampled(self) -> Proposal | None:
        """What the sampler asks for; where it only repeats itself, anything that is new; None when nothing is."""
        for _ in range(SAMPLED_TRIES):
            if (proposal := self._asked_once()) is not None:
                return proposal
        for choices, steps in every_choice(self._space, self._offer, self._shuffled):
            if (proposal := self._new(self._start + steps, choices, None)) is not None:
                self._asked[proposal.number] = self._with_choices(choices)
                return proposal
        return None

    def _chosen(self, choices: Mapping[str, Any], why: Mapping[str, float] | None = None) -> Proposal | None:
        """What the sampler answers when it is given these choices; None when that is known, pending or impossible."""
        whole = self._told_of_training(choices)
        if not is_sampled(whole):
            return self._new(self._steps_of(whole), whole, None, why)
        self._study.enqueue_trial(whole)
        return self._asked_once(why)

    def _steps_of(self, choices: Mapping[str, Any]) -> tuple[Step, ...]:
        return self._start + chosen_steps(self._space, choices, self._offer)

    def _told_of_training(self, choices: Mapping[str, Any]) -> dict[str, Any]:
        """The choices, and that nothing is trained in the ways that they say nothing of, where training is offered."""
        return {**(dict.fromkeys(TRAINING_CHOICES, NONE) if self._offer.training else {}), **choices}

    def _asked_once(self, why: Mapping[str, float] | None = None) -> Proposal | None:
        """One question to the sampler; None when its answer is known, pending or impossible."""
        asked = self._study.ask()
        proposal = self._new(self._start + self._space.steps(asked, self._offer), asked.params, asked, why)
        if proposal is None:
            self._study.tell(asked, state=TrialState.FAIL)
        return proposal

    def _shuffled(self, values: Sequence[Any]) -> Sequence[Any]:
        return self._random.sample(values, len(values))

    def _with_choices(self, choices: Mapping[str, Any]) -> optuna.Trial:
        self._study.enqueue_trial(dict(choices))
        asked = self._study.ask()
        self._space.steps(asked, self._offer)
        return asked

    def _new(
        self,
        steps: tuple[Step, ...],
        choices: Mapping[str, Any],
        asked: optuna.Trial | None,
        why: Mapping[str, float] | None = None,
    ) -> Proposal | None:
        made = self._possible(steps)
        return None if made is None else self._issue(made[0], "dev", choices, made[1], asked, why)

    def _possible(self, steps: tuple[Step, ...]) -> tuple[Candidate, int] | None:
        """The candidate and its predicted bytes; None where it is known, pending or can't be."""
        try:
            refuse_senseless_order(steps)
            candidate = Candidate(self._base, steps)
            key = (candidate.digest, "dev")
            if key in self._found or any(key == proposal.key for proposal in self._pending.values()):
                return None
            if (family := self._families.of(steps)) is not None:
                self._refuse(steps, f"{family.describe()} failed, and this model can't take it")
                return None
            refuse_idle_training(steps)
            size = predicted_bytes(self._checkpoint, steps)
            mark = not steps or steps in self._references
            if not mark and self._fits is not None and not self._fits(steps, size):
                self._refuse(steps, "it takes more memory than the study's max_memory, whatever runs it")
                return None
            return candidate, size
        except CandidateError as error:
            self._refuse(steps, str(error))
            return None

    def _refuse(self, steps: tuple[Step, ...], why: str) -> None:
        if (refused := (str(steps), why)) not in self.refused:
            self.refused.append(refused)
            if steps in self._references:
                self.references_refused.append((short_label(Candidate(self._base, steps)), why))

    def _scored(self, candidates: Sequence[Candidate]) -> list[TrainedPoint]:
        """The compressed ones of these with what they keep; empty where there is no baseline to keep anything of."""
        baseline = self._found.get(self._baseline_key)
        if baseline is None or baseline.loss.quality <= 0:
            return []
        found = ((candidate.steps, self._found.get((candidate.digest, "dev"))) for candidate in candidates)
        return [
            TrainedPoint(steps, one.loss.quality / baseline.loss.quality, one.loss.bytes, one.seconds)
            for steps, one in found
            if one is not None
        ]

    def _worked_on_dev(self, candidate: Candidate) -> bool:
        """Whether a control arm was measured, and did not fail."""
        return any(self._found.get((candidate.digest, split)) is not None for split in (CONTROL, data_split(CONTROL)))

    def _is_measured(self, candidate: Candidate, split: str) -> bool:
        """Whether a control arm's trial has ended, or the search has measured the same candidate whole."""
        same = self._found.get((candidate.digest, data_split(split)))
        return (candidate.digest, split) in self._found or (same is not None and not same.raced)

    def _without(self, split: str) -> list[Candidate]:
        """What has still to be scored on held-out data, its speed or its control to be measured, were the search over
        now."""
        held_out, arms = self._held_out, bool(self._control_arms)
        if not {"test": held_out, SPEED_SPLIT: self._speed, CONTROL: arms, CONTROL_TEST: arms and held_out}[split]:
            return []
        if self._last is None:
            self._last = self.standing()
        if split == CONTROL:
            left_out = self._leaves_out_controls
            begun = {proposal.key for proposal in self._pending.values()}
            return [
                candidate
                for candidate in self.control_candidates()
                if not self._is_measured(candidate, CONTROL)
                and not (left_out and (candidate.digest, CONTROL) not in begun)
            ]
        if split == CONTROL_TEST:
            on_dev = [one for one in self.control_candidates() if self._worked_on_dev(one)]
            return [candidate for candidate in on_dev if not self._is_measured(candidate, CONTROL_TEST)]
        if split == SPEED_SPLIT and self.nothing_to_time and not self._limited:
            return []
        return [candidate for candidate in self._last if (candidate.digest, split) not in self._found]

    def _issue(
        self,
        candidate: Candidate,
        split: str,
        choices: Mapping[str, Any],
        size: int,
        asked: optuna.Trial | None,
        why: Mapping[str, float] | None = None,
    ) -> Proposal:
        named = candidate.steps in self._references
        proposal = Proposal(self._numbers, candidate, split, choices, size, why or {}, named)
        self._numbers += 1
        self._pending[proposal.number] = proposal
        self._candidates[candidate.digest] = candidate
        if choices:
            self._choices[candidate.digest] = dict(choices)
        if asked is not None:
            self._asked[proposal.number] = asked
        return proposal

    def _renew(self, record: TrialRecord) -> None:
        """Have a trial on dev that an earlier driver could not measure proposed first; what is scored on held-out data
        is the frontier's business."""
        if record.split != "dev" or record.key in self._found:
            return
        proposal = Proposal(
            record.number,
            record.candidate,
            "dev",
            dict(record.choices),
            record.predicted_bytes,
            record.why,
            record.candidate.steps in self._references,
        )
        self._numbers = max(self._numbers, record.number + 1)
        self._pending[record.number] = proposal
        self._candidates[record.candidate.digest] = record.candidate
        if record.choices and is_sampled(record.choices):
            asked = self._with_choices(record.choices)
            if asked.params == dict(record.choices):
                self._choices[record.candidate.digest] = dict(record.choices)
                self._asked[record.number] = asked
            else:
                self._study.tell(asked, state=TrialState.FAIL)
        self._again.append(proposal)

    def _worked(self, family: Family) -> bool:
        """Whether a candidate of the family has been measured, or probed."""
        return any(family.has(candidate.steps) for candidate in (*self.measured(), *self._sound))

    def _learn(self, record: TrialRecord) -> None:
        if record.split == PROFILE_SPLIT:
            self._probed(record.candidate, probe_of(record.outcome))
        if record.split == SPEED_SPLIT:
            self._timed(record.candidate, speed_of(record.outcome))
        found = finding_of(record.measurement)
        self._found[record.key] = found
        self._candidates[record.candidate.digest] = record.candidate
        self._numbers = max(self._numbers, record.number + 1)
        if isinstance(record.outcome, Failure) and record.split not in CONTROL_SPLITS:
            self._families.learn(record.outcome, self._worked)
        if record.choices and is_sampled(record.choices):
            asked = self._with_choices(record.choices)
            # Choices of a space that has changed since mean something else now: nothing is learnt from them.
            same = asked.params == dict(record.choices)
            _tell_study(self._study, asked, found if same else None)
            if same:
                self._choices[record.candidate.digest] = record.choices
        if record.split == "dev":
            self._guide_with(record.candidate.steps, found, record.predicted_bytes)


def _trains(choices: Mapping[str, Any]) -> bool:
    return any(choices.get(name, NONE) != NONE for name in TRAINING_CHOICES) or "distill.budget" in choices


def _tpe(seed: int) -> optuna.samplers.BaseSampler:
    with warnings.catch_warnings():
        # `group` has been marked experimental since Optuna 2.8; the conditional spaces here need it.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(multivariate=True, group=True, constant_liar=True, seed=seed)


def _new_study(sampler: optuna.samplers.BaseSampler) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)


def _tell_study(study: optuna.Study, asked: optuna.Trial, found: TrialFinding | None) -> None:
    if found is None:
        study.tell(asked, state=TrialState.FAIL)
    else:
        study.tell(asked, [found.loss.quality, float(found.loss.bytes)])
