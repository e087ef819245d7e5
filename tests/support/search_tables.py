"""A small recorded table for tests of replayed searches: layers, a quantizer and embeddings, whose damages add up."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from orchestrator.benches.search_replay.table import Table

AXES: dict[str, tuple[Any, ...]] = {
    "layers": (0, 1, 2),
    "quantizer": ("none", "rtn8", "gptq4", "awq4", "mixed3.5", "gptq3"),
    "embeddings": (16, 8, 4),
}
# By option: nats alone, and bytes kept.
LAYERS = {0: (0.0, 1.0), 1: (0.1, 0.9), 2: (0.5, 0.8)}
BITS = {
    "none": (0.0, 1.0),
    "rtn8": (0.0002, 0.55),
    "gptq4": (0.03, 0.3),
    "awq4": (0.04, 0.3),
    "mixed3.5": (0.07, 0.27),
    "gptq3": (0.2, 0.24),
}
EMBEDDINGS = {16: (0.0, 1.0), 8: (0.0001, 0.6), 4: (0.02, 0.4)}
STAGES = (1.0, 2.0, 3.0, 4.0)


def full_table() -> Table:
    """Damages add up. Removing layers takes 10 seconds, quantizing 20, embeddings 5; a trial 1 + 2 + 3 + 4."""
    rows = list(itertools.product(*AXES.values()))
    artefacts: dict[tuple[object, ...], int] = {}
    seconds: list[float] = []
    prefixes = []
    for row in rows:
        steps = [(axis, option) for axis, option in enumerate(row) if option != list(AXES.values())[axis][0]]
        way = [tuple(steps[:length]) for length in range(1, len(steps) + 1)]
        for each in way:
            if each not in artefacts:
                artefacts[each] = len(artefacts)
                seconds.append((10.0, 20.0, 5.0)[each[-1][0]])
        prefixes.append(tuple(artefacts[each] for each in way))
    told = [(LAYERS[layers], BITS[bits], EMBEDDINGS[embeddings]) for layers, bits, embeddings in rows]
    kl = np.array([sum(harm for harm, _ in each) for each in told])
    quality = 60 * np.exp(-((0.8 * kl) ** 1.3))
    size = [1e6 * layers * (0.7 * bits + 0.3 * embeddings) for (_, layers), (_, bits), (_, embeddings) in told]
    return Table(
        axes=AXES,
        options=np.array([[AXES[name].index(one) for name, one in zip(AXES, row, strict=True)] for row in rows]),
        bytes=np.array(size, np.int64),
        quality=quality,
        kl=np.stack([kl, kl], axis=1),
        pair_quality=np.stack([quality, quality], axis=1),
        pairs=("en-de", "de-en"),
        stage_seconds=np.tile(STAGES, (len(rows), 1)),
        prefixes=tuple(prefixes),
        artefact_seconds=np.array(seconds),
        baseline=0,
        about={"layers_by": "greedy"},
    )


TABLE = full_table()


def row(*options: Any) -> int:
    """The row with these options, one of each axis."""
    return TABLE.options.tolist().index([values.index(one) for values, one in zip(AXES.values(), options, strict=True)])
