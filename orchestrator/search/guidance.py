"""The search of a space that is known whole: which options to probe, what their damage says of the others, and which
candidate is worth measuring next.

Pure: it learns from tellings alone, so that a resumed study proposes what an uninterrupted one would have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.statistics.frontier import COST_APART
from orchestrator.surrogate.divergence_model import LEAST
from orchestrator.surrogate.guide import Guide
from orchestrator.surrogate.row_costs import RowCosts
from orchestrator.surrogate.rows import (
    REMOVED,
    Array,
    Rows,
    Steps,
    bits_of,
    by_kind,
    in_one_group_size,
    is_mixed,
    kind_of,
    options_alone,
)
from orchestrator.surrogate.step_seconds import TRAINS_TOKENS_S, StepSeconds
from search_spaces.methods.registry import Step
from search_spaces.spaces.axes import QUANTIZER, TRAINING, trainings
from search_spaces.spaces.choices import Choices
from search_spaces.spaces.training_suggestions import RISE, SHORTEST

# Steps and their bytes on disk in; whether what they make can keep a study's limits out.
Fits = Callable[[Steps, int], bool]

# A space of so few candidates is tried whole, where the trials nearly do for that.
FEW = 24
# The damage of 8 bits beside that of 4: of weights and of embeddings 1/44 to 1/100, as recorded of two models (5
# million and half a billion parameters). The grid's errors, squared, are 1/289: not all damage shrinks with them.
EIGHT_BITS = 1.0 / 60.0
# Nats that a training adds to what it leaves of the others' damage: weights of 8 bits of half a billion parameters were
# at 0.003, and after 1 million tokens at 0.041.
SHAKEN = 0.03
# The share of the baseline's quality above which a larger point is seldom told from a smaller one.
NEARLY_ALL = 0.98
# The profile is believed as long as it orders what was measured at least so well, once there is that much.
LEAST_TAU, ENOUGH = 0.5, 12
# Every so many candidates another is asked instead, more often once the profile is not believed.
SAMPLED_EVERY, SAMPLED_OFTEN = 8, 2


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a candidate is proposed.

    kept: the share of the baseline's quality that it is expected to keep. low, high: between these it lies with 90 %;
    they may be below 0 and above 1. gain: the hypervolume over (natural log of bytes, share), and natural log of cost
    where there is a third objective, that measuring it is expected to add, times its odds to stand. seconds: what its
    trial is expected to take.
    """

    kept: float
    low: float
    high: float
    gain: float
    seconds: float

    def to_json(self) -> dict[str, float]:
        """Its fields by name, to four digits: `why` of a ledger line."""
        return {name: float(f"{getattr(self, name):.4g}") for name in ("kept", "low", "high", "gain", "seconds")}


class Guidance:
    """What is known of a space's rows, and what to try next among them.

    A row is known by the steps of its candidate. Tell it of every probe with `probed` and of every trial on dev with
    `tell`; once it is `ready`, ask it with `propose`. What has no row, such as a candidate that trains, may be told
    too: it bounds what a row can still gain. The same tellings in the same order lead to the same proposals.
    """

    def __init__(
        self,
        rows: Rows,
        whole: int,
        floor: float,
        target: float | None = None,
        max_bytes: int | None = None,
        fits: Fits | None = None,
        least_rate: float = 0.0,
        costs: RowCosts | None = None,
        tokens_s: float = TRAINS_TOKENS_S,
        before: Steps = (),
    ) -> None:
        """whole: the baseline's bytes; rows of no fewer are never proposed, nor are those of more than `max_bytes`, or
        that don't fit. floor: the share of its quality below which a candidate is of no use. least_rate: of the
        hypervolume reached, what a candidate must be expected to add in a second of its trial. costs: what candidates
        cost in a third objective; what these have to time is told before anything is proposed. tokens_s: of a training,
        before one was seen. before: the steps with which the candidate of every row begins. What they make is told
        before anything is proposed: quality is lost of what that has, and divergences are from it."""
        self._rows = rows
        self._before = before
        self._begins_at = 1.0
        self._whole = whole
        self._floor = floor
        self._closed = np.zeros(len(rows.bytes), dtype=bool)
        self._closed[rows.bytes >= whole] = True
        if max_bytes is not None:
            self._closed[rows.bytes > max_bytes] = True
        if fits is not None:
            for at in np.flatnonzero(~self._closed).tolist():
                self._closed[at] = not fits(rows.steps(at), int(rows.bytes[at]))
        self._target = target
        self._least_rate = least_rate
        self._row_costs = costs
        self._codes = _codes(rows)
        self._row_of = {int(code): row for row, code in enumerate(self._codes.max(axis=1, initial=0))}
        self._option_of = {
            rows.steps(row)[0]: (at, option)
            for at, axis in enumerate(rows.axes)
            for option, row in options_alone(rows, axis)
        }
        self._training_of = _training_options(rows)
        self._harm: dict[tuple[str, int], float | None] = {}
        self._seconds = StepSeconds(rows.axes, is_mixed, trainings(rows.axes), tokens_s)
        self._took: list[float] = []
        self._all_seconds, self._others_seconds = 0.0, 0.0
        self._made: set[Steps] = set()
        self._tellings: list[tuple[Steps, float, float | None, float | None, bool]] = []
        self._guide: Guide | None = None
        tokens = np.array([how.tokens if how else 0 for how in trainings(rows.axes)] or [0])
        nothing = np.zeros(len(rows.bytes), dtype=int)
        self._tokens = tokens[rows.options[:, list(rows.axes).index(TRAINING)] if TRAINING in rows.axes else nothing]
        self._longest = SHORTEST
        self._probes = {option: before + rows.steps(row) for option, row in self._options_to_probe()}

    @property
    def probes(self) -> list[Steps]:
        """The steps of the candidates whose divergence is to be measured first, each one option by itself; always the
        same ones, whatever has been told."""
        return list(self._probes.values())

    def whole_space(self, trials: int) -> list[dict[str, Any]] | None:
        """The choices of every candidate that may be proposed, the largest first, as that is harmed least; None where
        the space is larger than FEW, or than these trials and what the probes cost together: a profile then pays."""
        if len(self._rows.bytes) - 1 > min(FEW, trials + len(self._probes)):
            return None
        able = np.flatnonzero(~self._closed)
        return [self._rows.choices(int(row)) for row in able[np.argsort(-self._rows.bytes[able], kind="stable")]]

    @property
    def ready(self) -> bool:
        """Whether every probe has been told, those that failed among them; `propose` is meaningful from here on, once
        the costs of a third objective are ready too."""
        return len(self._harm) == len(self._probes)

    @property
    def settled(self) -> bool:
        """Whether no candidate was expected to add enough in its time, when it was last asked."""
        return self._guide is not None and self._guide.settled

    @property
    def believed(self) -> bool:
        """Whether the profile orders what was measured and not trained, of which it says nothing: Kendall's tau between
        its sums and the measured divergences is at least LEAST_TAU. True while fewer than ENOUGH rows were measured."""
        guide = self._guide
        measured = {} if guide is None else {row: nats for row, nats in guide.measured.items() if not self._tokens[row]}
        if guide is None or len(measured) < ENOUGH:
            return True
        # Late: a search says its first line before this is loaded.
        from scipy.stats import kendalltau

        tau = kendalltau(guide.prior(list(measured)), list(measured.values())).statistic
        return bool(math.isnan(tau) or tau >= LEAST_TAU)

    def leaves_to_others(self, begun: int, waiting: bool, pending: Collection[Steps] = ()) -> bool:
        """Whether the next candidate is not the profile's to choose, after so many that were begun, the baseline among
        them.

        waiting: whether anchors wait of which the profile says nothing. Without them the sampler is next, which has no
        turn among the first ENOUGH, when it knows least. pending: the steps of the candidates under way. Nobody else
        has a turn where a target is sought, while a choice of theirs is under way, or while what they chose has taken
        more than their share of all trials' seconds.
        """
        if any(self._row(steps) is None for steps in pending):
            return False
        every = SAMPLED_EVERY if self.believed else SAMPLED_OFTEN
        turn = (waiting or begun > ENOUGH) and begun % every == every - 1
        return turn and self._target is None and every * self._others_seconds <= self._all_seconds

    def may_gain(self, steps: Steps, size: int) -> bool:
        """Whether a candidate of so many bytes, of which the profile says nothing, may add to the frontier: no point of
        no more bytes, and no higher cost, keeps NEARLY_ALL."""
        largest, most = math.log(size), self._cost(steps, math.log(size)) + math.log(COST_APART)
        return not any(
            stands
            and kept is not None
            and kept >= NEARLY_ALL * self._begins_at
            and at <= largest
            and self._cost(other, at) <= most
            for other, at, kept, _, stands in self._tellings
        )

    def _cost(self, steps: Steps, log_bytes: float) -> float:
        return 0.0 if self._row_costs is None else self._row_costs.of(steps, round(math.exp(log_bytes)))

    def probed(self, steps: Steps, nats: float | None, seconds: float) -> None:
        """What a probe found; its first telling counts. nats: the option's divergence; None where the probe failed, and
        no row with this option is then proposed. seconds: what it took. Steps that are no probe only say that they have
        been made."""
        for option, probe in self._probes.items():
            if probe == steps and option not in self._harm:
                self._harm[option] = nats
                self._seconds.probed[option] = seconds
        self._took_steps(steps)

    def tell(
        self,
        steps: Steps,
        size: int,
        kept: float | None,
        nats: float | None,
        seconds: float,
        stands: bool,
        given: bool = False,
    ) -> None:
        """What a candidate's trial on dev found; the baseline's too.

        size: bytes on disk, as measured or, where it failed, predicted. kept: its share of the baseline's quality; None
        where it failed. nats: its divergence; None where that was not measured. seconds: what the trial took; ignored
        where it failed. stands: whether it may be on the frontier. given: whether the study names it.
        """
        self._all_seconds += seconds
        if steps and not given and self._row(steps) is None:
            self._others_seconds += seconds
        self._tellings.append((steps, math.log(size), kept, nats, stands))
        if self._before and steps == self._before and kept is not None:
            self._begins_at = kept
        elif kept is not None and (not steps or self._own(steps) is not None):
            own = self._own(steps) or ()
            self._learn_seconds(own, seconds)
            self._longest = max(
                self._longest, *(getattr(step, "tokens", 0) for step in own if step.kind == "trainer"), 0
            )
        self._took_steps(steps)
        if self._guide is not None:
            self._pass_on(self._guide, len(self._tellings) - 1)

    def close(self, steps: Steps) -> None:
        """Never propose this candidate; nothing where it has no row."""
        row = self._row(steps)
        if row is not None:
            self._closed[row] = True

    def propose(
        self, pending: Collection[Steps], left: float = math.inf
    ) -> tuple[dict[str, Any], Steps, Reason] | None:
        """The choices and steps of the candidate to measure next, and why; None where none is worth a trial.

        Budgets of training rise: none is more than RISE times the longest that was measured, or the shortest.

        pending: the steps of the candidates under way. left: seconds that a trial may take; where any that trains is
        expected to take longer, it is not proposed. Nothing is noted: asked again, it says the same until it is told
        more or the candidate is pending. The profile is taken as it is at the first call.
        """
        if self._guide is None:
            self._guide = self._made_guide()
        under_way = {row for steps in pending if (row := self._row(steps)) is not None}
        seconds = self._costs()
        too_long = (self._tokens > RISE * self._longest) | ((self._tokens > 0) & (seconds > left))
        found = self._guide.propose(under_way, self._closed | too_long, seconds)
        if found is None:
            return None
        row, told = found
        belief, whole = told.belief, self._begins_at
        reason = Reason(
            kept=whole * float(belief.kept[row]),
            low=whole * float(belief.low[row]),
            high=whole * float(belief.high[row]),
            gain=whole * float(told.gain[row]),
            seconds=float(seconds[row]),
        )
        return self._rows.choices(row), self._before + self._rows.steps(row), reason

    def _options_to_probe(self) -> list[tuple[tuple[str, int], int]]:
        """Each (axis, option) to probe, and its row: of uniform widths all but 8 bits, in one group size; of tokens,
        layers, heads and channels the fewest and the most that go; of other options of a kind a middle one too.

        Between the two the divergence goes by a power of the bytes saved: in a model of half a billion parameters that
        told of 7 layers (between 1 and 12), of 57,000 tokens (114,000 and 19,000) and of 29 % of the channels (11 and
        50) within 5, 1 and 16 %.
        """
        found: list[tuple[tuple[str, int], int]] = []
        for axis, options in self._rows.axes.items():
            # A training by itself mends nothing.
            able = options_alone(self._rows, axis)
            widths = [(at, row) for at, row in able if bits_of(options[at]) is not None]
            if widths:
                able = in_one_group_size([one for one in widths if bits_of(options[one[0]]) != 8], options)
            else:
                able = [one for kind in by_kind(able, options) for one in _spread(kind, axis not in REMOVED)]
            found += [((axis, at), row) for at, row in able]
        return found

    def _made_guide(self) -> Guide:
        harm: list[Array] = []
        for axis, options in self._rows.axes.items():
            column = self._harm_of(axis, options)
            harm.append(column)
            bad = np.flatnonzero(np.isnan(column))
            at = list(self._rows.axes).index(axis)
            self._closed |= np.isin(self._rows.options[:, at], bad)
            column[bad] = 0.0
        guide = Guide(
            tuple(self._rows.axes),
            self._rows.options,
            np.log(self._rows.bytes),
            tuple(harm),
            math.log(self._whole),
            self._floor / self._begins_at,
            self._prior_seconds(),
            None if self._target is None else self._target / self._begins_at,
            _trained(self._rows),
            None if self._row_costs is None else self._row_costs.rows(),
            self._least_rate,
        )
        for number in range(len(self._tellings)):
            self._pass_on(guide, number)
        return guide

    def _harm_of(self, axis: str, options: Sequence[Choices]) -> Array:
        """What each option does alone, in nats: as probed, or told from those probed; nan for what can't be."""
        if axis == TRAINING:
            return np.array([0.0 if how is None else SHAKEN for how in trainings(self._rows.axes)])
        found = np.full(len(options), np.nan)
        found[0] = 0.0
        known: dict[Any, dict[float, float]] = {}
        for (name, at), nats in self._harm.items():
            if name == axis and nats is not None:
                found[at] = max(nats, LEAST)
                row = self._rows.alone(axis, at)
                if row is not None:
                    # Of two that save the same the better counts.
                    alike, saved = known.setdefault(kind_of(options[at]), {}), self._log_saved(row)
                    alike[saved] = min(alike.get(saved, math.inf), math.log(found[at]))
        failed = {at for (name, at), nats in self._harm.items() if name == axis and nats is None}
        for at in range(1, len(options)):
            row, alike = self._rows.alone(axis, at), known.get(kind_of(options[at]), {})
            if not np.isnan(found[at]) or at in failed or row is None or not alike:
                continue
            curve = sorted(_undone(alike).items() if axis == QUANTIZER else alike.items())
            saves, harms = (np.array(column) for column in zip(*curve, strict=True))
            if bits_of(options[at]) == 8:
                # The widest that was probed is the one of 4 bits.
                found[at] = max(math.exp(harms[0]) * EIGHT_BITS, LEAST)
            else:
                found[at] = math.exp(float(np.interp(self._log_saved(row), saves, harms)))
        return found

    def _log_saved(self, row: int) -> float:
        return math.log(max(self._whole - int(self._rows.bytes[row]), 1))

    def _pass_on(self, guide: Guide, number: int) -> None:
        steps, log_bytes, kept, nats, stands = self._tellings[number]
        row = self._row(steps)
        kept = None if kept is None else kept / self._begins_at
        if row is not None:
            # What all begin with lies as far from the baseline as it does; from itself it does not.
            guide.tell(row, kept, nats if self._own(steps) else None, stands)
        elif kept is not None and stands:
            guide.tell_other(log_bytes, kept, self._cost(steps, log_bytes))

    def _own(self, steps: Steps) -> Steps | None:
        """The steps after those that every row begins with; None where they begin otherwise."""
        length = len(self._before)
        return steps[length:] if steps[:length] == self._before else None

    def _row(self, steps: Steps) -> int | None:
        own = self._own(steps)
        code = None if own is None else self._code(own)
        return None if code is None else self._row_of.get(code)

    def _code(self, steps: Steps) -> int | None:
        """What the artefact of these steps is known by; None where it is on no row's way."""
        found, before, width = 0, -1, 0
        names, sizes = list(self._rows.axes), _sizes(self._rows)
        for step in steps:
            known = self._training_of.get((width, step)) if step.kind == "trainer" else self._option_of.get(step)
            at, option = known or (-1, 0)
            if at <= before:
                return None
            found, before = found + option * sizes[at], at
            width = option if names[at] == QUANTIZER else width
        return found

    def _learn_seconds(self, steps: Steps, seconds: float) -> None:
        """A trial whose steps were all made says what a trial takes; another says what its one step that was not made
        takes, or its training beside others of which that is known."""
        missing = [length for length in range(1, len(steps) + 1) if steps[:length] not in self._made]
        code = self._code(steps)
        row = None if code is None else self._row_of.get(code)
        if not missing or not self._took:
            self._took.append(seconds)
            return
        if row is None:
            return
        names, taken = list(self._rows.axes), self._rows.options[row]
        axes = [at for at in range(len(taken)) if taken[at]]
        options = [(names[axes[length - 1]], int(taken[axes[length - 1]])) for length in missing]
        trained = [option for option in options if option[0] == TRAINING]
        if len(options) > 1 and not trained:
            return
        learnt = trained[0] if trained else options[0]
        others = sum(self._seconds.of(name)[at] for name, at in options if (name, at) != learnt)
        self._seconds.learnt[learnt] = max(seconds - float(np.median(self._took)) - others, 0.0)

    def _took_steps(self, steps: Steps) -> None:
        own = self._own(steps) or ()
        self._made.update(own[:length] for length in range(1, len(own) + 1))

    def _costs(self) -> Array:
        """Seconds of each row's trial: what a trial takes, and for each step that is not made yet what its option took
        in the profile."""
        each = float(np.median(self._took)) if self._took else 1.0
        made = np.array([code for steps in self._made if (code := self._code(steps)) is not None], dtype=np.int64)
        missing = (self._codes >= 0) & ~np.isin(self._codes, made)
        found: Array = each + (missing * self._step_seconds()).sum(axis=1)
        return found

    def _step_seconds(self, profile_only: bool = False) -> Array:
        """What making each row's option of each axis takes, (rows, axes)."""
        columns = [
            np.array(self._seconds.of(axis, profile_only))[self._rows.options[:, at]]
            for at, axis in enumerate(self._rows.axes)
        ]
        return np.stack(columns, axis=1)

    def _prior_seconds(self) -> Array:
        """What each row would take with nothing made, as the profile tells; what trials told would be another ladder
        for a search that goes on."""
        probed = self._seconds.probed
        each = float(np.median([*probed.values()])) if probed else 1.0
        found: Array = max(each, LEAST) + self._step_seconds(profile_only=True).sum(axis=1)
        return found


def _trained(rows: Rows) -> Array | None:
    """How each row is trained, as the divergence model takes it; None where none is."""
    if TRAINING not in rows.axes:
        return None
    told = [
        (0.0,) * 4
        if how is None
        else (1.0, math.log(how.tokens / SHORTEST), float(how.by_beams), float(how.with_references))
        for how in trainings(rows.axes)
    ]
    found: Array = np.array(told)[rows.options[:, list(rows.axes).index(TRAINING)]]
    return found


def _training_options(rows: Rows) -> dict[tuple[int, Step], tuple[int, int]]:
    """The axis and option of each step that trains, by the option of the widths before it: of few bits the same step
    may be no row's."""
    names = list(rows.axes)
    if TRAINING not in names:
        return {}
    at = names.index(TRAINING)
    widths = rows.options[:, names.index(QUANTIZER)]
    found: dict[tuple[int, Step], tuple[int, int]] = {}
    for option in range(1, len(rows.axes[TRAINING])):
        for width in range(len(rows.axes[QUANTIZER])):
            for row in np.flatnonzero((rows.options[:, at] == option) & (widths == width))[:1]:
                found |= {(width, step): (at, option) for step in rows.steps(int(row)) if step.kind == "trainer"}
    return found


def _sizes(rows: Rows) -> list[int]:
    """For each axis how many numbers the options of those before it make up together."""
    found = [1]
    for options in rows.axes.values():
        found.append(found[-1] * len(options))
    return found[:-1]


def _codes(rows: Rows) -> Array:
    """For each row and axis a number of the options up to there, by which the artefact is known that the row's step on
    this axis makes; -1 where it has none. Shape (rows, axes)."""
    found: Array = np.cumsum(rows.options.astype(np.int64) * np.array(_sizes(rows)), axis=1)
    return np.where(rows.options > 0, found, -1)


def _spread(able: Sequence[tuple[int, int]], with_middle: bool) -> Sequence[tuple[int, int]]:
    middle = [able[len(able) // 2]] if with_middle and len(able) > 2 else []
    return able if len(able) < 2 else [able[0], *middle, able[-1]]


def _undone(harm_by_saved: Mapping[float, float]) -> dict[float, float]:
    """Without those that save less than another and harm as much or more: methods of one width are not alike."""
    return {
        saved: harm
        for saved, harm in harm_by_saved.items()
        if all(other > harm for more, other in harm_by_saved.items() if more > saved)
    }
