"""Resamples trials as they end, in a thread of its own, so that neither the choice of what is scored on held-out data
nor the pages of a stopped search wait for it."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Mapping
from pathlib import Path

from orchestrator.ledger.records import TrialRecord, read_ledger
from orchestrator.results.intervals import Intervals, Known
from orchestrator.results.points import quality_of
from search_spaces.errors import StudyError
from workers.plan.evaluation_plan import data_split
from workers.reading.segments import DataSet

log = logging.getLogger(__name__)


class Resampling:
    """samples: (trial's key, metric) -> its quality in each bootstrap sample, as far as the thread has come; it is
    what `Intervals` keeps, and may be given to one.
    """

    def __init__(self, folder: Path, data: Mapping[str, DataSet], seed: int) -> None:
        self.samples: Known = {}
        self._folder = folder
        self._data = data
        self._seed = seed
        self._words: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="resampling", daemon=True)
        self._thread.start()

    def nudge(self) -> None:
        """Say that a trial has ended; returns at once."""
        self._words.put(True)

    def stop(self) -> None:
        """Let it end after the trial that it is at; what is missing is worked out where it is asked for."""
        self._words.put(False)

    def _run(self) -> None:
        while self._words.get():
            try:
                ledger = read_ledger(self._folder)
                metric = quality_of(ledger.header)
                for record in ledger.trials:
                    self._resample(record, metric)
            except (StudyError, OSError) as error:
                # Whoever asks for these samples is told.
                log.info("not resampled yet: %s", error)

    def _resample(self, record: TrialRecord, metric: str) -> None:
        whole = record.measurement is not None and record.measurement.race is None
        split = data_split(record.split)
        if whole and split in self._data and (record.key, metric) not in self.samples:
            Intervals(self._folder, self._data[split], self._seed, metric, self.samples).samples([record])
