"""How numbers are written for people: times, sizes, differences, ratios, counts."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from search_spaces.wording import MINUS

if TYPE_CHECKING:
    from workers.scoring.metrics import Interval

TIMES = "\N{MULTIPLICATION SIGN}"
NONE = "\N{EM DASH}"
UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
METRIC_NAMES = {
    "chrf": "chrF",
    "chrf++": "chrF++",
    "bleu": "BLEU",
    "ter": "TER",
    "comet": "COMET",
    "cometkiwi": "CometKiwi",
}


def spell_seconds(seconds: float) -> str:
    """`45 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def spell_hours(hours: float) -> str:
    """Two or three digits: `0.014`, `2.3`, `128`."""
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.2g}"


def spell_bytes(size: int) -> str:
    """Decimal units, as disks are sold: `10.6 MB`, `14.5 GB`."""
    value = float(size)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}" if unit == "B" else f"{value:.2f} {unit}"
        value /= 1000
    return f"{value:.2f} GB"


def read_bytes(text: str) -> int | None:
    """The bytes in `20GB`, `1.5 mb` or `1000`, in decimal units; None for what is no size of a byte or more."""
    parts = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?B?)", text.strip().upper())
    size = int(float(parts[1]) * UNITS[parts[2]]) if parts and parts[2] in UNITS else 0
    return size if size >= 1 else None


@dataclass(frozen=True, slots=True)
class Unit:
    """A decimal unit of size, such as MB = 1,000,000 bytes."""

    name: str
    bytes: int

    def of(self, size: int) -> float:
        """The size in this unit."""
        return size / self.bytes

    def text(self, size: int) -> str:
        """The size in this unit, with its name: `5.50 MB`."""
        return f"{self.of(size):,.2f} {self.name}"


MEGABYTES = Unit("MB", 1_000_000)


GIGABYTES = Unit("GB", 1_000_000_000)


def metric_name(metric: str) -> str:
    """A metric as its field writes it, such as `chrF`."""
    return METRIC_NAMES.get(metric, metric)


def signed(value: float, digits: int = 2) -> str:
    """A difference with its sign, `+0.31`, or with U+2212 below 0; a zero has none."""
    rounded = round(value, digits)
    sign = "+" if rounded > 0 else MINUS if rounded < 0 else ""
    return f"{sign}{abs(rounded):.{digits}f}"


def interval_text(interval: Interval | None) -> str:
    """`+0.02 to +0.11`, or a dash where there is none."""
    return NONE if interval is None else f"{signed(interval.low)} to {signed(interval.high)}"


def ratio_text(ratio: float) -> str:
    """How many times smaller than the baseline, `1.92` and U+00D7; a dash where there is no baseline."""
    return f"{ratio:.2f}{TIMES}" if math.isfinite(ratio) else NONE
