"""Our own search over a recorded table: the surrogate's `Guide`, with a profile made of the table's own rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.benches.search_replay.recording import QUANTIZERS
from orchestrator.benches.search_replay.table import STAGES, Array, Table, each_option_alone
from orchestrator.surrogate.divergence_model import LEAST
from orchestrator.surrogate.guide import Guide
from orchestrator.surrogate.step_seconds import MIXED_TAKES

# What 8 bits do over what 4 do: squared, the error of a step a sixteenth as wide is 1/256 as large; half as much again
# stands for what does not shrink.
EIGHT_OVER_FOUR = 1.5 / 256
# Of a trial these stages are a profile's: it translates nothing.
PROFILED = [STAGES.index(stage) for stage in ("load", "divergence")]

# An axis, and the index of one of its options.
Option = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Profile:
    """What each option does alone.

    harm: in nats; an option that is not there can't be by itself. seconds: what building its artefact took. Both of
    told options too. took: the seconds of it all, one after another. built: the artefacts that it left.
    """

    harm: Mapping[Option, float]
    seconds: Mapping[Option, float]
    took: float
    built: frozenset[int]


class Ours:
    """Profiles each option alone, then asks the guide.

    Before a row is told or profiled, its options, its bytes and which artefacts are on its way are known of it. actors:
    how many share the profile. seed, noise: the harm that the profile found is off by a factor exp(N(0, noise)), as a
    profile over fewer texts would be; without noise every seed is the same. target: the share of the baseline's quality
    at which the smallest is sought; it then proposes nothing more once none is expected to save enough.
    """

    uses_divergence = True

    def __init__(
        self, table: Table, seed: int, actors: int = 1, noise: float = 0.0, target: float | None = None
    ) -> None:
        self._table = table
        self._actors = actors
        self._profile = profile_of(table, np.random.default_rng(seed), noise)
        harm = tuple(self._of_options(self._profile.harm, np.nan))
        log_bytes = np.log(table.bytes)
        known = np.stack([each[table.options[:, axis]] for axis, each in enumerate(harm)], axis=1)
        self._closed = np.isnan(known).any(axis=1)
        self._closed[table.baseline] = True
        takes = self._of_options(self._profile.seconds, 0.0)
        self._takes = np.stack([each[table.options[:, axis]] for axis, each in enumerate(takes)], axis=1)
        self._guide = Guide(
            tuple(table.axes),
            table.options.astype(int),
            log_bytes,
            tuple(np.nan_to_num(each) for each in harm),
            float(log_bytes[table.baseline]),
            seconds=max(float(np.median(list(self._profile.seconds.values()))), LEAST) + self._takes.sum(axis=1),
            target=target,
        )
        self._artefacts = np.full(table.options.shape, -1)
        for row, prefixes in enumerate(table.prefixes):
            self._artefacts[row, np.flatnonzero(table.options[row])] = prefixes
        self._built = np.zeros(len(table.artefact_seconds) + 1, bool)
        # Where an axis changes nothing there is nothing to build: -1 is the last.
        self._built[-1] = True
        self._pending: set[int] = set()
        self._stages: list[float] = []
        self._whole: float | None = None

    def start_seconds(self, table: Table, built: set[int]) -> float:
        built |= self._profile.built
        self._built[list(self._profile.built)] = True
        return self._profile.took / self._actors

    def propose(self) -> int | None:
        found = self._guide.propose(self._pending, self._closed, self._seconds())
        if found is None:
            return None
        row, _ = found
        self._pending.add(row)
        self._built[self._artefacts[row]] = True
        return row

    def tell(self, row: int, quality: float | None, kl: Array | None) -> None:
        self._pending.discard(row)
        self._stages.append(float(self._table.stage_seconds[row].sum()))
        if row == self._table.baseline:
            self._whole, kl = quality, None
        kept = None if quality is None or not self._whole else quality / self._whole
        self._guide.tell(row, kept, None if kl is None else float(np.nanmean(kl)))

    def _seconds(self) -> Array:
        """What a trial of each row is expected to take: the mean of the stages that were seen, and for each option
        whose artefact is not built yet what it took in the profile."""
        missing = ~self._built[self._artefacts]
        expected: Array = float(np.mean(self._stages)) + (missing * self._takes).sum(axis=1)
        return expected

    def _of_options(self, found: Mapping[Option, float], otherwise: float) -> list[Array]:
        """For each axis a number an option; 0 for the one that changes nothing."""
        return [
            np.array([0.0, *(found.get((axis, option), otherwise) for option in range(1, len(options)))])
            for axis, options in enumerate(self._table.axes.values())
        ]


def profile_of(table: Table, random: np.random.Generator, noise: float) -> Profile:
    """Each option's row alone: its artefact is built, loaded, and its divergence measured. What can be told from others
    is not measured."""
    rows = {option: row for row, option in each_option_alone(table).items()}
    told = told_options(table.axes, rows)
    harm: dict[Option, float] = {}
    seconds: dict[Option, float] = {}
    took, built = 0.0, set[int]()
    for option, row in rows.items():
        if option in told:
            continue
        seconds[option] = float(table.artefact_seconds[list(table.prefixes[row])].sum())
        built.update(table.prefixes[row])
        took += seconds[option] + float(table.stage_seconds[row, PROFILED].sum())
        if not np.isnan(table.kl[row]).all():
            harm[option] = max(float(np.nanmean(table.kl[row]) * np.exp(random.normal(0.0, noise))), LEAST)
    for option, others in told.items():
        if measured := sorted((each for each in others if each in harm), key=lambda each: int(table.bytes[rows[each]])):
            sizes = [int(table.bytes[rows[each]]) for each in measured]
            size = int(table.bytes[rows[option]])
            if _is_mixed(table.axes, option):
                harm[option] = float(np.exp(np.interp(size, sizes, np.log([harm[each] for each in measured]))))
            else:
                harm[option] = harm[measured[0]] * EIGHT_OVER_FOUR
            nearest = min(measured, key=lambda each: abs(int(table.bytes[rows[each]]) - size))
            dearest = max(seconds[each] for each in measured)
            seconds[option] = MIXED_TAKES * dearest if _is_mixed(table.axes, option) else seconds[nearest]
    return Profile(harm, seconds, took, frozenset(built))


def told_options(axes: Mapping[str, tuple[Any, ...]], measurable: Iterable[Option]) -> dict[Option, tuple[Option, ...]]:
    """The options that are told, and of the same axis those that each is told from: 8 bits from the first with 4,
    mixed widths from the first with each whole width below 8, between which they lie by bytes."""
    found: dict[Option, tuple[Option, ...]] = {}
    there = sorted(measurable)
    for axis in range(len(axes)):
        widths = {option: bits for option in there if option[0] == axis and (bits := bits_of(axes, option)) is not None}
        whole: dict[float, Option] = {}
        for option, bits in widths.items():
            if not _is_mixed(axes, option):
                whole.setdefault(bits, option)
        below = tuple(option for bits, option in whole.items() if bits < 8)
        for option, bits in widths.items():
            if _is_mixed(axes, option) and below:
                found[option] = below
            elif bits == 8 and 4 in whole:
                found[option] = (whole[4],)
    return found


def bits_of(axes: Mapping[str, tuple[Any, ...]], option: Option) -> float | None:
    """The bits to which an option rounds; None where it does not round."""
    axis, value = _named(axes, option)
    if axis == "embeddings":
        return None if value == 16 else float(value)
    return float(QUANTIZERS[value]["bits"]) if axis == "quantizer" and value in QUANTIZERS else None


def _is_mixed(axes: Mapping[str, tuple[Any, ...]], option: Option) -> bool:
    axis, value = _named(axes, option)
    return axis == "quantizer" and value in QUANTIZERS and QUANTIZERS[value]["method"] == "mixed"


def _named(axes: Mapping[str, tuple[Any, ...]], option: Option) -> tuple[str, Any]:
    axis, index = option
    name = list(axes)[axis]
    return name, axes[name][index]
