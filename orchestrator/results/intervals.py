"""95 % intervals of the differences between a study's trials, by a paired bootstrap over documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from orchestrator.ledger.kept_samples import Samples, keep_samples, read_samples, samples_file, statistics_of
from orchestrator.ledger.records import Key, TrialRecord, read_lines
from orchestrator.statistics.telling_apart import Spread
from search_spaces.errors import StudyError
from workers.reading.segments import DataSet, Segment
from workers.scoring.metrics import (
    BOOTSTRAP_SAMPLES,
    CONFIDENCE,
    NEURAL_METRICS,
    Interval,
    document_counts,
    document_groups,
    lines_by_pair,
    resampled_scores,
)

# (trial's key, metric) -> its samples of each language pair.
Known = dict[tuple[Key, str], Mapping[str, Samples]]


class Intervals:
    """One split's intervals. Every trial is resampled once, all alike, so that any two can be compared.

    metric: the study's quality. seed: of the draws of documents, the same for every trial. known: the samples that were
    drawn already, of these data and with this seed; new ones are put there.
    """

    def __init__(
        self, folder: Path, dataset: DataSet, seed: int, metric: str = "chrf", known: Known | None = None
    ) -> None:
        self._folder = folder
        self._dataset = dataset
        self._seed = seed
        self.metric = metric
        self._samples: Known = {} if known is None else known

    @property
    def segments(self) -> Sequence[Segment]:
        return self._dataset.segments

    def between(self, record: TrialRecord, other: TrialRecord, metric: str | None = None) -> Interval:
        """The interval of record minus other in a metric (the quality), mean over pairs.

        Raises StudyError where hypotheses, or the segment scores that the metric is the mean of, are missing.
        """
        return interval_of(self._of(record, metric or self.metric) - self._of(other, metric or self.metric))

    def by_pair(self, record: TrialRecord, other: TrialRecord) -> dict[str, Interval]:
        """Language pair -> the interval of record minus other in the quality of that pair. Raises as `between` does."""
        ours, theirs = self._pairs_of(record, self.metric), self._pairs_of(other, self.metric)
        return {pair: interval_of(samples - theirs[pair]) for pair, samples in ours.items()}

    @property
    def spread(self) -> Spread:
        """What this split's documents allow to be said."""
        groups = document_groups(self.segments)
        return Spread(sum(map(len, groups.values())), len(groups), len(self.segments))

    def samples(self, records: Sequence[TrialRecord]) -> Samples:
        """The quality of each trial in each bootstrap sample, all drawn alike: shape (trials, samples).

        Raises StudyError as `between` does.
        """
        return np.stack([self._of(record, self.metric) for record in records])

    def can_compare(self, record: TrialRecord, other: TrialRecord, metric: str) -> bool:
        """Whether both trials have what the metric's interval is worked out from."""
        if metric not in NEURAL_METRICS:
            return True
        return all(segment_scores_of(self._folder, trial, metric) is not None for trial in (record, other))

    def _of(self, record: TrialRecord, metric: str) -> Samples:
        return mean_over_pairs(self._pairs_of(record, metric))

    def _pairs_of(self, record: TrialRecord, metric: str) -> Mapping[str, Samples]:
        key = record.key, metric
        if key not in self._samples:
            self._samples[key] = self._resampled(record, metric)
        return self._samples[key]

    def _resampled(self, record: TrialRecord, metric: str) -> Mapping[str, Samples]:
        if metric in NEURAL_METRICS:
            scores = segment_scores_of(self._folder, record, metric)
            if scores is None or len(scores) != len(self.segments):
                raise StudyError(
                    f"{self._folder / str(record.hypotheses)} does not hold a {metric} score for each of the "
                    f"{len(self.segments)} segments; without them trial {record.number} has no interval"
                )
            return resampled_means(self.segments, scores, self._seed)
        kept = samples_file(self._folder, record, self._dataset, metric, self._seed)
        if (known := read_samples(kept)) is not None:
            return known
        statistics = statistics_of(self._folder, record, self._dataset, metric)
        drawn = resampled_scores(metric, self.segments, statistics, self._seed)
        keep_samples(kept, drawn)
        return drawn


def resampled_means(segments: Sequence[Segment], scores: Sequence[float], seed: int) -> dict[str, Samples]:
    """Language pair -> the mean segment score in each bootstrap sample of documents: shape (samples,).

    scores: one a segment. The draws are those of `resampled_scores`.
    """
    counts = document_counts(segments, np.random.default_rng(seed))
    return {
        pair: counts[pair] @ np.asarray([scores[line] for line in at]) / counts[pair].sum(axis=1)
        for pair, at in lines_by_pair(segments).items()
    }


def mean_over_pairs(samples: Mapping[str, Samples]) -> Samples:
    """The mean over language pairs in each bootstrap sample: shape (samples,)."""
    total = np.zeros(BOOTSTRAP_SAMPLES)
    for of_pair in samples.values():
        total += of_pair
    return total / len(samples)


def interval_of(differences: Samples) -> Interval:
    """The percentile interval of resampled differences."""
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(differences, [tail, 100 - tail])
    return Interval(float(low), float(high))


def segment_scores_of(folder: Path, record: TrialRecord, metric: str) -> list[float] | None:
    """A metric's stored score of each segment, in the data set's order; None where they were not kept."""
    lines = read_lines(folder, record)
    if any(metric not in line.get("scores", {}) for line in lines):
        return None
    return [float(line["scores"][metric]) for line in lines]
