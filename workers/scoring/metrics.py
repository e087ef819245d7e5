"""Scores of hypotheses against references, by sacreBLEU, each with the signature it was taken under.

Nothing here knows of models: stored hypotheses can be scored again at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sacrebleu.metrics.base import Metric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER
from sacrebleu.tokenizers.tokenizer_char import TokenizerChar

from search_spaces.errors import StudyError
from search_spaces.outcome import LOWER_IS_BETTER, Score
from workers.languages.scripts import HAN, OTHER_UNSPACED, script_of
from workers.reading.segments import Segment
from workers.scoring.rungs import documents_by_pair

Statistics = dict[str, "np.ndarray[Any, Any]"]

BOOTSTRAP_SAMPLES = 1000
CONFIDENCE = 0.95

# sacreBLEU's tokenizers by what the target is written in (https://github.com/mjpost/sacrebleu, "Tokenization").
BLEU_TOKENIZERS = (
    {"Jpan": "ja-mecab", "Hang": "ko-mecab"} | dict.fromkeys(HAN, "zh") | dict.fromkeys(OTHER_UNSPACED, "char")
)

METRICS: dict[str, Callable[[str], Metric]] = {
    "chrf": lambda language: CHRF(),
    "chrf++": lambda language: CHRF(word_order=2),
    "bleu": lambda language: BLEU(tokenize=bleu_tokenizer(language)),
    "ter": lambda language: ter(language),
}
# Measured by a model of their own, apart from these (workers/comet).
NEURAL_METRICS = ("comet", "cometkiwi")


@dataclass(frozen=True, slots=True)
class Interval:
    """A percentile bootstrap interval of a difference, in the metric's own points."""

    low: float
    high: float


class CharacterTER(TER):  # type: ignore[misc]
    """TER over characters, for scripts without spaces that TERCOM's tokenizer does not cut; `tok:char` in the
    signature."""

    def __init__(self) -> None:
        super().__init__()
        self._characters = TokenizerChar()
        self.tokenizer_signature = self._characters.signature()

    def _preprocess_segment(self, sent: str) -> str:
        """The text, lower-cased as TER does it, with a space between any two characters."""
        return str(self._characters(super()._preprocess_segment(sent)))


class HanTER(TER):  # type: ignore[misc]
    """TER with Han characters cut apart. A line break is a space: TERCOM would take a dash behind one for hyphenation,
    and drop it."""

    def __init__(self) -> None:
        super().__init__(normalized=True, asian_support=True)

    def _preprocess_segment(self, sent: str) -> str:
        return str(super()._preprocess_segment(sent.replace("\n", " ")))


def bleu_tokenizer(target_language: str) -> str:
    """The BLEU tokenizer that suits what a target language is written in; its code may carry a region or script:
    "zh_TW", "sr_Latn"."""
    return BLEU_TOKENIZERS.get(script_of(target_language), "13a")


def ter(target_language: str) -> TER:
    """The TER that suits what a target language is written in: without spaces a sentence would be one word.

    TERCOM cuts Han characters (--ter-normalized --ter-asian-support); of other such scripts each character is one.
    """
    script = script_of(target_language)
    if script in OTHER_UNSPACED:
        return CharacterTER()
    return HanTER() if script in HAN or script == "Jpan" else TER()


def known_metrics(names: Sequence[str], neural: bool = False) -> tuple[str, ...]:
    """The names, each once, if every one is a metric: sacreBLEU's, and the neural ones where they can be measured.

    Raises StudyError otherwise.
    """
    known = (*METRICS, *(NEURAL_METRICS if neural else ()))
    for name in names:
        if name not in known:
            raise StudyError(f"there is no metric {name!r}; there are {', '.join(known)}")
    if not names:
        raise StudyError(f"no metric was named; choose from {', '.join(known)}")
    return tuple(dict.fromkeys(names))


def worst(metric: str, scores: Mapping[str, float]) -> str:
    """The name of the worst score: the lowest, for TER the highest; the first by name where several are as bad."""
    sign = -1 if metric in LOWER_IS_BETTER else 1
    return min(sorted(scores), key=lambda name: sign * scores[name])


def corpus_score(name: str, segments: Sequence[Segment], hypotheses: Sequence[str]) -> Score:
    """The corpus score of one language pair's hypotheses, line by line with its segments."""
    metric = METRICS[name](segments[0].target_language)
    value = metric.corpus_score(list(hypotheses), reference_streams(segments)).score
    return Score(float(value), metric.get_signature().format())


def scores_by_pair(
    names: Sequence[str], segments: Sequence[Segment], hypotheses: Sequence[str]
) -> dict[str, dict[str, Score]]:
    """metric -> pair -> corpus score, over every pair there is in the segments."""
    lines = lines_by_pair(segments)
    return {
        name: {
            pair: corpus_score(name, [segments[line] for line in at], [hypotheses[line] for line in at])
            for pair, at in lines.items()
        }
        for name in names
    }


def segment_scores(
    names: Sequence[str], segments: Sequence[Segment], hypotheses: Sequence[str]
) -> list[dict[str, float]]:
    """For each segment, metric -> its sentence score (BLEU with effective order, as sacreBLEU advises)."""
    scorers: dict[tuple[str, str], Metric] = {}
    rows: list[dict[str, float]] = []
    for segment, hypothesis in zip(segments, hypotheses, strict=True):
        row: dict[str, float] = {}
        for name in names:
            key = (name, segment.target_language)
            if key not in scorers:
                scorers[key] = _sentence_metric(name, segment.target_language)
            row[name] = float(scorers[key].sentence_score(hypothesis, list(segment.references)).score)
        rows.append(row)
    return rows


def overall(by_pair: Mapping[str, Score]) -> float:
    """The mean over language pairs, never pooled."""
    return sum(score.value for score in by_pair.values()) / len(by_pair)


def lines_by_pair(segments: Sequence[Segment]) -> dict[str, list[int]]:
    """pair -> the positions of its segments, pairs in sorted order."""
    lines: dict[str, list[int]] = {}
    for position, segment in enumerate(segments):
        lines.setdefault(segment.langs, []).append(position)
    return dict(sorted(lines.items()))


def reference_streams(segments: Sequence[Segment]) -> list[list[str | None]]:
    """sacreBLEU's reference streams; a segment with fewer references than others has None in the later ones."""
    most = max(len(segment.references) for segment in segments)
    return [
        [segment.references[k] if k < len(segment.references) else None for segment in segments] for k in range(most)
    ]


def corpus_statistics(name: str, segments: Sequence[Segment], hypotheses: Sequence[str]) -> Statistics:
    """pair -> sacreBLEU's per-segment statistics, shape (segments of the pair, statistics)."""
    statistics: Statistics = {}
    for pair, at in lines_by_pair(segments).items():
        part = [segments[line] for line in at]
        rows = metric_for(name, part)._extract_corpus_statistics(
            [hypotheses[line] for line in at], reference_streams(part)
        )
        statistics[pair] = np.asarray(rows)
    return statistics


def group_scorer(name: str, segments: Sequence[Segment], statistics: Statistics) -> Callable[[Sequence[int]], float]:
    """A function from positions of one pair to their corpus score. statistics: `corpus_statistics` of all segments, in
    which every hypothesis is compared once for all calls."""
    rows: dict[int, np.ndarray[Any, Any]] = {}
    metrics: dict[str, Metric] = {}
    for pair, at in lines_by_pair(segments).items():
        metrics[pair] = metric_for(name, [segments[line] for line in at])
        rows.update(zip(at, statistics[pair], strict=True))

    def score(lines: Sequence[int]) -> float:
        summed = np.sum([rows[line] for line in lines], axis=0).tolist()
        return float(metrics[segments[lines[0]].langs]._compute_score_from_stats(summed).score)

    return score


def paired_interval(
    name: str, segments: Sequence[Segment], candidate: Statistics, baseline: Statistics, seed: int
) -> Interval:
    """The 95 % interval of candidate minus baseline, both as the mean over pairs of corpus scores.

    Paired percentile bootstrap (Koehn 2004, https://aclanthology.org/W04-3250) over documents (`document_counts`): both
    systems are resampled alike, and the segments of a document stay together. `candidate` and `baseline` are
    `corpus_statistics` of the two systems' hypotheses.
    """
    differences = np.zeros(BOOTSTRAP_SAMPLES)
    counts = document_counts(segments, np.random.default_rng(seed))
    for pair, at in lines_by_pair(segments).items():
        metric = metric_for(name, [segments[line] for line in at])
        differences += sampled_scores(metric, _summed(counts[pair], candidate[pair])) - sampled_scores(
            metric, _summed(counts[pair], baseline[pair])
        )
    differences /= len(counts)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(differences, [tail, 100 - tail])
    return Interval(float(low), float(high))


def _sentence_metric(name: str, language: str) -> Metric:
    if name == "bleu":
        return BLEU(tokenize=bleu_tokenizer(language), effective_order=True)
    return METRICS[name](language)


def document_counts(
    segments: Sequence[Segment], rng: np.random.Generator
) -> dict[str, np.ndarray[Any, np.dtype[np.int64]]]:
    """pair -> how often each of its segments is drawn in each sample, shape (samples, segments of the pair); pairs in
    sorted order.

    Documents are drawn within each group of `document_groups`, and a document that pairs share is drawn in all of them
    alike: what one pair says of a text tells of the others.
    """
    groups = document_groups(segments)
    drawn = {
        name: counts
        for names in groups.values()
        for name, counts in zip(
            names, rng.multinomial(len(names), [1 / len(names)] * len(names), size=BOOTSTRAP_SAMPLES).T, strict=True
        )
    }
    found = {}
    for pair, documents in documents_by_pair(segments).items():
        of = {position: name for name, positions in documents.items() for position in positions}
        found[pair] = np.stack([drawn[of[position]] for position in sorted(of)], axis=1)
    return found


def document_groups(segments: Sequence[Segment]) -> dict[tuple[str, ...], list[str]]:
    """The pairs that documents occur in -> the documents that occur in just these.

    A pair that is one document has its segments for documents: drawing the document would give no spread at all.
    """
    pairs_of: dict[str, tuple[str, ...]] = {}
    for pair, documents in documents_by_pair(segments).items():
        for name in documents:
            pairs_of[name] = (*pairs_of.get(name, ()), pair)
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, pairs in pairs_of.items():
        groups.setdefault(pairs, []).append(name)
    return groups


def sampled_scores(metric: Metric, summed: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The corpus score of each row of summed statistics: shape (samples,)."""
    return np.asarray([metric._compute_score_from_stats(row).score for row in summed.tolist()])


def resampled_scores(
    metric: str, segments: Sequence[Segment], statistics: Statistics, seed: int
) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """Language pair -> a metric's corpus score in each bootstrap sample of documents: shape (samples,).

    statistics: the system's `corpus_statistics`. Systems resampled with one seed are resampled alike, so the
    differences of their samples are a paired bootstrap (Koehn 2004, https://aclanthology.org/W04-3250).
    """
    counts = document_counts(segments, np.random.default_rng(seed))
    return {
        pair: sampled_scores(
            metric_for(metric, [segments[line] for line in at]), _summed(counts[pair], statistics[pair])
        )
        for pair, at in lines_by_pair(segments).items()
    }


def metric_for(name: str, segments: Sequence[Segment]) -> Metric:
    """A metric that has seen these references: BLEU and chrF set themselves up when they first meet some."""
    metric = METRICS[name](segments[0].target_language)
    metric.corpus_score([""], reference_streams(segments[:1]))
    return metric


def _summed(counts: np.ndarray[Any, Any], statistics: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The statistics of each sample, (samples, statistics). Integers below 2^53 come out the same by BLAS, which has
    no product of integers."""
    summed: np.ndarray[Any, Any] = counts.astype(np.float64) @ statistics.astype(np.float64)
    return summed.astype(statistics.dtype)
