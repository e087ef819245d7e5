"""The command `mtpareto`: search, resume, report, mirror and score. Heavy imports wait until a command needs them."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator import environment
from search_spaces.errors import UserError
from search_spaces.spaces import SPACES

if TYPE_CHECKING:
    from rich.console import Console

    from orchestrator.study import StudySpec

# Columns of what is written to a file or a pipe.
PIPED_WIDTH = 110

STUDY_FLAGS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--model", {"help": "hub id or local folder (default: the shipped caption model)"}),
    ("--revision", {"help": "revision of a hub model"}),
    ("--data", {"help": "the segments the search selects on, in any format the README lists"}),
    ("--test", {"help": "held-out segments on which the frontier is scored once"}),
    ("--references", {"help": "the target lines, when --data is one side of parallel text"}),
    ("--langs", {"help": "the pair, such as en-de, where a file does not say it"}),
    ("--calibration", {"help": "pairs for methods that look at activations (default: the shipped ones)"}),
    (
        "--calibration-tokens",
        {"type": int, "help": "tokens that calibration statistics are taken over (default: 65536)"},
    ),
    ("--calibration-text", {"help": "a file of running text to take them over instead of the pairs"}),
    ("--space", {"help": f"{', '.join(SPACES)} (default: joint)"}),
    ("--trials", {"type": int, "help": "candidates to measure, the baseline included (default: 12)"}),
    ("--out", {"help": "the run's folder, such as runs/NAME"}),
    ("--seed", {"type": int, "help": "of the sampler and the bootstrap (default: 0)"}),
    ("--gpus-per-trial", {"type": float, "help": "GPUs a trial takes, such as 0.5 (default: 1 where there are any)"}),
    ("--cpus-per-trial", {"type": float, "help": "CPUs a trial takes (default: a node's, shared among its GPUs)"}),
    ("--max-concurrent", {"type": int, "help": "trials side by side (default: as many as fit)"}),
    ("--max-new-tokens", {"type": int, "help": "length limit of a translation (default: 256)"}),
    ("--batch-size", {"type": int, "help": "segments translated at a time (default: 64)"}),
    ("--prompt", {"help": "alma, chat or few-shot (default: by the model's own files)"}),
    ("--device-map", {"help": "auto, cpu or cuda:N (default: auto)"}),
    ("--address", {"help": "a Ray cluster's address (default: RAY_ADDRESS, else a local Ray)"}),
    ("--tracking-uri", {"help": "an MLflow server or sqlite:///FILE (default: mlflow.db beside the run's folder)"}),
    ("--store", {"help": "the artefact store, on storage every node reaches (default: inside the run's folder)"}),
    ("--keep", {"help": "artefacts that stay: frontier, all or none (default: frontier)"}),
    ("--retries", {"type": int, "help": "further attempts after a lost worker (default: 3)"}),
)

STUDY_SWITCHES = (
    ("--skip-bad-rows", "leave bad rows out, and say how many"),
    ("--trust-remote-code", "run code that comes with the model"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 2 for what the user can mend, 130 for an interrupted search."""
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    os.environ.setdefault("TQDM_DISABLE", "1")
    command: Callable[[argparse.Namespace], int] = options.run
    try:
        return command(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="mtpareto", description="Smaller translation models, and proof of what each byte costs."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    search = commands.add_parser("search", help="search for the quality-versus-size frontier of a model")
    _add_study_flags(search)
    search.set_defaults(run=_search)
    bench = commands.add_parser("bench", help="time the project's own work").add_subparsers(
        required=True, metavar="BENCH"
    )
    timed = bench.add_parser("search", help="a whole search: seconds a trial, and how busy the GPU was")
    _add_study_flags(timed)
    timed.add_argument("--json", type=Path, required=True, help="where the figures and their conditions go")
    timed.set_defaults(run=_bench_search)
    _add_bench_compress(bench)
    for name, command, about in (
        ("resume", _resume, "go on with an interrupted search; nothing is repeated"),
        ("report", _report, "write a run's report, picture and table anew from its ledger"),
        ("mirror", _mirror, "write a run into MLflow again from its ledger"),
    ):
        sub = commands.add_parser(name, help=about)
        sub.add_argument("folder", type=Path, help="the run's folder")
        if name == "resume":
            sub.add_argument("--trials", type=int, help="go on to this many trials instead")
        sub.set_defaults(run=command)
    _add_score(commands)
    return top


def _add_bench_compress(bench: Any) -> None:
    timed = bench.add_parser("compress", help="calibration and quantization: seconds, memory, errors and chrF")
    timed.add_argument("--json", type=Path, required=True, help="where the figures and their conditions go")
    timed.add_argument("--data", required=True, help="segments whose chrF is measured, such as Multi30k's test_2016")
    timed.add_argument("--model", help="of the errors and the chrF (default: the shipped caption model)")
    timed.add_argument("--calibration", help="pairs (default: the shipped ones)")
    timed.add_argument(
        "--shape", default="mistral-7b", help="of the random weights that are timed: mistral-7b or small"
    )
    timed.add_argument(
        "--tokens", default="65536,1048576", help="of the short and the long calibration (default: 65536,1048576)"
    )
    timed.add_argument(
        "--parts", default="speed,errors,quality", help="of speed, llm-compressor, errors and quality, with commas"
    )
    timed.add_argument("--seed", type=int, default=0, help="of the split of the calibration pairs and the bootstrap")
    timed.set_defaults(run=_bench_compress)


def _add_study_flags(command: argparse.ArgumentParser) -> None:
    command.add_argument("study", nargs="?", type=Path, help="a YAML study file; flags override what it says")
    for flag, settings in STUDY_FLAGS:
        command.add_argument(flag, **settings)
    for flag, about in STUDY_SWITCHES:
        command.add_argument(flag, action="store_true", default=None, help=about)


def _add_score(commands: Any) -> None:
    score = commands.add_parser("score", help="BLEU, chrF and chrF++ of a hypotheses file, with signatures")
    score.add_argument(
        "--hypotheses", type=Path, action="append", required=True, help="a line a segment; twice for a paired test"
    )
    score.add_argument(
        "--references", type=Path, action="append", required=True, help="a line a segment; more than once for several"
    )
    score.add_argument("--target", required=True, help="the target language's code, such as de")
    score.add_argument("--sources", type=Path, help="a line a segment; reports copied sources")
    score.set_defaults(run=_score)


def _search(options: argparse.Namespace) -> int:
    spec = _spec(options)
    environment.prepare(spec.address)
    from orchestrator.search import run_search

    return _exit_code(run_search(spec, _console()))


def _bench_search(options: argparse.Namespace) -> int:
    spec = _spec(options)
    environment.prepare(spec.address)
    from orchestrator.bench_search import bench_search

    record = bench_search(spec, options.json, shlex.join(["mtpareto", *sys.argv[1:]]), _console())
    for name, value in record["figures"].items():
        print(f"{name:<26} {value:g}")
    return 0


def _bench_compress(options: argparse.Namespace) -> int:
    environment.prepare(None)
    from orchestrator.bench_compress import bench_compress, request_of
    from orchestrator.bench_table import as_table

    record = bench_compress(request_of(options), shlex.join(["mtpareto", *sys.argv[1:]]), _progress)
    _console().print(as_table(record["figures"]))
    return 0


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _console(quiet: bool = False) -> Console:
    from rich.console import Console

    return Console(quiet=quiet, width=None if sys.stdout.isatty() else PIPED_WIDTH)


def _spec(options: argparse.Namespace) -> StudySpec:
    from orchestrator.study import read_study, spec_from_mapping

    record = read_study(options.study) if options.study else {}
    asked = {key: value for key, value in vars(options).items() if value is not None}
    return spec_from_mapping(record | {key: asked[key] for key in asked if key not in ("study", "run", "json")})


def _resume(options: argparse.Namespace) -> int:
    from orchestrator.ledger import read_ledger

    environment.prepare(read_ledger(options.folder).header["spec"]["address"])
    from orchestrator.search import resume_search

    return _exit_code(resume_search(options.folder, _console(), options.trials))


def _report(options: argparse.Namespace) -> int:
    environment.prepare(None)
    from orchestrator.search import report_again

    report_again(options.folder, _console())
    return 0


def _mirror(options: argparse.Namespace) -> int:
    environment.prepare(None)
    from orchestrator.search import report_again

    found = report_again(options.folder, _console(quiet=True))
    if not found.mirrored:
        print("error: MLflow could not be written to; see the warning above, and try again", file=sys.stderr)
        return 1
    return 0


def _score(options: argparse.Namespace) -> int:
    from orchestrator.score_command import run_score

    run_score(options.hypotheses, options.references, options.target, options.sources)
    return 0


def _exit_code(found: Any) -> int:
    if found.interrupted:
        return 130
    return 0 if found.dev.points else 1


if __name__ == "__main__":
    sys.exit(main())
