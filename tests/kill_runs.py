"""Stops and resumes a search at random moments, by each signal, alone and as a group: nothing is lost or repeated.

`python -m tests.kill_runs --moments 20` takes about 40 minutes on a quiet machine of 2 cores. A study that ran whole is
the measure: every study that was stopped must end with the same outcomes, up to times, and the same frontier.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import random
import secrets
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from orchestrator.stopping.processes import alive
from tests.support.paths import ROOT
from tests.support.signals import heed_signals

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
MODES = ("alone", "group")
STOP_SECONDS = 10.0
# After the driver's end its workers may still be noticing.
SETTLE_SECONDS = 1.0
MARK = "MTPARETO_KILL_RUNS"
# Every candidate is named, so that what a stopped study proposes does not hang on when it was stopped.
ANCHORS = ([{"method": "rtn", "bits": 4}], [{"method": "gptq", "bits": 3}], [{"method": "remove_layers", "count": 1}])
LINES = 6


@dataclass(frozen=True, slots=True)
class Stop:
    """One stop. moment: seconds after the command's start. after: the ledger's trials at that moment; None before there
    was one. wrong: what did not hold."""

    signal: str
    mode: str
    moment: float
    after: int | None
    seconds: float
    code: int
    wrong: tuple[str, ...]


class Command:
    """A search or a resume, in a process group of its own, and all that it starts known by a mark."""

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        self.mark = secrets.token_hex(8)
        self.started: list[psutil.Process] = []
        self._log = log
        environ = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"} | {MARK: self.mark}
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "orchestrator.cli", *arguments],
                stdout=stream, stderr=subprocess.STDOUT, cwd=ROOT, env=environ, start_new_session=True,
                preexec_fn=heed_signals,
            )  # fmt: skip

    def output(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def stop(self, name: str, mode: str) -> float:
        """Send the signal; returns the seconds until the command has ended. One that has not after 60 is killed."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self.started = psutil.Process(self.process.pid).children(recursive=True)
        number, began = getattr(signal, name), time.monotonic()
        (os.killpg if mode == "group" else os.kill)(self.process.pid, number)
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        return time.monotonic() - began

    def left(self) -> list[str]:
        """The processes that it started and that still run."""
        end = time.monotonic() + SETTLE_SECONDS
        while (found := self._running()) and time.monotonic() < end:
            time.sleep(0.1)
        return found

    def _running(self) -> list[str]:
        # Ray's write their titles over their environment.
        seen = [str(process.pid) for process in self.started if alive(process)]
        return sorted({*seen, *marked(self.mark)})


def marked(mark: str) -> list[str]:
    """Numbers of the processes in whose environment the mark stands."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(str(process.pid))
        except (psutil.Error, OSError):
            continue
    return found


def write_study(folder: Path) -> Path:
    """A study of four candidates on a few segments, with held-out data and a speed phase, all within seconds."""
    for name, source in (("dev", "subset.jsonl"), ("test", "test.jsonl")):
        lines = (ROOT / "data" / source).read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if line and 0 < json.loads(line)["line_id"] <= LINES]
        (folder / f"{name}.jsonl").write_text("\n".join(kept) + "\n", encoding="utf-8")
    study = {
        "data": str(folder / "dev.jsonl"), "test": str(folder / "test.jsonl"), "space": "bit-width", "keep": "none",
        "trials": len(ANCHORS) + 1, "anchors": list(ANCHORS), "max_new_tokens": 24, "rungs": [],
        "calibration_tokens": 2048,
    }  # fmt: skip
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    return path


def trials(folder: Path) -> list[dict[str, Any]] | None:
    """The whole lines of trials in a ledger, None where there is none."""
    path = folder / "ledger.jsonl"
    if not path.is_file():
        return None
    content = path.read_bytes()
    lines = [json.loads(line) for line in content[: content.rfind(b"\n") + 1].splitlines()]
    return [line for line in lines if line["kind"] == "trial"]


def over(folder: Path) -> bool:
    """Whether the ledger says that the search ended by itself."""
    last = json.loads((folder / "ledger.jsonl").read_bytes().splitlines()[-1])
    return bool(last["kind"] == "end" and last["complete"])


def outcomes(folder: Path) -> dict[str, Any]:
    """What a study found, by candidate and split, without what a clock said; of a speed only that it was measured."""
    found = {}
    for line in trials(folder) or []:
        outcome = dict(line["outcome"])
        if line["split"] == "speed":
            outcome = {"kind": outcome["kind"]}
        outcome.pop("seconds", None)
        found[f"{line['digest']}.{line['split']}"] = outcome
    return found


def frontier(folder: Path) -> list[tuple[str, ...]]:
    """Steps, bytes, quality and standing of each point in `frontier.csv`."""
    with (folder / "frontier.csv").open(encoding="utf-8", newline="") as stream:
        return sorted((row["steps"], row["bytes"], row["chrf"], row["on_frontier"]) for row in csv.DictReader(stream))


def run(arguments: Sequence[str], log: Path) -> float:
    """A command to its end; returns its seconds."""
    began = time.monotonic()
    command = Command(arguments, log)
    if code := command.process.wait(timeout=900):
        raise SystemExit(f"{' '.join(arguments)} ended with {code}:\n{command.output()}")
    return time.monotonic() - began


def stop_once(folder: Path, study: Path, name: str, mode: str, moment: float, log: Path) -> Stop | None:
    """Begin or resume the study, stop it at that moment and check; None where it was over before."""
    before = trials(folder)
    arguments = ["search", str(study), "--out", str(folder)] if before is None else ["resume", str(folder)]
    command = Command(arguments, log)
    try:
        command.process.wait(timeout=moment)
        if command.process.returncode:
            raise SystemExit(f"ended with {command.process.returncode} by itself:\n{command.output()}")
        return None
    except subprocess.TimeoutExpired:
        after = trials(folder)
    seconds = command.stop(name, mode)
    wrong = tuple(troubles(folder, command, before or [], after, seconds))
    return Stop(name, mode, moment, None if after is None else len(after), seconds, command.process.returncode, wrong)


def troubles(
    folder: Path, command: Command, before: Sequence[Any], after: Sequence[Any] | None, seconds: float
) -> Iterable[str]:
    """What does not hold after a stop."""
    now, code, said = trials(folder), command.process.returncode, command.output()
    if seconds > STOP_SECONDS:
        yield f"took {seconds:.1f} s"
    # A signal before the command hears of any, or when all is over, finds nothing to end well.
    if not (code < 0 and (now is None or over(folder))):
        if code not in (130, 0):
            yield f"ended with {code}: {said[-4000:]}"
        if "Traceback" in said:
            yield f"a traceback: {said[-4000:]}"
    if left := command.left():
        yield f"left behind: {', '.join(left)}"
    if now is None:
        if after is not None:
            yield "the ledger is gone"
        return
    if now[: len(after or before)] != list(after or before):
        yield "the ledger lost or changed a line"
    keys = [(line["digest"], line["split"]) for line in now]
    if len(keys) != len(set(keys)):
        yield "an outcome is there twice"
    if code == 130 and f"mtpareto resume {folder}" not in said:
        yield f"no word of resume: {said[-4000:]}"
    measured = any(line["outcome"]["kind"] == "measurement" and line["split"] == "dev" for line in now)
    if code == 130 and measured and not (folder / "report.html").is_file():
        yield f"no report: {said[-4000:]}"
    if drafts := [path.name for path in folder.glob(".draft-*")]:
        yield f"half-written: {', '.join(drafts)}"


def stop_often(
    work: Path, study: Path, whole: Path, span: float, name: str, mode: str, moments: Sequence[float]
) -> list[Stop]:
    """Stop studies at these shares of the span, each as often as it lasts; one that ends is held to the whole one."""
    stops: list[Stop] = []
    number = 0
    folder = work / f"{name}-{mode}-{number}"
    for turn, share in enumerate(moments):
        log = work / f"{name}-{mode}-stop-{turn}.log"
        stop = stop_once(folder, study, name, mode, share * span, log)
        while stop is None:
            check_end(folder, whole)
            number += 1
            folder = work / f"{name}-{mode}-{number}"
            stop = stop_once(folder, study, name, mode, share * span, log)
        stops.append(stop)
        said = f"; WRONG: {'; '.join(stop.wrong)}" if stop.wrong else ""
        where = "before the ledger" if stop.after is None else f"after {stop.after} outcomes"
        print(f"{name} {mode} at {stop.moment:.1f} s, {where}: {stop.seconds:.1f} s{said}", flush=True)
    if trials(folder) is None:
        return stops
    run(["resume", str(folder)], work / f"{name}-{mode}-end.log")
    check_end(folder, whole)
    return stops


def check_end(folder: Path, whole: Path) -> None:
    """Raise SystemExit unless a stopped study ended as the whole one did."""
    for what, found, wanted in (
        ("outcomes", outcomes(folder), outcomes(whole)),
        ("frontier", frontier(folder), frontier(whole)),
    ):
        if found != wanted:
            raise SystemExit(f"{folder} has other {what} than {whole}:\n{found}\n{wanted}")


def table(stops: Sequence[Stop]) -> str:
    """Seconds a stop by signal and mode."""
    lines = [f"{'signal':<8} {'mode':<6} {'stops':>5} {'min':>6} {'median':>6} {'max':>6} {'wrong':>5}"]
    for (name, mode), some in sorted(grouped(stops).items()):
        seconds = [stop.seconds for stop in some]
        spread = (min(seconds), statistics.median(seconds), max(seconds))
        wrong = sum(bool(stop.wrong) for stop in some)
        lines.append(
            f"{name:<8} {mode:<6} {len(some):>5} " + " ".join(f"{value:>6.2f}" for value in spread) + f" {wrong:>5}"
        )
    return "\n".join(lines)


def grouped(stops: Sequence[Stop]) -> dict[tuple[str, str], list[Stop]]:
    found: dict[tuple[str, str], list[Stop]] = {}
    for stop in stops:
        found.setdefault((stop.signal, stop.mode), []).append(stop)
    return found


def record(stops: Sequence[Stop], options: Mapping[str, Any]) -> dict[str, Any]:
    """The table as a results file has it."""
    figures: dict[str, float] = {"stops": len(stops), "wrong": sum(bool(stop.wrong) for stop in stops)}
    for (name, mode), some in grouped(stops).items():
        seconds = [stop.seconds for stop in some]
        for word, value in (
            ("min", min(seconds)), ("median", statistics.median(seconds)), ("max", max(seconds)),
        ):  # fmt: skip
            figures[f"seconds_{name.lower()}_{mode}_{word}"] = round(value, 3)
    return {
        "figures": figures,
        "conditions": {"cpus": os.cpu_count(), "seed": options["seed"], "date": time.strftime("%Y-%m-%d")},
        "command": f"python -m tests.kill_runs --moments {options['moments']} --seed {options['seed']}",
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 1 where anything did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.kill_runs", description=__doc__)
    parser.add_argument("--moments", type=int, default=20, help="stops for each signal and mode (default: 20)")
    parser.add_argument("--signals", default=",".join(SIGNALS), help=f"of {', '.join(SIGNALS)}, with commas")
    parser.add_argument("--modes", default=",".join(MODES), help="alone: the driver; group: its process group")
    parser.add_argument("--work", type=Path, required=True, help="a folder for the studies; it must not be there yet")
    parser.add_argument("--json", type=Path, help="where the seconds go")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    options = parser.parse_args(arguments)
    work = options.work.absolute()
    work.mkdir(parents=True)
    study, whole, drawn = write_study(work), work / "whole", random.Random(options.seed)
    span = run(["search", str(study), "--out", str(whole)], work / "whole.log")
    print(f"a study that is not stopped takes {span:.1f} s", flush=True)
    stops: list[Stop] = []
    for name in options.signals.split(","):
        for mode in options.modes.split(","):
            moments = [drawn.random() for _ in range(options.moments)]
            stops += stop_often(work, study, whole, span, name, mode, moments)
    print(table(stops))
    if options.json is not None:
        options.json.write_text(json.dumps(record(stops, vars(options)), indent=2) + "\n", encoding="utf-8")
    return int(any(stop.wrong for stop in stops))


if __name__ == "__main__":
    raise SystemExit(main())
