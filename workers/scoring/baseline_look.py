"""An absolute look at a model that others are measured against: what a few percent of its translations must not show.

Sanity limits of candidates count from the baseline, and so say nothing of a baseline that is broken itself: asked in a
way that is not its own, cut at the length limit, in a language that it can't write. Limits: of 20 systems that people
judged at WMT24 (https://aclanthology.org/2024.wmt-1.1) the 18 without a reason of their own fail any check in at most
1.6 % of hypotheses, so that twice as much is no chance; an empty line is never a matter of style, and nothing that is
cut is a whole translation, so there it is 1 %. One hypothesis alone is chance in any check.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from workers.reading.segments import Segment
from workers.scoring.sanity import IN_WORDS
from workers.translation.decoding import Decoding, Hypothesis

MOST: dict[str, float] = {
    "truncated": 0.01,
    "empty": 0.01,
    "copied": 0.03,
    "too_short": 0.03,
    "too_long": 0.03,
    "repeated": 0.03,
    "wrong_script": 0.03,
    "wrong_language": 0.03,
}
FEWEST = 2
# What the note of such a model begins with.
UNSOUND = "the uncompressed model is not sound here: "


@dataclass(frozen=True, slots=True)
class Cause:
    """Why translations may fail a check, in words; empty where the check says it. ways: what helps."""

    words: str
    ways: tuple[str, ...]


ASK = "try --prompt {others}"
LANGUAGE = Cause("it may not have learnt this direction, or not be asked in its own way", ("check --langs", ASK))
WORDY = Cause("it says more than a translation, or does not end its turn", (ASK,))
CAUSES: dict[str, Cause] = {
    "empty": LANGUAGE,
    "copied": LANGUAGE,
    "too_short": LANGUAGE,
    "too_long": WORDY,
    "repeated": LANGUAGE,
    "wrong_script": LANGUAGE,
    "wrong_language": LANGUAGE,
}
CUT = Cause("", ("raise --max-new-tokens, now {limit}",))
THINKS = Cause(
    "it thinks first, and is cut before or while it answers (thinking was cut from {thought:,} of {all:,})",
    ("raise --max-new-tokens, now {limit}, or take a model or a chat template that answers at once",),
)
NO_END = Cause(
    "most of them are far too long or repeat themselves, so it does not end its turn; its stop token may not be named "
    "(eos_token_id in generation_config.json), or the request not be its own",
    (ASK,),
)
# Of all translations; a model that does not know its stop token ends none or few of its turns.
ENDLESS_FROM = 0.05
LOOPS = Cause("most of them repeat themselves or are far too long, as a small model's are now and then", ())


def baseline_fault(
    segments: Sequence[Segment],
    hypotheses: Sequence[Hypothesis],
    failed: Sequence[Sequence[str]],
    decoding: Decoding,
    prompt: str,
) -> str | None:
    """What is wrong with the model itself: how many translations fail which check, of which pairs, most first, then the
    causes and ways out, each once; None for a sound one. failed: the checks that each hypothesis fails. prompt: the
    name of the one it was asked with."""
    endless = {line for line, checks in enumerate(failed) if "repeated" in checks or "too_long" in checks}
    # What else is wrong with a translation that was cut comes of that.
    failed = [("truncated",) if one.truncated else checks for one, checks in zip(hypotheses, failed, strict=True)]
    others = " or ".join(name for name in ("chat", "alma", "few-shot") if name != prompt)
    thought = sum(one.thought for one in hypotheses)
    found: list[tuple[int, str, Cause]] = []
    for check, most in MOST.items():
        at = [line for line, checks in enumerate(failed) if check in checks]
        pairs = _over(check, most, segments, failed)
        if not pairs:
            continue
        cause = _cut(at, hypotheses, endless) if check == "truncated" else CAUSES[check]
        where = "" if len(pairs) == len({segment.langs for segment in segments}) else f", most in {', '.join(pairs)}"
        found.append((len(at), f"{IN_WORDS[check]} ({len(at):,} of {len(failed):,}{where})", cause))
    if not found:
        return None
    found.sort(key=lambda one: -one[0])
    shares = [f"{count / len(failed):.0%}".replace("%", " %") for count, _, _ in found]
    listed = [f"{share} {what}" for share, (_, what, _) in zip(shares[1:], found[1:], strict=True)]
    first = f"{shares[0]} of its translations {found[0][1]}"
    causes = [cause for _, _, cause in found if cause is not WORDY or NO_END not in [one for _, _, one in found]]
    words = "; ".join(dict.fromkeys(cause.words for cause in causes if cause.words))
    ways = "; ".join(dict.fromkeys(way for cause in causes for way in cause.ways))
    why = ": ".join(part for part in (words, ways) if part).format(
        limit=decoding.max_new_tokens, others=others, thought=thought, all=len(hypotheses)
    )
    return f"{UNSOUND}{', '.join([first, *listed])}; {why}"


def why_all_empty(hypotheses: Sequence[Hypothesis], decoding: Decoding) -> str:
    """Why there is nothing to score, where all hypotheses are empty."""
    what = f"all {len(hypotheses)} hypotheses are empty"
    if all(one.thought for one in hypotheses):
        return (
            f"{what}: the model was still thinking at the length limit of {decoding.max_new_tokens} new tokens; raise "
            "--max-new-tokens, or take a model or a chat template that answers at once"
        )
    return what


def _over(check: str, most: float, segments: Sequence[Segment], failed: Sequence[Sequence[str]]) -> list[str]:
    """The language pairs in which more translations fail a check than may."""
    lines: dict[str, list[bool]] = {}
    for segment, checks in zip(segments, failed, strict=True):
        lines.setdefault(segment.langs, []).append(check in checks)
    return [pair for pair, fails in sorted(lines.items()) if sum(fails) >= FEWEST and sum(fails) > most * len(fails)]


def _cut(at: Sequence[int], hypotheses: Sequence[Hypothesis], endless: Collection[int]) -> Cause:
    """Why most of the hypotheses at these places were cut. endless: those that say far too much."""
    if 2 * sum(hypotheses[line].thought for line in at) > len(at):
        return THINKS
    if 2 * sum(line in endless for line in at) <= len(at):
        return CUT
    return NO_END if len(at) >= ENDLESS_FROM * len(hypotheses) else LOOPS
