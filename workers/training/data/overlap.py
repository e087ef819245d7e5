"""No dev or test source may be in the training data: what a model is trained on must not be what it is measured on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from workers.reading.errors import OR_SKIP, DataError, shorten
from workers.reading.segments import DataSet
from workers.reading.training_data import Example, TrainingData, examples, normalise_text


def refuse_overlap(data: TrainingData, splits: Mapping[str, DataSet]) -> TrainingData:
    """The training data without what the splits (dev, test) measure on.

    Raises DataError, which counts them and shows the first, when a source of a split is a source or a target of
    training (a pair that is trained in the other direction gives the same content away), compared as `normalise_text`
    gives them; where the data skips bad rows, such rows are left out of what is returned, and counted when it is read.
    Reads the training files once; only the splits' sources are held in memory.
    """
    sources = {normalise_text(segment.source): name for name, split in splits.items() for segment in split.segments}
    found: set[str] = set()
    first: tuple[Example, str, str] | None = None
    for example in examples(data, Counter(), sources_alone=True):
        for what, text in (("source", normalise_text(example.source)), ("target", normalise_text(example.reference))):
            if text not in sources:
                continue
            first = first or (example, what, text)
            found.add(text)
    if first is not None and not data.skip_bad_rows:
        example, what, text = first
        others = f" (and {len(found) - 1:,} more of its texts)" if len(found) > 1 else ""
        rule = (
            f"a {what} of the training data ({example.langs}){others} is a source of the {sources[text]} data too, and "
            "what is trained on must not be what is measured on"
        )
        way_out = f"Take it out of one of the two. {OR_SKIP}"
        raise DataError(Path(data.files[example.file].path), example.line, shorten(text), rule, way_out)
    return replace(data, measured=tuple(sorted({*data.measured, *found})))
