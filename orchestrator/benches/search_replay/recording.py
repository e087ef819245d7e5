"""A table's recording: the full factorial space as a study, and what its run left behind as a table.

The study names every candidate as an anchor, races none, and keeps its store outside the run's folder, where the
manifests say how long each artefact took. On the machine that is recorded:

    python -m orchestrator.benches.search_replay.recording shipped --model models/captions --data data/subset.jsonl \\
        --out runs/shipped > shipped.yaml
    mtpareto search shipped.yaml --max-new-tokens 64
    python -m orchestrator.benches.search_replay.recording table shipped --run runs/shipped \\
        --store runs/shipped-store --to orchestrator/benches/search_replay/shipped.npz
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from orchestrator.benches.search_replay.table import STAGES, Array, Table, save
from orchestrator.ledger.records import TrialRecord, read_ledger
from search_spaces.errors import StudyError, UserError
from search_spaces.methods.registry import Step, step_from_json, step_to_json
from search_spaces.outcome import Measurement
from workers.runtime.artefact_store import MANIFEST

Axes = Mapping[str, tuple[Any, ...]]
Options = Mapping[str, Any]

# What each quantizer is called in a table, and its step.
QUANTIZERS: dict[str, dict[str, Any]] = {
    "rtn8": {"method": "rtn", "bits": 8},
    "awq4": {"method": "awq", "bits": 4},
    "gptq4": {"method": "gptq", "bits": 4},
    "mixed3.5": {"method": "mixed", "bits": 3.5},
    "gptq3": {"method": "gptq", "bits": 3},
    "mixed2.5": {"method": "mixed", "bits": 2.5},
    "gptq2": {"method": "gptq", "bits": 2},
}
WARM_UP_LAYERS = (1, 2, 3)
MORE_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Design:
    """A space that is recorded whole.

    axes: in the order of steps; the first option of each is no step. layers_by: how layers are chosen. anchors: what a
    search by hand-written candidates begins with, by the options that are not the first. warm_up: so many candidates
    that are no rows come first: each worker's first imports and kernels are theirs. recorded: its table's file.
    """

    axes: Axes
    layers_by: str
    anchors: tuple[Options, ...]
    warm_up: int
    recorded: Path


SHIPPED = Design(
    axes={
        "vocabulary": (0, 6016),
        "layers": (0, 1, 2),
        "heads": (0, 2),
        "channels": (0.0, 0.2, 0.4),
        "quantizer": ("none", "rtn8", "gptq4", "gptq3", "mixed2.5", "gptq2"),
        "embeddings": (16, 8, 4),
    },
    layers_by="greedy",
    anchors=(
        {"quantizer": "rtn8"},
        {"quantizer": "gptq4"},
        {"quantizer": "gptq4", "embeddings": 8},
        {"layers": 1, "quantizer": "gptq4", "embeddings": 8},
        {"vocabulary": 6016, "quantizer": "gptq4", "embeddings": 8},
        {"quantizer": "mixed2.5"},
        {"quantizer": "gptq3", "embeddings": 8},
        {"channels": 0.2, "quantizer": "gptq4", "embeddings": 8},
        {"quantizer": "rtn8", "embeddings": 8},
    ),
    warm_up=40,
    recorded=Path(__file__).with_name("shipped.npz"),
)
REAL = Design(
    axes={
        "vocabulary": (0, 38016),
        "layers": (0, 2),
        "quantizer": ("none", "rtn8", "gptq4", "awq4", "mixed3.5", "gptq3"),
        "embeddings": (16, 8, 4),
    },
    layers_by="similarity",
    anchors=(
        {"quantizer": "rtn8"},
        {"quantizer": "gptq4"},
        {"quantizer": "gptq4", "embeddings": 8},
        {"layers": 2, "quantizer": "gptq4", "embeddings": 8},
        {"vocabulary": 38016, "quantizer": "gptq4", "embeddings": 8},
        {"quantizer": "mixed3.5"},
        {"quantizer": "gptq3", "embeddings": 8},
        {"quantizer": "rtn8", "embeddings": 8},
    ),
    warm_up=8,
    recorded=Path(__file__).with_name("real.npz"),
)
DESIGNS: Mapping[str, Design] = {"shipped": SHIPPED, "real": REAL}


def steps_of(options: Options, layers_by: str) -> tuple[Step, ...]:
    """The steps of one option of each axis; an axis that is not named has none."""
    records: list[dict[str, Any]] = []
    if tokens := options.get("vocabulary"):
        records.append({"method": "trim_vocabulary", "tokens": tokens})
    if count := options.get("layers"):
        records.append({"method": "remove_layers", "count": count, "by": layers_by})
    if groups := options.get("heads"):
        records.append({"method": "remove_heads", "groups": groups})
    if share := options.get("channels"):
        records.append({"method": "remove_channels", "share": share})
    if (name := options.get("quantizer", "none")) != "none":
        records.append(QUANTIZERS[name])
    if (bits := options.get("embeddings", 16)) != 16:
        records.append({"method": "embeddings", "bits": bits})
    return tuple(step_from_json(record) for record in records)


def every_option(axes: Axes) -> Iterator[tuple[tuple[int, ...], Options]]:
    """The full product: each row's indices of options, and the options by axis."""
    for at in product(*(range(len(options)) for options in axes.values())):
        yield at, {name: options[index] for (name, options), index in zip(axes.items(), at, strict=True)}


def warm_up(design: Design) -> list[tuple[Step, ...]]:
    """Candidates by the table's own methods, none of whose artefacts is on the way of a row: they remove other
    numbers of layers and keep more tokens."""
    axes = {
        **design.axes,
        "vocabulary": tuple(tokens and tokens + MORE_TOKENS for tokens in design.axes["vocabulary"]),
        "layers": tuple(count for count in WARM_UP_LAYERS if count not in design.axes["layers"]),
    }
    every = [steps_of(options, design.layers_by) for _, options in every_option(axes)]
    return random.Random(0).sample(every, design.warm_up)


def recording_study(design: Design, asked: Mapping[str, Any]) -> dict[str, Any]:
    """A study file's content that measures the whole product. asked: its other keys, `store` among them."""
    rows = [steps for _, options in every_option(design.axes) if (steps := steps_of(options, design.layers_by))]
    anchors = [[step_to_json(step) for step in steps] for steps in (*warm_up(design), *rows)]
    return {**asked, "anchors": anchors, "trials": len(anchors) + 1, "rungs": [], "speed": False}


def table_of(run: Path, store: Path, design: Design) -> Table:
    """The table of a study that has ended; candidates that are no rows are ignored.

    store: its artefacts' folders, or a JSON list of `steps` and `seconds`. What a failed trial did not build took no
    seconds. Raises StudyError where the run measured no row, or an artefact is not in the store.
    """
    ledger = read_ledger(run)
    trials = {trial.candidate.steps: trial for trial in ledger.on("dev")}
    at: list[tuple[int, ...]] = []
    rows: list[TrialRecord] = []
    for indices, options in every_option(design.axes):
        if (trial := trials.get(steps_of(options, design.layers_by))) is not None:
            at.append(indices)
            rows.append(trial)
    measured = next((trial.measurement for trial in rows if trial.measurement is not None), None)
    if measured is None or rows[0].candidate.steps:
        raise StudyError(
            f"{run} measured no baseline or no candidate of this table; check the run and the table's name"
        )
    metric, by_pair = next(iter(measured.scores.items()))
    pairs = tuple(by_pair)
    quality = np.asarray([_qualities(trial.measurement, metric, pairs) for trial in rows])
    prefixes, seconds = _ways(rows, _artefacts(store), store)
    return Table(
        axes=design.axes,
        options=np.asarray(at, np.int16),
        bytes=np.asarray([_bytes(trial) for trial in rows], np.int64),
        quality=quality.mean(axis=1),
        kl=np.asarray([_divergences(trial.measurement, pairs) for trial in rows]),
        pair_quality=quality,
        pairs=pairs,
        stage_seconds=np.asarray([_stages(trial.measurement) for trial in rows]),
        prefixes=prefixes,
        artefact_seconds=seconds,
        baseline=0,
        about={
            "base": ledger.header["base"],
            "conditions": dict(measured.conditions),
            "layers_by": design.layers_by,
        },
    )


def _ways(
    rows: Sequence[TrialRecord], artefacts: Mapping[str, float], store: Path
) -> tuple[tuple[tuple[int, ...], ...], Array]:
    """For each row the artefacts on its way, numbered as they are first met, and the seconds of each."""
    numbers: dict[str, int] = {}
    seconds: list[float] = []
    ways: list[tuple[int, ...]] = []
    for trial in rows:
        steps = [step_to_json(step) for step in trial.candidate.steps]
        way: list[int] = []
        for length in range(1, len(steps) + 1):
            spelt = _spelt(steps[:length])
            if spelt not in numbers:
                if spelt not in artefacts and trial.measurement is not None:
                    raise StudyError(f"{store} holds no artefact of {spelt}; keep them all while a table is recorded")
                numbers[spelt] = len(numbers)
                seconds.append(artefacts.get(spelt, 0.0))
            way.append(numbers[spelt])
        ways.append(tuple(way))
    return tuple(ways), np.asarray(seconds)


def _artefacts(store: Path) -> dict[str, float]:
    """Steps, as they are spelt, and the seconds that they took from one artefact to the next."""
    if store.is_file():
        listed = [(one["steps"], one["seconds"]) for one in json.loads(store.read_text(encoding="utf-8"))]
    else:
        manifests = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(store.glob(f"*/{MANIFEST}"))]
        listed = [(record["about"].get("steps"), record["seconds"]) for record in manifests]
    return {_spelt(steps): float(seconds) for steps, seconds in listed if steps}


def _spelt(steps: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps(list(steps), sort_keys=True)


def _bytes(trial: TrialRecord) -> int:
    return trial.predicted_bytes if trial.measurement is None else trial.measurement.footprint.bytes


def _qualities(measured: Measurement | None, metric: str, pairs: Sequence[str]) -> list[float]:
    return [np.nan if measured is None else measured.scores[metric][pair].value for pair in pairs]


def _divergences(measured: Measurement | None, pairs: Sequence[str]) -> list[float]:
    return [np.nan if measured is None else measured.divergence.get(pair, np.nan) for pair in pairs]


def _stages(measured: Measurement | None) -> list[float]:
    return [0.0 if measured is None else measured.seconds.get(stage, 0.0) for stage in STAGES]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a study that records a table, or write the table of its run."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "table":
            table = table_of(options.run, options.store, DESIGNS[options.design])
            save(table, options.to)
            print(f"{options.to}: {table.rows} rows, {len(table.artefact_seconds)} artefacts")
        else:
            print(_as_yaml(recording_study(DESIGNS[options.command], _asked(options))), end="")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.benches.search_replay.recording",
        description="Record the tables of `mtpareto bench search`.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in DESIGNS:
        study = commands.add_parser(name, help=f"print the study that records the table {name!r}")
        study.add_argument("--model", required=True, help="as a search's")
        study.add_argument("--data", required=True, help="as a search's")
        study.add_argument("--calibration", help="as a search's")
        study.add_argument("--out", required=True, help="as a search's")
        study.add_argument("--store", help="as a search's (default: the name of --out with -store)")
    table = commands.add_parser("table", help="write the table of a finished run")
    table.add_argument("design", choices=DESIGNS, help="which table the run recorded")
    table.add_argument("--run", type=Path, required=True, help="the run's folder")
    table.add_argument("--store", type=Path, required=True, help="its store, or a JSON list of steps and seconds")
    table.add_argument("--to", type=Path, required=True, help="the table's file, .npz")
    return parser


def _asked(options: argparse.Namespace) -> dict[str, Any]:
    asked = {"model": options.model, "data": options.data, "calibration": options.calibration, "out": options.out}
    store = options.store or f"{options.out.rstrip('/')}-store"
    return {key: value for key, value in {**asked, "store": store}.items() if value is not None}


def _as_yaml(study: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(study), sort_keys=False, allow_unicode=True, default_flow_style=None, width=1000)


if __name__ == "__main__":
    sys.exit(main())
