"""Tokenized pairs on disk: written one after another, so that no more than a chunk of them is in memory."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from search_spaces.errors import StudyError
from workers.calibration.sequences import Shown
from workers.reading.segments import Segment
from workers.training.data.sampling import balanced_shares

ABOUT = "pairs.json"
HELD_OUT = "held-out.jsonl"
# Numbers one after another, little-endian. ids: of all sequences. ends: where each sequence ends in ids. targets: where
# its translation begins. strata: which stratum it is of. texts: UTF-8, source and target of each pair. text_ends: where
# each text ends, in bytes. order: rows by stratum, or as they are to be read.
TYPES: dict[str, str] = {
    "ids": "<u4",
    "ends": "<i8",
    "targets": "<i4",
    "strata": "<u2",
    "texts": "u1",
    "text_ends": "<i8",
    "order": "<u4",
}


@dataclass(frozen=True, slots=True)
class Stratum:
    """Pairs that are drawn alike."""

    langs: str
    """The language pair."""
    weight: float
    """Weight of their files."""
    count: int
    """How many pairs."""
    tokens: int
    """Real tokens, prompts included."""
    share: float
    """Share of all draws."""


class PairsWriter:
    """Writes one folder; made by `pairs_writer`. tokens: written so far. lengths: tokens of each pair."""

    def __init__(self, files: Mapping[str, IO[bytes]], folder: Path, kinds: Sequence[tuple[str, float]]) -> None:
        self._files = files
        self._folder = folder
        self._kinds = {kind: number for number, kind in enumerate(kinds)}
        self._counts = [0] * len(kinds)
        self._tokens = [0] * len(kinds)
        self._text_end = 0
        self.tokens = 0
        self.lengths = array("i")

    def add(self, segment: Segment, shown: Shown, weight: float) -> int:
        """Write one pair; returns its row."""
        stratum = self._kinds[segment.langs, weight]
        self._counts[stratum] += 1
        self._tokens[stratum] += len(shown.ids)
        self.tokens += len(shown.ids)
        self._put("ids", shown.ids)
        self._put("ends", [self.tokens])
        self._put("targets", [shown.target_start])
        self._put("strata", [stratum])
        for text in (segment.source, segment.references[0]):
            raw = text.encode()
            self._files["texts"].write(raw)
            self._text_end += len(raw)
            self._put("text_ends", [self._text_end])
        self.lengths.append(len(shown.ids))
        return len(self.lengths) - 1

    def finish(
        self,
        digest: str,
        left_out: Mapping[str, int],
        held_out: Sequence[Segment] = (),
        turns: tuple[Sequence[int], int] | None = None,
    ) -> dict[str, Any]:
        """Write the order and what the folder says of itself; returns a summary for the artefact's manifest.

        digest: names the content. turns: the rows as they are to be read, and their tokens; None: by stratum. Raises
        StudyError where there is no pair.
        """
        counted = {reason: count for reason, count in sorted(left_out.items()) if count}
        if not self.lengths:
            said = ", ".join(f"{count} {reason}" for reason, count in counted.items()) or "the files have no row"
            raise StudyError(f"there is no pair to train on ({said}); name a file of pairs in the study's languages")
        kinds = list(self._kinds)
        shares = balanced_shares([(*kind, count) for kind, count in zip(kinds, self._counts, strict=True)])
        strata = [
            Stratum(*kind, count, tokens, share)
            for kind, count, tokens, share in zip(kinds, self._counts, self._tokens, shares, strict=True)
        ]
        if turns is None:
            self._files["strata"].flush()
            of = np.fromfile(self._folder / "strata.bin", TYPES["strata"])
            self._put("order", np.argsort(of, kind="stable"))
        else:
            self._put("order", turns[0])
        with (self._folder / HELD_OUT).open("w", encoding="utf-8") as stream:
            stream.writelines(json.dumps(asdict(segment), ensure_ascii=False) + "\n" for segment in held_out)
        about = {
            "digest": digest,
            "pairs": len(self.lengths),
            "tokens": self.tokens if turns is None else turns[1],
            "in_order": turns is not None,
            "left_out": counted,
            "held_out": len(held_out),
            "strata": [asdict(stratum) for stratum in strata],
        }
        (self._folder / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        return about

    def _put(self, name: str, values: Any) -> None:
        self._files[name].write(np.asarray(values, TYPES[name]).tobytes())


@contextmanager
def pairs_writer(folder: Path, kinds: Sequence[tuple[str, float]]) -> Iterator[PairsWriter]:
    """A writer into an empty folder. kinds: the (direction, weight) that pairs may be of."""
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / f"{name}.bin").open("wb")) for name in TYPES}
        yield PairsWriter(files, folder, kinds)
