"""Where a candidate is good and where it is not: one metric by pair, domain, document, source length and bin of score.

A group's score is the mean over the pairs in it, never pooled: by sacreBLEU over the group's segments, or, for a metric
that is known by its segments alone (COMET), the mean of theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from search_spaces.outcome import LOWER_IS_BETTER
from workers.reading.segments import Segment
from workers.scoring.bins import OUTSIDE, UNSCORED, Bin, bin_of, length_bin, length_bins
from workers.scoring.metrics import METRICS, Statistics, corpus_statistics, group_scorer, lines_by_pair, worst

WORST_DOCUMENTS = 10
UNNAMED = "none named"

# Lines of one pair -> their score.
Scorer = Callable[[Sequence[int]], float]


def breakdown(
    metric: str,
    segments: Sequence[Segment],
    texts: Sequence[str],
    bins: Sequence[Bin],
    segment_values: Sequence[float] | None = None,
    statistics: Statistics | None = None,
) -> dict[str, Any]:
    """The metric's `overall`, `worst_pair`, `worst_pair_score`, and `by_…` from a group's name to its score.

    texts: the hypotheses, line by line with the segments. segment_values: a score a segment, taken in place of
    sacreBLEU's corpus score. statistics: the `corpus_statistics` of the texts, where they are known.

    `by_langpair_bin` is pair -> bin -> score; `worst_documents` has the ten worst, worst first, each with `doc_id`,
    `langs`, `segments` and `score`; `documents` is how many there are. Groups without a segment are left out. Raises
    ValueError for a metric that is not sacreBLEU's when there are no segment_values.
    """
    score = _scorer(metric, segments, texts, segment_values, statistics)
    by_pair = {pair: score(lines) for pair, lines in lines_by_pair(segments).items()}
    named = [bin_of(segment.human_score, bins) for segment in segments]
    bin_names = [*(part.name for part in bins), OUTSIDE, UNSCORED]
    in_bins = _pairs_by_group(score, segments, named, bin_names)
    domains = [segment.domain or UNNAMED for segment in segments]
    lengths = [length_bin(segment.source) for segment in segments]
    worst_pair = worst(metric, by_pair)
    return {
        "overall": _mean(by_pair),
        "worst_pair": worst_pair,
        "worst_pair_score": by_pair[worst_pair],
        "by_langpair": by_pair,
        "by_bin": _means(in_bins),
        "by_langpair_bin": {
            pair: {name: scores[pair] for name, scores in in_bins.items() if pair in scores} for pair in by_pair
        },
        "by_domain": _means(_pairs_by_group(score, segments, domains, sorted(set(domains)))),
        "by_source_length": _means(_pairs_by_group(score, segments, lengths, length_bins())),
        "documents": len(_documents(segments)),
        "worst_documents": _worst_documents(metric, score, segments),
    }


def _scorer(
    metric: str,
    segments: Sequence[Segment],
    texts: Sequence[str],
    values: Sequence[float] | None,
    statistics: Statistics | None,
) -> Scorer:
    if values is not None:
        return lambda lines: sum(values[line] for line in lines) / len(lines)
    if metric not in METRICS:
        raise ValueError(f"{metric} is not one of sacreBLEU's metrics: its scores must be given, one a segment")
    return group_scorer(metric, segments, statistics or corpus_statistics(metric, segments, texts))


def _pairs_by_group(
    score: Scorer, segments: Sequence[Segment], groups: Sequence[str], order: Sequence[str]
) -> dict[str, dict[str, float]]:
    """group -> pair -> score, in the order given."""
    lines: dict[str, dict[str, list[int]]] = {}
    for line, (segment, group) in enumerate(zip(segments, groups, strict=True)):
        lines.setdefault(group, {}).setdefault(segment.langs, []).append(line)
    return {group: {pair: score(at) for pair, at in sorted(lines[group].items())} for group in order if group in lines}


def _worst_documents(metric: str, score: Scorer, segments: Sequence[Segment]) -> list[dict[str, Any]]:
    sign = -1 if metric in LOWER_IS_BETTER else 1
    rows: list[dict[str, Any]] = [
        {"doc_id": document, "langs": pair, "segments": len(lines), "score": score(lines)}
        for (pair, document), lines in _documents(segments).items()
    ]
    return sorted(rows, key=lambda row: (sign * row["score"], row["langs"], row["doc_id"]))[:WORST_DOCUMENTS]


def _documents(segments: Sequence[Segment]) -> Mapping[tuple[str, str], list[int]]:
    documents: dict[tuple[str, str], list[int]] = {}
    for line, segment in enumerate(segments):
        documents.setdefault((segment.langs, segment.doc_id), []).append(line)
    return documents


def _means(groups: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {group: _mean(scores) for group, scores in groups.items()}


def _mean(scores: Mapping[str, float]) -> float:
    return sum(scores.values()) / len(scores)
