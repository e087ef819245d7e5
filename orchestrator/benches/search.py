"""`mtpareto bench search`: how soon ours and other ways of searching find what recorded tables hold."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from orchestrator.benches.figures import SEARCH
from orchestrator.benches.race_replay import RUNGS, Recorded, read_recorded
from orchestrator.benches.race_replay import replay as race_replay
from orchestrator.benches.racing import SEED
from orchestrator.benches.results_file import write_record
from orchestrator.benches.search_replay.figures import FLOOR, OURS, UNTIL, Run, seconds_to, trials_to, useless_share
from orchestrator.benches.search_replay.figures import figures as figures_over_seeds
from orchestrator.benches.search_replay.others import OTHERS, why_no_gp
from orchestrator.benches.search_replay.ours import Ours, worst_kept
from orchestrator.benches.search_replay.recording import DESIGNS, Design, Options
from orchestrator.benches.search_replay.replay import replay, whole_table_seconds
from orchestrator.benches.search_replay.savings import savings
from orchestrator.benches.search_replay.table import Table, load
from search_spaces.errors import StudyError
from workers.plan.conditions import installed_versions

ACTORS = (1, 8)
# It takes seconds a trial, so that it is asked few times: one actor, and the first table.
GP = "gp"
GP_SEEDS = 3
# Every seed is the same search.
WITHOUT_CHANCE = ("grid",)
# The log-normal error of our profile, without which all of our seeds were the same search.
NOISE = 0.25
# A target is a share of the baseline's quality. It is met by a point that has it in the fewest bytes, or nearly.
TARGETS = (0.99, 0.95, 0.9)
NEARLY = 1.03
WHOLE = 1.0 - 1e-9

Progress = Callable[[str], None]


def bench_search(output: Path, seeds: int, command: str, progress: Progress) -> dict[str, Any]:
    """Replay every searcher on the recorded tables, and write `output` and its page; returns what was written.

    Takes minutes of one CPU core with 50 seeds. Raises StudyError where a table is missing, or no seed is asked for.
    """
    if seeds < 1:
        raise StudyError(f"seeds is {seeds}; a replay needs at least 1")
    tables = {name: load(design.recorded) for name, design in DESIGNS.items()}
    found: dict[str, float] = {}
    for number, (name, table) in enumerate(tables.items()):
        suffix = f"_{name}" if number else ""
        anchors = [row_of(table, options) for options in DESIGNS[name].anchors]
        for actors in ACTORS:
            at = suffix if actors == 1 else f"{suffix}_{actors}"
            asked = _searchers(seeds, with_gp=not number and actors == 1, progress=progress)
            runs = {
                searcher: _timed(table, name, searcher, each, anchors, actors, progress) for searcher, each in asked
            }
            found |= {f"{figure}{at}": value for figure, value in searched(runs).items()}
        found |= {f"{figure}{suffix}": value for figure, value in whole(table, seeds).items()}
        found |= {f"{figure}{suffix}": value for figure, value in apart(table, seeds).items()}
    found["saved_by_racing"] = saved_by_racing(read_recorded())
    conditions = {
        **{f"table {name}": described(table, DESIGNS[name]) for name, table in tables.items()},
        "found": f"{UNTIL:.0%} of the table's hypervolume over log bytes and quality, above {FLOOR:.0%} of the "
        "baseline's quality; a search that ends before counts as the whole table",
        "seeds": f"{seeds}; {min(GP_SEEDS, seeds)} of {GP}, and 1 of {', '.join(WITHOUT_CHANCE)}",
        "profile": f"of each option alone, its divergences off by a factor exp(N(0, {NOISE})) of the seed",
        "target": f"{', '.join(f'{share:g}' for share in TARGETS)} of the baseline's quality, within {NEARLY - 1:.0%} "
        "of the fewest bytes; the median over targets and seeds",
        "racing": "the segments that races spare in another search of the shipped model, whose scores by segment are "
        "kept: 48 trials by anchors and TPE (mtpareto bench racing)",
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        **installed_versions(["numpy", "optuna"]),
    }
    record = {
        "figures": {figure: round(value, 4) for figure, value in found.items()},
        "conditions": conditions,
        "command": command,
    }
    write_record(output, SEARCH, record)
    return record


def row_of(table: Table, options: Options) -> int:
    """The row with these options, the baseline's for axes that are not named; raises StudyError where there is none."""
    whole = {name: values[0] for name, values in table.axes.items()} | dict(options)
    for row, at in enumerate(table.options.tolist()):
        if whole == {name: values[index] for (name, values), index in zip(table.axes.items(), at, strict=True)}:
            return row
    raise StudyError(f"the table holds no {dict(options)}; record it anew, or mend its design's anchors")


def searched(runs: Mapping[str, Sequence[Run]]) -> dict[str, float]:
    """The bench's figures of one table and so many actors: ours, and for each other what it took and the ratio."""
    found = figures_over_seeds(runs)
    ours = runs[OURS]
    profile = median(run.start_seconds for run in ours)
    kept = {
        "ours_worst_seed": found[f"worst_seed_{OURS}"],
        "useless_share": found[f"useless_share_{OURS}"],
        "profile_seconds": profile,
        "profile_share": profile / found[f"seconds_{OURS}"],
    }
    for name in runs:
        for figure in ("ratio", "seconds", "trials", "reached"):
            if (value := found.get(f"{figure}_{name}")) is not None:
                kept[f"{figure}_{name}"] = value
    return kept


def whole(table: Table, seeds: int) -> dict[str, float]:
    """The figures of a whole table: what shared prefixes save, how soon our plain search meets a target, and the
    share of its trials that are of no use until it has found all."""
    runs = [replay(table, Ours(table, seed, noise=NOISE), until=WHOLE, most=table.rows) for seed in range(seeds)]
    shared = whole_table_seconds(table, 1, divergence=True)
    again = sum(float(table.artefact_seconds[list(way)].sum()) for way in table.prefixes)
    return {
        "saved_by_prefixes": 1.0 - shared / (float(table.stage_seconds.sum()) + again),
        "useless_share_whole": fmean(useless_share(run) for run in runs),
        "target_evaluations_frontier": float(
            median(trials_to_target(table, run, share) for run in runs for share in TARGETS)
        ),
        **aimed(table, seeds),
        **{f"{figure}_worst": value for figure, value in aimed(table, seeds, of_worst=True).items()},
    }


def apart(table: Table, seeds: int) -> dict[str, float]:
    """What shared prefixes, the profile and at most races save of our search, each apart."""
    ours, blind = (
        [replay(table, Ours(table, seed, noise=NOISE, blind=without), most=table.rows) for seed in range(seeds)]
        for without in (False, True)
    )
    return savings(table, ours, blind)


def saved_by_racing(recorded: Recorded) -> float:
    """The share of all segments that the recorded search's races spared."""
    raced = race_replay(recorded, RUNGS, SEED, FLOOR)
    return 1.0 - sum(ended.segments for ended in raced) / (len(raced) * len(recorded.segments))


def aimed(table: Table, seeds: int, of_worst: bool = False) -> dict[str, float]:
    """The figures of searches that aim at a target and stop by themselves: their trials, and how much larger than the
    table's smallest that meets it what they found is. of_worst: whether the pair that keeps least has to meet it."""
    trials: list[int] = []
    over: list[float] = []
    shares = np.nan_to_num(
        [worst_kept(table, row) for row in range(table.rows)]
        if of_worst
        else table.quality / float(table.quality[table.baseline])
    )
    for share in TARGETS:
        meets = shares >= share
        for seed in range(seeds):
            searcher = Ours(table, seed, noise=NOISE, target=share, of_worst=of_worst)
            run = replay(table, searcher, until=math.inf, most=table.rows)
            found = min(int(table.bytes[ended.row]) for ended in run.ended if meets[ended.row])
            trials.append(len(run.ended))
            over.append(found / int(table.bytes[meets].min()) - 1.0)
    return {
        "target_evaluations": float(median(trials)),
        "target_evaluations_most": float(max(trials)),
        "target_bytes_over": float(median(over)),
        "target_bytes_over_most": max(over),
        "target_within": fmean(each <= NEARLY - 1.0 for each in over),
    }


def trials_to_target(table: Table, run: Run, share: float) -> int:
    """The trials, the baseline among them, until one has this share of the baseline's quality within NEARLY of the
    fewest bytes that have it; where the run never had, the rows of the table."""
    meets = np.nan_to_num(table.quality) >= share * float(table.quality[table.baseline])
    most = NEARLY * int(table.bytes[meets].min())
    found = (at for at, ended in enumerate(run.ended, 1) if meets[ended.row] and table.bytes[ended.row] <= most)
    return next(found, run.whole_trials)


def described(table: Table, design: Design) -> str:
    """What a table is of, and what it was measured under."""
    base, measured = table.about.get("base", {}), table.about.get("conditions", {})
    named = f"{Path(base.get('name', '')).name} {base.get('revision') or ''}".strip()
    told = [measured[name] for name in ("device", "data", "decoding") if name in measured]
    layers = f"layers by {design.layers_by}"
    return ", ".join([f"{table.rows} candidates of {named or 'a model'}", *map(str, told), layers])


def _searchers(seeds: int, with_gp: bool, progress: Progress) -> Iterator[tuple[str, int]]:
    """Ours and the others by name, and how many seeds of each."""
    yield OURS, seeds
    for name in OTHERS:
        if name == GP and (not with_gp or (why := why_no_gp()) is not None):
            if with_gp:
                progress(str(why))
            continue
        yield name, 1 if name in WITHOUT_CHANCE else min(GP_SEEDS, seeds) if name == GP else seeds


def _timed(
    table: Table, name: str, searcher: str, seeds: int, anchors: Sequence[int], actors: int, progress: Progress
) -> list[Run]:
    """A replay a seed; a line says what it found, and the seconds that replaying took."""
    began = time.perf_counter()
    runs = []
    for seed in range(seeds):
        mine = Ours(table, seed, actors, NOISE) if searcher == OURS else OTHERS[searcher](table, seed, anchors)
        runs.append(replay(table, mine, actors=actors, most=table.rows))
    found = f"{median(seconds_to(UNTIL, run) for run in runs):.1f} s, {median(trials_to(UNTIL, run) for run in runs):g}"
    took = f"{seeds} seeds in {time.perf_counter() - began:.1f} s"
    progress(f"{name}, {actors} at a time, {searcher}: {found} trials; {took}")
    return runs
