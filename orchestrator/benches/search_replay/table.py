"""A recorded table: what every candidate of a full factorial space cost and was worth, and its file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from search_spaces.errors import StudyError

Array = np.ndarray[Any, np.dtype[Any]]

# The columns of `Table.stage_seconds`.
STAGES = ("load", "divergence", "translate", "score")


@dataclass(frozen=True, slots=True)
class Table:
    """Candidates with what was measured of each, one a row.

    axes: choice -> its options; the rows are their full product, without the candidates that can't be. options: the
    index of each row's option, shape (rows, axes). bytes: of the artefact on disk. quality: the mean of `pair_quality`,
    nan where the candidate failed. kl: divergence from the baseline in nats, shape (rows, pairs), nan where unknown.
    stage_seconds: shape (rows, STAGES), 0 for what was not reached. prefixes: for each row the artefacts on its way,
    first to last. artefact_seconds: what building each took. baseline: the row without any step. about: what it was all
    measured under.
    """

    axes: Mapping[str, tuple[Any, ...]]
    options: Array
    bytes: Array
    quality: Array
    kl: Array
    pair_quality: Array
    pairs: tuple[str, ...]
    stage_seconds: Array
    prefixes: tuple[tuple[int, ...], ...]
    artefact_seconds: Array
    baseline: int
    about: Mapping[str, Any]

    @property
    def rows(self) -> int:
        return len(self.bytes)

    def failed(self, row: int) -> bool:
        return bool(np.isnan(self.quality[row]))


def each_option_alone(table: Table) -> dict[int, tuple[int, int]]:
    """The rows that differ from the baseline in one axis: which axis, and its option."""
    differs = table.options != table.options[table.baseline]
    alone = np.flatnonzero(differs.sum(axis=1) == 1).tolist()
    axes = differs.argmax(axis=1).tolist()
    return {row: (axes[row], int(table.options[row, axes[row]])) for row in alone}


def save(table: Table, path: Path) -> None:
    """Write the table as one compressed .npz; scores, divergences and seconds in single precision."""
    words = {
        "axes": table.axes,
        "pairs": table.pairs,
        "baseline": table.baseline,
        "about": table.about,
    }
    np.savez_compressed(
        path,
        words=np.asarray(json.dumps(words, ensure_ascii=False)),
        options=table.options.astype(np.int16),
        bytes=table.bytes.astype(np.int64),
        quality=table.quality.astype(np.float32),
        kl=table.kl.astype(np.float32),
        pair_quality=table.pair_quality.astype(np.float32),
        stage_seconds=table.stage_seconds.astype(np.float32),
        prefix_counts=np.asarray([len(prefixes) for prefixes in table.prefixes], np.int16),
        prefixes=np.asarray([artefact for prefixes in table.prefixes for artefact in prefixes], np.int32),
        artefact_seconds=table.artefact_seconds.astype(np.float32),
    )


def load(path: Path) -> Table:
    """Read a table that `save` wrote; raises StudyError where it is missing, as outside of a checkout."""
    if not path.is_file():
        raise StudyError(
            f"{path} is not there; recorded tables come with the source alone, not with the package: use a checkout"
        )
    with np.load(path, allow_pickle=False) as held:
        kept: dict[str, Array] = {name: held[name] for name in held.files}
    words = json.loads(str(kept["words"]))
    ends = np.cumsum(kept["prefix_counts"], dtype=np.int64).tolist()
    artefacts = kept["prefixes"].tolist()
    return Table(
        axes={name: tuple(options) for name, options in words["axes"].items()},
        options=kept["options"],
        bytes=kept["bytes"],
        quality=kept["quality"].astype(np.float64),
        kl=kept["kl"].astype(np.float64),
        pair_quality=kept["pair_quality"].astype(np.float64),
        pairs=tuple(words["pairs"]),
        stage_seconds=kept["stage_seconds"].astype(np.float64),
        prefixes=tuple(tuple(artefacts[begin:end]) for begin, end in zip([0, *ends], ends, strict=False)),
        artefact_seconds=kept["artefact_seconds"].astype(np.float64),
        baseline=int(words["baseline"]),
        about=words["about"],
    )
