"""One candidate from end to end, as `mtpareto measure` does it: translated, scored, and its files written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from orchestrator.commands.single import MeasureRequest, measure_one
from search_spaces.methods.registry import Step
from search_spaces.outcome import Failure, Measurement


def evaluate(
    data: str | Path,
    out: str | Path,
    model: str | Path | None = None,
    steps: Sequence[Step] = (),
    say: Callable[[str], None] = lambda line: None,
    **settings: Any,
) -> Measurement | Failure:
    """Compress a model by these steps, translate the data with it, score it, and write the translations to `out`.

    model: a hub id or a folder; None is the shipped model. steps: the methods of this package, in order; none of them
    measures the model as it is. say: is told of progress. settings: further fields of
    `orchestrator.commands.single.MeasureRequest`, such as metrics, langs, batch_size and overwrite. Raises UserError,
    with nothing written, for what can't be done.
    """
    named = None if model is None else str(model)
    return measure_one(
        MeasureRequest(data=str(data), outdir=Path(out), steps=tuple(steps), model=named, **settings), say
    )
