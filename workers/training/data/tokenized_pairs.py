"""The pairs of a training set as token ids, made once for a tokenizer and prompt and kept in the artefact store."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from search_spaces.candidate import digest_of
from workers.calibration.sequences import LONGEST, Shown, encode_pairs
from workers.reading.segments import Segment
from workers.reading.training_data import Example, TrainingData, examples, normalise_text
from workers.runtime.artefact_store import ArtefactStore
from workers.training.data.held_out import held_out
from workers.training.data.pairs_file import ABOUT, HELD_OUT, TYPES, PairsWriter, Stratum, pairs_writer
from workers.training.data.permutation import Indices
from workers.translation.prompts import Prompt, request_identity

__all__ = ["HELD_OUT_COUNT", "TokenizedPairs", "held_out", "tokenize_pairs"]

HELD_OUT_COUNT = 128
# Raised when the same files would give other sequences.
VERSION = 2
CHUNK = 256
CUT_OFF = "pairs whose translation lies beyond the longest sequence"
KEPT_APART = "pairs that share a source with the validation pairs"


class TokenizedPairs:
    """Pairs as token ids, read from disk as they are asked for; pickled as the folder's path.

    folder: an artefact's. digest: names the content. tokens: real ones once through the data, prompts included. langs:
    the directions there are. order: rows by stratum, or, where `in_order`, as they are to be read. strata, shares,
    counts, starts: of pairs that are drawn alike (`starts`: in `order`). held_out: pairs that are not among them.
    left_out: how many pairs were, by reason.
    """

    def __init__(self, folder: Path) -> None:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        self.folder = folder
        self.digest: str = about["digest"]
        self.tokens: int = about["tokens"]
        self.in_order: bool = about["in_order"]
        self.left_out: dict[str, int] = about["left_out"]
        self.strata = tuple(Stratum(**one) for one in about["strata"])
        self.langs = tuple(sorted({stratum.langs for stratum in self.strata if stratum.count}))
        self.shares = tuple(stratum.share for stratum in self.strata)
        self.counts = tuple(stratum.count for stratum in self.strata)
        self.starts = tuple(int(start) for start in np.cumsum([0, *self.counts[:-1]]))
        with (folder / HELD_OUT).open(encoding="utf-8") as stream:
            self.held_out = tuple(_segment(json.loads(line)) for line in stream)
        self._arrays = {name: np.memmap(folder / f"{name}.bin", dtype, "r") for name, dtype in TYPES.items()}

    def __len__(self) -> int:
        return len(self._arrays["ends"])

    def __reduce__(self) -> tuple[Any, ...]:
        return TokenizedPairs, (self.folder,)

    @property
    def order(self) -> Indices:
        return self._arrays["order"]

    def budget(self, tokens: int) -> int:
        """How many real tokens a training that is asked for so many reads: 0 is once through the pairs."""
        return tokens or self.tokens

    def ids(self, row: int) -> Indices:
        """The token ids of a pair in its prompt, uint32 (tokens,), a view of the file."""
        start, end = self._between("ends", row)
        return self._arrays["ids"][start:end]

    def target_start(self, row: int) -> int:
        """Where the translation begins in `ids`."""
        return int(self._arrays["targets"][row])

    def shown(self, row: int) -> Shown:
        """The token ids of a pair in its prompt, and where the translation begins."""
        return Shown(tuple(self.ids(row).tolist()), self.target_start(row))

    def length(self, row: int) -> int:
        """The tokens of a pair."""
        start, end = self._between("ends", row)
        return end - start

    def targets(self, row: int) -> int:
        """The target tokens of a pair."""
        return self.length(row) - self.target_start(row)

    def langs_of(self, row: int) -> str:
        """The direction of a pair."""
        return self._stratum(row).langs

    def weight_of(self, row: int) -> float:
        """The weight of the pair's file."""
        return self._stratum(row).weight

    def segment(self, row: int) -> Segment:
        """The pair as text, with the target that is trained on as its reference."""
        source_start, source_end = self._between("text_ends", 2 * row)
        _, target_end = self._between("text_ends", 2 * row + 1)
        source = self._arrays["texts"][source_start:source_end].tobytes().decode()
        target = self._arrays["texts"][source_end:target_end].tobytes().decode()
        name = f"{self.langs_of(row)}:{row}"
        return Segment(name, self.langs_of(row), source, (target,), doc_id=name, domain="")

    def _stratum(self, row: int) -> Stratum:
        return self.strata[int(self._arrays["strata"][row])]

    def _between(self, ends: str, place: int) -> tuple[int, int]:
        where = self._arrays[ends]
        if not 0 <= place < len(where):
            raise IndexError(f"there is no row {place}; there are {len(self)}")
        return (int(where[place - 1]) if place else 0), int(where[place])


def tokenize_pairs(
    data: TrainingData,
    tokenizer: Any,
    tokenizer_key: str,
    prompt: Prompt,
    store: Path,
    longest: int = LONGEST,
    *,
    held_out_count: int = HELD_OUT_COUNT,
    seed: int = 0,
    sources_alone: bool = False,
) -> TokenizedPairs:
    """The training data in the model's prompt, from the store, or the first time from the files.

    tokenizer_key: names the tokenizer's content. longest: tokens at which a sequence is cut. held_out_count, seed: of
    the pairs kept from training. sources_alone: sources without a reference are pairs too, whose empty target is not to
    be trained on. The files are streamed: memory holds a chunk of pairs and four bytes a pair. Raises DataError for a
    bad file or row, StudyError where no pair is left.
    """
    digest = digest_of(
        {
            "data": data.digest,
            "tokenizer": tokenizer_key,
            **request_identity(prompt, data.langs),
            "longest": longest,
            "held_out": [held_out_count, seed],
            "version": VERSION,
            **({"sources_alone": True} if sources_alone else {}),
        }
    )

    def build(folder: Path) -> dict[str, Any]:
        apart = held_out(data, held_out_count, seed)
        counts: Counter[str] = Counter()
        kinds = sorted({(langs, file.weight) for langs in data.langs for file in data.files})
        with pairs_writer(folder, kinds) as writer:
            remaining = _without(examples(data, counts, sources_alone), apart, counts)
            while chunk := list(islice(remaining, CHUNK)):
                weights = [data.files[example.file].weight for example in chunk]
                segments = [example.segment for example in chunk]
                add_all(
                    writer,
                    segments,
                    weights=weights,
                    tokenizer=tokenizer,
                    prompt=prompt,
                    longest=longest,
                    counts=counts,
                )
            return writer.finish(digest, counts, apart)

    return TokenizedPairs(ArtefactStore(store).get(f"pairs-{digest}", build).path)


def add_all(
    writer: PairsWriter,
    segments: Sequence[Segment],
    weights: Sequence[float],
    tokenizer: Any,
    prompt: Prompt,
    longest: int,
    counts: Counter[str],
) -> list[int | None]:
    """Tokenize pairs and write them; returns their rows, None for one whose translation the cut leaves nothing of."""
    rows: list[int | None] = []
    for segment, weight, shown in zip(
        segments, weights, encode_pairs(segments, tokenizer, prompt, longest), strict=True
    ):
        if shown.target_start >= len(shown.ids):
            counts[CUT_OFF] += 1
            rows.append(None)
        else:
            rows.append(writer.add(segment, shown, weight))
    return rows


def _without(found: Iterator[Example], apart: Sequence[Segment], counts: Counter[str]) -> Iterator[Example]:
    texts = {normalise_text(text) for segment in apart for text in (segment.source, *segment.references)}
    for example in found:
        if texts and not texts.isdisjoint((normalise_text(example.source), normalise_text(example.reference))):
            counts[KEPT_APART] += 1
        else:
            yield example


def _segment(fields: dict[str, Any]) -> Segment:
    return Segment(**{**fields, "references": tuple(fields["references"])})
