"""Signs that a model is broken, which a score alone may hide: what share of its hypotheses fails which check.

The limits come from what was seen. Of 15 compressed forms of the shipped model (252 captions each; baseline 64.7 chrF),
the ten above 45 chrF fail any one check in at most 0.4 % of hypotheses; the five below 40 repeat themselves in 3.6 to
35 %. Of 20 systems that people judged at WMT24 (https://aclanthology.org/2024.wmt-1.1), 18 stay at or below 1.6 % in
every check, and two are above for a reason: lines left as they are, remarks about the text. So 2 points above the
baseline is damage and no chance; an empty line is never a matter of style.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from workers.languages.detection import is_known
from workers.languages.scripts import WRITTEN_IN, script_of
from workers.reading.segments import Segment
from workers.scoring.sanity_checks import CHECKS

# How far, as a share of the hypotheses, a candidate may be above its baseline and still be offered.
LIMITS: dict[str, float] = {
    "empty": 0.01,
    "copied": 0.02,
    "too_short": 0.02,
    "too_long": 0.02,
    "repeated": 0.02,
    "wrong_script": 0.02,
    "wrong_language": 0.02,
    "truncated": 0.02,
}

IN_WORDS: dict[str, str] = {
    "empty": "are empty",
    "copied": "copy their source",
    "too_short": "are too short",
    "too_long": "are too long",
    "repeated": "repeat themselves",
    "wrong_script": "are in the wrong script",
    "wrong_language": "are in the wrong language",
    "truncated": "are cut at the length limit",
}


def failed_checks(segment: Segment, text: str, truncated: bool) -> tuple[str, ...]:
    """The checks that one hypothesis fails, in the order of CHECKS."""
    return tuple(name for name, fails in CHECKS.items() if fails(segment, text, truncated))


def shares(failed: Iterable[Sequence[str]]) -> dict[str, float]:
    """check -> the share of hypotheses that failed it, from what `failed_checks` gave for each; 0 for none at all."""
    rows = list(failed)
    counts = Counter(name for row in rows for name in row)
    return {name: counts[name] / max(len(rows), 1) for name in CHECKS}


def unchecked_languages(segments: Iterable[Segment]) -> dict[str, tuple[str, ...]]:
    """check -> the target languages that it knows nothing of, so that it never fails there; empty when it knows all."""
    targets = sorted({segment.target_language for segment in segments})
    return {
        name: unknown
        for name, unknown in {
            "wrong_script": tuple(target for target in targets if script_of(target) not in WRITTEN_IN),
            "wrong_language": tuple(target for target in targets if not is_known(target)),
        }.items()
        if unknown
    }


def over_limits(shares: Mapping[str, float], baseline: Mapping[str, float] | None) -> tuple[str, ...]:
    """Why a candidate is kept off the frontier, a sentence a check; empty when it is within every limit.

    Both are check -> share, as `sanity` gives them; without a baseline (or without a check in it) it counts as 0.
    A limit is passed, not reached: 2 % more than the baseline is within it.
    """
    before = baseline or {}
    return tuple(
        f"{_percent(share)} of hypotheses {IN_WORDS[check]}, the baseline {_percent(before.get(check, 0.0))}, "
        f"limit +{_percent(LIMITS[check])}"
        for check, share in shares.items()
        if share - before.get(check, 0.0) > LIMITS[check] + 1e-9
    )


def spell_failures(shares: Mapping[str, float], segments: int) -> str:
    """The checks that any of so many hypotheses failed, each with its count; "every check passed" for none."""
    failed = [f"{round(share * segments):,} {check.replace('_', ' ')}" for check, share in shares.items() if share]
    return ", ".join(failed) or "every check passed"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"
