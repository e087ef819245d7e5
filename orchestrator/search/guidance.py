"""The search of a space that is known whole: which options to probe, what their damage says of the others, and which
candidate is worth measuring next.

Pure: it learns from tellings alone, so that a resumed study proposes what an uninterrupted one would have.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.surrogate.divergence_model import LEAST
from orchestrator.surrogate.guide import MIXED_TAKES, Guide
from search_spaces.methods.registry import Step
from search_spaces.spaces.axes import EMBEDDINGS, QUANTIZER
from search_spaces.spaces.choices import Choices
from search_spaces.spaces.enumeration import Rows

Array = np.ndarray[Any, np.dtype[Any]]
Steps = tuple[Step, ...]

# Of the options of an axis that removes something, so many are probed; the others lie between them.
PROBED = 3
# The damage of 8 bits beside that of 4 with the same grid: errors are 1/17 as large, their squares 1/289.
EIGHT_BITS = 1.0 / 289.0
# The profile is believed as long as it orders what was measured at least so well, once there is that much.
LEAST_TAU, ENOUGH = 0.5, 12
# Every so many candidates the sampler is asked instead; more often once the profile is not believed.
SAMPLED_EVERY, SAMPLED_OFTEN = 8, 2
# Two-sided 90 % of a normal.
NINETY = 1.645


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a candidate is proposed.

    kept: the share of the baseline's quality that it is expected to keep. low, high: between these it lies with 90 %;
    they may be below 0 and above 1. gain: the hypervolume over (natural log of bytes, share) that measuring it is
    expected to add, times its odds to stand. seconds: what its trial is expected to take.
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
        self, rows: Rows, whole: int, floor: float, target: float | None = None, max_bytes: int | None = None
    ) -> None:
        """whole: the baseline's bytes; rows of no fewer are never proposed. floor: the share of its quality below which
        a candidate is of no use."""
        self._rows = rows
        self._whole = whole
        self._floor = floor
        self._closed = np.zeros(len(rows.bytes), dtype=bool)
        self._closed[rows.bytes >= whole] = True
        if max_bytes is not None:
            self._closed[rows.bytes > max_bytes] = True
        self._target = target
        self._codes = _codes(rows)
        self._row_of = {int(code): row for row, code in enumerate(self._codes.max(axis=1, initial=0))}
        self._option_of = {
            rows.steps(row)[0]: (at, option)
            for at, (axis, options) in enumerate(rows.axes.items())
            for option in range(1, len(options))
            if (row := rows.alone(axis, option)) is not None
        }
        self._harm: dict[tuple[str, int], float | None] = {}
        self._seconds: dict[tuple[str, int], float] = {}
        self._took: list[float] = []
        self._made: set[Steps] = set()
        self._tellings: list[tuple[Steps, float, float | None, float | None, bool]] = []
        self._guide: Guide | None = None
        self._probes = {option: rows.steps(row) for option, row in self._options_to_probe()}

    @property
    def probes(self) -> list[Steps]:
        """The steps of the candidates whose divergence is to be measured first, each one option by itself; always the
        same ones, whatever has been told."""
        return list(self._probes.values())

    @property
    def ready(self) -> bool:
        """Whether every probe has been told, those that failed among them; `propose` is meaningful from here on."""
        return len(self._harm) == len(self._probes)

    @property
    def believed(self) -> bool:
        """Whether the profile orders what was measured: Kendall's tau between its sums and the measured divergences is
        at least LEAST_TAU. True while fewer than ENOUGH rows were measured."""
        guide = self._guide
        if guide is None or len(guide.measured) < ENOUGH:
            return True
        # Late: a search says its first line before this is loaded.
        from scipy.stats import kendalltau

        tau = kendalltau(guide.prior(list(guide.measured)), list(guide.measured.values())).statistic
        return bool(math.isnan(tau) or tau >= LEAST_TAU)

    def probed(self, steps: Steps, nats: float | None, seconds: float) -> None:
        """What a probe found; its first telling counts. nats: the option's divergence; None where the probe failed, and
        no row with this option is then proposed. seconds: what it took. Steps that are no probe only say that they have
        been made."""
        for option, probe in self._probes.items():
            if probe == steps and option not in self._harm:
                self._harm[option] = nats
                self._seconds[option] = seconds
        self._took_steps(steps)

    def tell(
        self, steps: Steps, size: int, kept: float | None, nats: float | None, seconds: float, stands: bool
    ) -> None:
        """What a candidate's trial on dev found; the baseline's too.

        size: bytes on disk, as measured or, where it failed, predicted. kept: its share of the baseline's quality; None
        where it failed. nats: its divergence; None where that was not measured. seconds: what the trial took; ignored
        where it failed. stands: whether it may be on the frontier.
        """
        self._tellings.append((steps, math.log(size), kept, nats, stands))
        if kept is not None:
            self._learn_seconds(steps, seconds)
        self._took_steps(steps)
        if self._guide is not None:
            self._pass_on(self._guide, len(self._tellings) - 1)

    def close(self, steps: Steps) -> None:
        """Never propose this candidate; nothing where it has no row."""
        row = self._row(steps)
        if row is not None:
            self._closed[row] = True

    def propose(self, pending: Collection[Steps]) -> tuple[dict[str, Any], Steps, Reason] | None:
        """The choices and steps of the candidate to measure next, and why; None where none is worth a trial.

        pending: the steps of the candidates under way. Nothing is noted: asked again, it says the same until it is told
        more or the candidate is pending. The profile is taken as it is at the first call.
        """
        if self._guide is None:
            self._guide = self._made_guide()
        under_way = {row for steps in pending if (row := self._row(steps)) is not None}
        seconds = self._costs()
        row = self._guide.propose(under_way, self._closed, seconds)
        if row is None:
            return None
        told = self._guide.expect(under_way)
        kept, away = float(told.kept[row]), NINETY * float(told.deviation[row])
        reason = Reason(kept, kept - away, kept + away, float(told.gain[row]), float(seconds[row]))
        return self._rows.choices(row), self._rows.steps(row), reason

    def _options_to_probe(self) -> list[tuple[tuple[str, int], int]]:
        """Each (axis, option) to probe, and its row: of uniform widths all but 8 bits, of what removes something the
        least, the most and a middle one."""
        found: list[tuple[tuple[str, int], int]] = []
        for axis, options in self._rows.axes.items():
            able = [(at, row) for at in range(1, len(options)) if (row := self._rows.alone(axis, at)) is not None]
            if axis in (QUANTIZER, EMBEDDINGS):
                able = [(at, row) for at, row in able if not _is_told(options[at])]
            elif len(able) > PROBED:
                able = [able[0], able[len(able) // 2], able[-1]]
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
            self._floor,
            self._prior_seconds(),
            self._target,
        )
        for number in range(len(self._tellings)):
            self._pass_on(guide, number)
        return guide

    def _harm_of(self, axis: str, options: Sequence[Choices]) -> Array:
        """What each option does alone, in nats: as probed, or told from those probed; nan for what can't be."""
        found = np.full(len(options), np.nan)
        found[0] = 0.0
        known: list[tuple[float, float]] = []
        for (name, at), nats in self._harm.items():
            if name == axis and nats is not None:
                found[at] = max(nats, LEAST)
                row = self._rows.alone(axis, at)
                if row is not None:
                    known.append((math.log(max(self._whole - int(self._rows.bytes[row]), 1)), math.log(found[at])))
        if not known:
            return found
        saved, harms = (np.array(column) for column in zip(*sorted(known), strict=True))
        failed = {at for (name, at), nats in self._harm.items() if name == axis and nats is None}
        for at in range(1, len(options)):
            row = self._rows.alone(axis, at)
            if not np.isnan(found[at]) or at in failed or row is None:
                continue
            if _bits(options[at]) == 8:
                # The widest that was probed is the one of 4 bits.
                found[at] = max(math.exp(harms[0]) * EIGHT_BITS, LEAST)
            else:
                weight = math.log(max(self._whole - int(self._rows.bytes[row]), 1))
                found[at] = math.exp(float(np.interp(weight, saved, harms)))
        return found

    def _pass_on(self, guide: Guide, number: int) -> None:
        steps, log_bytes, kept, nats, stands = self._tellings[number]
        row = self._row(steps)
        if row is not None:
            guide.tell(row, kept, nats, stands)
        elif kept is not None and stands:
            guide.tell_other(log_bytes, kept)

    def _row(self, steps: Steps) -> int | None:
        code = self._code(steps)
        return None if code is None else self._row_of.get(code)

    def _code(self, steps: Steps) -> int | None:
        """What the artefact of these steps is known by; None where it is on no row's way."""
        found, before = 0, -1
        sizes = _sizes(self._rows)
        for step in steps:
            at, option = self._option_of.get(step, (-1, 0))
            if at <= before:
                return None
            found, before = found + option * sizes[at], at
        return found

    def _learn_seconds(self, steps: Steps, seconds: float) -> None:
        """A trial whose steps were all made says what a trial takes; one that made a single step, what that does."""
        missing = [length for length in range(1, len(steps) + 1) if steps[:length] not in self._made]
        if len(missing) != 1 or not self._took:
            self._took.append(seconds) if not missing or not self._took else None
            return
        row = self._row(steps)
        if row is not None:
            taken = self._rows.options[row]
            axis = [at for at in range(len(taken)) if taken[at]][missing[0] - 1]
            over = seconds - float(np.median(self._took))
            self._seconds[(list(self._rows.axes)[axis], int(taken[axis]))] = max(over, 0.0)

    def _took_steps(self, steps: Steps) -> None:
        self._made.update(steps[:length] for length in range(1, len(steps) + 1))

    def _costs(self) -> Array:
        """Seconds of each row's trial: what a trial takes, and for each step that is not made yet what its option took
        in the profile."""
        each = float(np.median(self._took)) if self._took else 1.0
        made = np.array([code for steps in self._made if (code := self._code(steps)) is not None], dtype=np.int64)
        missing = (self._codes >= 0) & ~np.isin(self._codes, made)
        found: Array = each + (missing * self._step_seconds()).sum(axis=1)
        return found

    def _step_seconds(self) -> Array:
        """What making each row's option of each axis takes, (rows, axes)."""
        columns = [
            np.array(self._option_seconds(axis, len(options)))[self._rows.options[:, at]]
            for at, (axis, options) in enumerate(self._rows.axes.items())
        ]
        return np.stack(columns, axis=1)

    def _prior_seconds(self) -> Array:
        """What each row would take with nothing made, as the profile tells."""
        each = float(np.median([*self._seconds.values()])) if self._seconds else 1.0
        found: Array = max(each, LEAST) + self._step_seconds().sum(axis=1)
        return found

    def _option_seconds(self, axis: str, count: int) -> list[float]:
        """What each option takes to make: as it was seen, or as the nearest of its kind that was."""
        options = self._rows.axes[axis]
        known = {at: seconds for (name, at), seconds in self._seconds.items() if name == axis}
        found = [0.0] * count
        for at in range(1, count):
            alike = [one for one in known if _is_mixed(options[one]) == _is_mixed(options[at])]
            if alike:
                found[at] = known[min(alike, key=lambda one: abs(one - at))]
            elif known:
                found[at] = MIXED_TAKES * max(known.values())
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


def _is_told(option: Choices) -> bool:
    """Whether an option's damage is told from that of others: 8 bits, and budgets of mixed widths."""
    return _bits(option) == 8 or _is_mixed(option)


def _is_mixed(option: Choices) -> bool:
    return option.get("quantizer") == "mixed"


def _bits(option: Mapping[str, Any]) -> Any:
    return option.get("quantizer.bits", option.get("embeddings.bits"))
