"""The command `mtpareto`: its subcommands and their flags. Heavy imports wait until a command needs them."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator import environment
from orchestrator.commands.exporting.formats import FORMATS, IN_WORDS
from orchestrator.commands.measure import ABOUT, HYPHENS, add_arguments, measure, with_underscores
from orchestrator.ledger.names import LEDGER
from orchestrator.stopping.signals import RunningCommand, quiet_ray, stoppable
from orchestrator.stopping.terminal import console, lasting_streams
from orchestrator.study.shipped import SHIPPED_SEGMENTS
from search_spaces.errors import StudyError, UserError
from workers.failures.table import MACHINE_EXIT, MachineError, MachineFault

if TYPE_CHECKING:
    from orchestrator.study.spec import StudySpec

# As in `orchestrator.results.tables.paper_table`, which takes a moment to load.
TABLE_FORMATS = ("markdown", "latex", "csv", "json")
SHELLS = ("bash", "zsh", "fish")
COMPLETION = (
    'bash: put `eval "$(mtpareto completion bash)"` into ~/.bashrc. zsh: write the output into a file _mtpareto in a '
    "folder of $fpath. fish: write it into ~/.config/fish/completions/mtpareto.fish"
)
LISTS = {
    "spaces": "the search spaces, a line each",
    "methods": "the compression methods, a line each, or one with its parameters",
    "metrics": "the metrics, a line each",
    "recipes": "the recipes for training, a line each",
}

TRANSLATE = (
    "One line out for each line in, in order; an empty line stays empty. PICK is best-quality, knee, smallest-at-99, "
    "smallest, a share of the baseline's quality such as 99%%, a size such as '<=2GB', or a trial's number."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 2 for what the user can mend, 75 where the machine
    must be mended first, 130 for what a signal stopped."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    options = parser(words).parse_args(
        [with_underscores(word) for word in words] if words[:1] == ["measure"] else words
    )
    options.work = RunningCommand()
    if options.run is _resume:
        # Whenever it is stopped from here on, its pages are there, and how to go on is said.
        options.work.ledger = (options.folder / LEDGER).resolve()
    with lasting_streams(), stoppable(options.work):
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
        return exit_code_of(partial(options.run, options))


def exit_code_of(command: Callable[[], int]) -> int:
    """Run a command, and say on the standard error what the user or the machine must mend."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    from workers.evaluation.attempt import unless_machine

    try:
        done = unless_machine(command, "command")
        if isinstance(done, MachineFault):
            raise MachineError(done)
        return done
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except MachineError as error:
        print(f"error: {error}", file=sys.stderr)
        return MACHINE_EXIT


def parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """The command line. words: what stands on it; a study's flags are made where one of them asks for a search or a
    measurement, since they take some 0.2 s."""
    top = argparse.ArgumentParser(
        prog="mtpareto", description="Smaller translation models, and proof of what each byte costs."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    search = commands.add_parser("search", help="search for the quality-versus-size frontier of a model")
    _add_study_flags(search, words)
    search.add_argument(
        "--dry-run", action="store_true", help="say what would be tried and taken, from headers alone, and end"
    )
    search.set_defaults(run=_search)
    bench = commands.add_parser("bench", help="time the project's own work").add_subparsers(
        required=True, metavar="BENCH"
    )
    _add_bench_search(bench)
    timed = bench.add_parser("study", help="a whole search: seconds a trial, and how busy the GPU was")
    _add_study_flags(timed, words)
    timed.add_argument("--json", type=Path, required=True, help="where the figures and their conditions go")
    timed.set_defaults(run=_bench_study)
    _add_bench_compress(bench)
    _add_bench_scale(bench)
    _add_bench_decode(bench)
    _add_bench_cpu(bench)
    _add_bench_racing(bench)
    _add_bench_distillation(bench)
    for name, command, about in (
        ("resume", _resume, "resume an interrupted search; nothing is repeated"),
        ("mirror", _mirror, "write a run into MLflow again from its ledger"),
    ):
        sub = commands.add_parser(name, help=about)
        sub.add_argument("folder", type=Path, help="the run's folder")
        if name == "resume":
            sub.add_argument("--trials", type=int, help="continue to this many trials in all instead")
        sub.set_defaults(run=command)
    _add_report(commands)
    _add_table(commands)
    _add_page(commands)
    _add_translate(commands)
    _add_export(commands)
    _add_ui(commands)
    _add_score(commands)
    _add_rescore(commands)
    _add_lists(commands)
    _add_doctor(commands)
    one = commands.add_parser(
        "measure", help="one candidate, as main.py measures it", description=ABOUT, epilog=HYPHENS
    )
    if "measure" in words:
        add_arguments(one)
    one.set_defaults(run=_measure)
    completion = commands.add_parser("completion", help="a script that completes this command in a shell")
    completion.add_argument("shell", choices=SHELLS, help=COMPLETION)
    completion.set_defaults(run=_completion)
    schema = commands.add_parser("schema", help="the keys of a study file: a JSON Schema for editors, or a table")
    schema.add_argument("--table", action="store_true", help="a table in Markdown instead")
    schema.set_defaults(run=_schema)
    return top


def _add_study_flags(command: argparse.ArgumentParser, words: Sequence[str]) -> None:
    if {"search", "study"} & set(words):
        from orchestrator.study.flags import add_study_flags

        add_study_flags(command)


def _add_bench_compress(bench: Any) -> None:
    timed = bench.add_parser("compress", help="calibration and quantization: seconds, memory, errors and chrF")
    timed.add_argument("--json", type=Path, required=True, help="where the figures and their conditions go")
    timed.add_argument("--data", required=True, help="segments whose chrF is measured, such as Multi30k's test_2016")
    timed.add_argument("--model", help="for errors and chrF (default: the shipped caption model)")
    timed.add_argument("--calibration", help="calibration pairs (default: the shipped ones)")
    timed.add_argument("--shape", default="mistral-7b", help="shape of the random weights to time: mistral-7b or small")
    timed.add_argument(
        "--tokens", default="65536,1048576", help="in the short and the long calibration (default: 65536,1048576)"
    )
    timed.add_argument(
        "--parts", default="speed,errors,quality", help="any of speed, llm-compressor, errors, quality, with commas"
    )
    timed.add_argument("--seed", type=int, default=0, help="for the split of the calibration pairs and the bootstrap")
    timed.set_defaults(run=_bench_compress)


def _add_bench_decode(bench: Any) -> None:
    timed = bench.add_parser("decode", help="the decoder beside transformers' generate: tokens a second")
    timed.add_argument("--json", type=Path, required=True, help="where the figures and their conditions go")
    timed.add_argument(
        "--data", default=str(SHIPPED_SEGMENTS), help="segments for the model (default: the shipped ones)"
    )
    timed.add_argument("--model", help="for the parts identical and cpu (default: the shipped caption model)")
    timed.add_argument("--shape", default="mistral-7b", help="shape of the random weights to time: mistral-7b or small")
    timed.add_argument(
        "--parts", default="speed,identical,packed,cpu", help="any of speed, identical, packed, cpu, with commas"
    )
    timed.set_defaults(run=_bench_decode)


def _add_bench_scale(bench: Any) -> None:
    timed = bench.add_parser("scale", help="a search over random weights of a 7B shape: minutes, disk, GPU busy")
    timed.add_argument("--json", type=Path, required=True, help="where the figures and their conditions go")
    timed.add_argument("--folder", type=Path, required=True, help="a new folder for the model and the run")
    timed.add_argument("--shape", default="mistral-7b", help="shape of the random weights: mistral-7b or small")
    timed.add_argument("--store-limit", metavar="SIZE", help="as a search's")
    timed.add_argument("--gpus-per-trial", type=float, help="as a search's: with 0.5 two trials share a GPU")
    timed.add_argument("--no-plain-way", action="store_true", help="leave out bitsandbytes with generate")
    timed.set_defaults(run=_bench_scale)


def _add_bench_cpu(bench: Any) -> None:
    timed = bench.add_parser("cpu", help="decoding in a Ray worker beside a busy neighbour: how evenly it runs")
    timed.add_argument("--json", type=Path, required=True, help="where the figures and their conditions go")
    timed.add_argument("--data", default=str(SHIPPED_SEGMENTS), help="at least 128 segments (default: the shipped)")
    timed.set_defaults(run=_bench_cpu)


def _add_bench_search(bench: Any) -> None:
    replayed = bench.add_parser("search", help="replays of recorded tables: how soon ours and other searches find them")
    replayed.add_argument(
        "--json",
        type=Path,
        default=Path("docs/results/bench-search.json"),
        help="where the figures and their conditions go (default: docs/results/bench-search.json)",
    )
    replayed.add_argument("--seeds", type=int, default=50, help="replays of each search (default: 50)")
    replayed.set_defaults(run=_bench_search)


def _add_bench_racing(bench: Any) -> None:
    replayed = bench.add_parser("racing", help="replays of recorded scores: wrong drops, and segments saved by racing")
    replayed.add_argument("--json", type=Path, required=True, help="where the figures and their conditions go")
    replayed.set_defaults(run=_bench_racing)


def _add_bench_distillation(bench: Any) -> None:
    timed = bench.add_parser("distillation", help="training: what it wins back, and how fast it is")
    timed.add_argument("--json", type=Path, required=True, help="where the figures and their conditions go")
    timed.add_argument("--data", help="segments whose chrF is measured, such as Multi30k's test_2016")
    timed.add_argument("--training", action="append", default=[], help="pairs to train on; may be given again")
    timed.add_argument("--model", help="teacher and parent (default: the shipped caption model)")
    timed.add_argument("--shape", default="llama-1b", help="shape of random weights, parts cached and sharded")
    timed.add_argument("--large-shape", default="mistral-7b", help="shape of random weights, part rate")
    timed.add_argument("--store", help="the artefact store (default: a temporary one)")
    timed.add_argument("--jobs", type=int, default=1, help="candidates at a time, a process each (default: 1)")
    timed.add_argument(
        "--parts",
        default="recovery,students,cached,rate",
        help="any of recovery, students, cached, rate, sharded (two GPUs of one host), with commas",
    )
    timed.set_defaults(run=_bench_distillation)


def _add_translate(commands: Any) -> None:
    translate = commands.add_parser(
        "translate", help="translate lines: from the standard input to the standard output", description=TRANSLATE
    )
    translate.add_argument(
        "--model", required=True, metavar="DIR|FILE.gguf|RUN@PICK", help="a model's folder or GGUF, or a kept model"
    )
    translate.add_argument("--source", required=True, metavar="CODE", help="language of the input, such as en or eng")
    translate.add_argument("--target", required=True, metavar="CODE", help="language of the output, such as de or deu")
    translate.add_argument("--batch-size", type=int, metavar="N", help="lines at a time (default: the study's, or 64)")
    translate.add_argument(
        "--max-new-tokens", type=int, metavar="N", help="a translation's limit (default: the study's, or 256)"
    )
    translate.add_argument("--beams", type=int, metavar="N", help="1 is greedy (default: the study's, or 1)")
    translate.add_argument("--prompt", help="how the model is asked (default: the study's, or by the model's files)")
    translate.add_argument(
        "--devices", metavar="LIST", help="devices such as cuda:0,cuda:1 or cpu, a process each (default: all GPUs)"
    )
    translate.add_argument("--device-map", default="auto", help="auto, balanced or a device (default: auto)")
    translate.add_argument("--trust-remote-code", action="store_true", help="run code that comes with the model")
    translate.set_defaults(run=_translate)


def _add_export(commands: Any) -> None:
    export = commands.add_parser("export", help="a kept model as a folder that runs without this project")
    export.add_argument("folder", type=Path, help="the run's folder")
    export.add_argument("--pick", required=True, help="which model, as in translate: knee, 99%%, '<=2GB', a number")
    export.add_argument("--to", type=Path, required=True, metavar="DIR", help="a new folder")
    export.add_argument(
        "--format",
        choices=FORMATS,
        default=FORMATS[0],
        help=f"{'; '.join(f'{name}: {words}' for name, words in IN_WORDS.items())} (default: {FORMATS[0]})",
    )
    export.add_argument("--langs", default="", help="further language pairs, with commas (default: those measured)")
    export.set_defaults(run=_export)


def _add_ui(commands: Any) -> None:
    ui = commands.add_parser("ui", help="MLflow's UI on this machine, at a run's study, until Ctrl-C")
    ui.add_argument(
        "folder",
        type=Path,
        nargs="?",
        metavar="RUN",
        help="the run's folder (default: MLFLOW_TRACKING_URI, else runs/mlflow.db)",
    )
    ui.add_argument("--port", type=int, default=5000, help="0 takes a free one (default: 5000)")
    ui.add_argument("--no-open", action="store_true", help="open no browser")
    ui.set_defaults(run=_ui)


def _add_score(commands: Any) -> None:
    score = commands.add_parser("score", help="BLEU, chrF and chrF++ of a hypotheses file, with signatures")
    score.add_argument(
        "--hypotheses",
        type=Path,
        action="append",
        required=True,
        help="a line a segment, or predictions.jsonl and the like; twice for a paired test",
    )
    score.add_argument(
        "--references", type=Path, action="append", required=True, help="one line a segment; give it again for more"
    )
    score.add_argument("--target", required=True, help="the target language's code, such as de")
    score.add_argument("--sources", type=Path, help="a line a segment; reports copied sources")
    score.set_defaults(run=_score)


def _add_report(commands: Any) -> None:
    report = commands.add_parser(
        "report", help="write a run's report, picture and table anew from its ledger, or two runs as one page"
    )
    report.add_argument("folder", type=Path, help="the run's folder")
    report.add_argument("other", type=Path, nargs="?", help="a second run's: compares them on a page of their own")
    report.add_argument(
        "--to", type=Path, metavar="FILE.html", help="where the page of two runs goes (default: A-and-B.html)"
    )
    _add_published(report, ", to be marked from now on")
    report.set_defaults(run=_report)


def _add_published(command: argparse.ArgumentParser, what: str = "") -> None:
    command.add_argument(
        "--published",
        type=Path,
        metavar="FILE",
        help=f"a CSV of published points of other models{what} (default: those the run has)",
    )


def _add_table(commands: Any) -> None:
    table = commands.add_parser("table", help="a run's points as LaTeX, Markdown, CSV or JSON, for a paper")
    table.add_argument("folder", type=Path, help="the run's folder")
    table.add_argument("--format", choices=TABLE_FORMATS, default=TABLE_FORMATS[0], help=f"default: {TABLE_FORMATS[0]}")
    table.add_argument(
        "--columns",
        help="with commas: trial, label, steps, bytes, ratio, quality, kept, kept_of_tuned, interval, worst_pair, "
        "tokens_s, on_frontier, or a metric (default: label to tokens_s, without steps)",
    )
    table.add_argument(
        "--pick",
        default="frontier",
        help="frontier, without what is not told apart from it; all; or trial numbers with commas (default: frontier)",
    )
    table.add_argument(
        "--split", choices=("dev", "test"), help="whose scores (default: the held-out test's where there is one)"
    )
    table.set_defaults(run=_table)


def _add_page(commands: Any) -> None:
    page = commands.add_parser("page", help="a run's results as a page of Markdown, with its figures as JSON")
    page.add_argument("folder", type=Path, help="the run's folder")
    page.add_argument(
        "--to",
        type=Path,
        required=True,
        metavar="NAME",
        help="writes NAME.md, NAME.json and NAME.png, such as docs/results/alma",
    )
    page.add_argument("--title", default="", help="the page's heading (default: the study's)")
    page.add_argument("--note", default="", help="what is to be said of the model, such as where it comes from")
    page.add_argument(
        "--no-sentences",
        dest="sentences",
        action="store_false",
        help="name segments that differ by their ids, quote none: for data that may not be passed on",
    )
    _add_published(page)
    page.set_defaults(run=_page)


def _add_lists(commands: Any) -> None:
    for name, about in LISTS.items():
        listed = commands.add_parser(name, help=about)
        if name == "methods":
            listed.add_argument("name", nargs="?", help="show this method's parameters instead")
        listed.set_defaults(run=_list, what=name)


def _add_doctor(commands: Any) -> None:
    looked = commands.add_parser("doctor", help="what of this machine, and of a study, would stop a search")
    looked.add_argument("study", nargs="?", type=Path, help="a YAML study file")
    looked.add_argument("--address", help="a Ray cluster's address (default: the study's, else RAY_ADDRESS)")
    looked.set_defaults(run=_doctor)


def _add_rescore(commands: Any) -> None:
    again = commands.add_parser("rescore", help="score a run's stored hypotheses in further metrics; needs no GPU")
    again.add_argument("folder", type=Path, help="the run's folder")
    again.add_argument("--metrics", required=True, help="such as ter,chrf++,comet; report and table then show them too")
    again.add_argument("--comet-model", help="COMET's hub id, checkpoint or folder (default: the study's)")
    again.set_defaults(run=_rescore)


def _search(options: argparse.Namespace) -> int:
    if options.dry_run:
        environment.prepare(None)
        from orchestrator.search.dry_run import dry_run

        dry_run(_spec(options), console())
        return 0
    from orchestrator.search.start import start_search

    return _exit_code(start_search(_spec(options), console(), options.work))


def _bench_study(options: argparse.Namespace) -> int:
    spec = _spec(options)
    environment.prepare(spec.address)
    command = shlex.join(["mtpareto", *sys.argv[1:]])
    with quiet_ray(options.work):
        from orchestrator.benches.study import bench_study

        record = bench_study(spec, options.json, command, console(), options.work)
    for name, value in record["figures"].items():
        print(f"{name:<26} {value:g}")
    return 0


def _bench_scale(options: argparse.Namespace) -> int:
    environment.prepare(None)
    from orchestrator.benches.figures import SCALE
    from orchestrator.benches.scale import ScaleRequest, bench_scale
    from orchestrator.benches.table import as_table

    request = ScaleRequest(
        output=options.json,
        folder=options.folder.absolute(),
        shape=options.shape,
        store_limit=options.store_limit,
        gpus_per_trial=options.gpus_per_trial,
        plain=not options.no_plain_way,
    )
    command = shlex.join(["mtpareto", *sys.argv[1:]])
    record = bench_scale(request, command, console(), options.work, _progress)
    console().print(as_table(record["figures"], SCALE))
    return 0


def _bench_compress(options: argparse.Namespace) -> int:
    environment.prepare(None)
    from orchestrator.benches.compress import bench_compress, request_of
    from orchestrator.benches.figures import COMPRESS
    from orchestrator.benches.table import as_table

    record = bench_compress(request_of(options), shlex.join(["mtpareto", *sys.argv[1:]]), _progress)
    console().print(as_table(record["figures"], COMPRESS))
    return 0


def _bench_decode(options: argparse.Namespace) -> int:
    environment.prepare(None)
    from orchestrator.benches.decode import DecodeRequest, bench_decode
    from orchestrator.benches.figures import DECODE
    from orchestrator.benches.table import as_table
    from orchestrator.study.shipped import SHIPPED_MODEL

    request = DecodeRequest(
        output=options.json,
        data=options.data,
        parts=tuple(part.strip() for part in options.parts.split(",")),
        shape=options.shape,
        model=options.model or str(SHIPPED_MODEL),
    )
    record = bench_decode(request, shlex.join(["mtpareto", *sys.argv[1:]]), _progress)
    console().print(as_table(record["figures"], DECODE))
    return 0


def _bench_cpu(options: argparse.Namespace) -> int:
    environment.prepare(None)
    from orchestrator.benches.cpu import bench_cpu
    from orchestrator.benches.figures import CPU
    from orchestrator.benches.table import as_table

    command = shlex.join(["mtpareto", *sys.argv[1:]])
    record = bench_cpu(options.json, options.data, command, _progress, options.work)
    console().print(as_table(record["figures"], CPU))
    return 0


def _bench_racing(options: argparse.Namespace) -> int:
    from orchestrator.benches.racing import bench_racing

    record = bench_racing(options.json, shlex.join(["mtpareto", *sys.argv[1:]]))
    for name, value in record["figures"].items():
        print(f"{name:<34} {value:g}")
    return 0


def _bench_search(options: argparse.Namespace) -> int:
    environment.prepare(None)
    from orchestrator.benches.figures import SEARCH
    from orchestrator.benches.search import bench_search
    from orchestrator.benches.table import as_table

    record = bench_search(options.json, options.seeds, shlex.join(["mtpareto", *sys.argv[1:]]), _progress)
    console().print(as_table(record["figures"], SEARCH))
    return 0


def _bench_distillation(options: argparse.Namespace) -> int:
    environment.prepare(None)
    from orchestrator.benches.distillation import bench_distillation, request_of
    from orchestrator.benches.figures import DISTILLATION
    from orchestrator.benches.table import as_table

    record = bench_distillation(request_of(options), shlex.join(["mtpareto", *sys.argv[1:]]), _progress)
    console().print(as_table(record["figures"], DISTILLATION))
    return 0


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _spec(options: argparse.Namespace) -> StudySpec:
    from orchestrator.study.spec import MLFLOW_VARIABLES, spec_from_mapping
    from orchestrator.study.yaml_file import read_study

    record = read_study(options.study) if options.study else {}
    asked = {key: value for key, value in vars(options).items() if value is not None}
    spec = spec_from_mapping(
        record | {key: asked[key] for key in asked if key not in ("study", "run", "json", "work", "dry_run")}
    )
    told = spec.told_by(os.environ)
    for key, variable in MLFLOW_VARIABLES.items():
        if getattr(told, key) != getattr(spec, key):
            print(f"{key} is {getattr(told, key)}, as {variable} says", flush=True)
    return told


def _completion(options: argparse.Namespace) -> int:
    from orchestrator.commands.completion import completion_script

    # These two words have the flags of every command made.
    print(completion_script(options.shell, parser(["search", "measure"])))
    return 0


def _schema(options: argparse.Namespace) -> int:
    import json

    from orchestrator.study.schema import keys_table, study_schema

    print(keys_table() if options.table else json.dumps(study_schema(), indent=2, ensure_ascii=False))
    return 0


def _table(options: argparse.Namespace) -> int:
    environment.prepare(None)
    from orchestrator.commands.table import table_of_run

    columns = [name.strip() for name in (options.columns or "").split(",") if name.strip()]
    print(table_of_run(options.folder, options.format, columns, options.pick, options.split), end="")
    return 0


def _page(options: argparse.Namespace) -> int:
    environment.prepare(None)
    from orchestrator.finish.results_page import write_page

    said = (options.note, options.published, options.title)
    for path in write_page(options.folder, options.to, *said, sentences=options.sentences):
        print(path)
    return 0


def _list(options: argparse.Namespace) -> int:
    from orchestrator.commands import listing

    named = getattr(options, "name", None)
    print("\n".join(listing.method(named) if named else getattr(listing, options.what)()))
    return 0


def _doctor(options: argparse.Namespace) -> int:
    environment.prepare(options.address)
    from orchestrator.doctor.doctor import doctor
    from orchestrator.doctor.finding import conclusion

    read = None if options.study is None else partial(_spec_of_file, options.study)
    findings = doctor(read, options.address)
    for finding in findings:
        print(finding.line())
    print(conclusion(findings))
    return int(any(finding.level == "wrong" for finding in findings))


def _spec_of_file(path: Path) -> StudySpec:
    from orchestrator.study.spec import spec_from_mapping
    from orchestrator.study.yaml_file import read_study

    return spec_from_mapping(read_study(path))


def _resume(options: argparse.Namespace) -> int:
    from orchestrator.search.start import resume

    return _exit_code(resume(options.folder, console(), options.trials, options.work))


def _report(options: argparse.Namespace) -> int:
    environment.prepare(None)
    if options.other is not None:
        return _compare(options)
    if options.to is not None:
        raise StudyError("--to is for the page of two runs; a run's own report is written into its folder")
    from orchestrator.finish.run_folder import report_again

    report_again(options.folder, console(), published=options.published)
    return 0


def _compare(options: argparse.Namespace) -> int:
    if options.published is not None:
        raise StudyError("--published is for one run's report; leave it out")
    from orchestrator.finish.comparing import compare_runs

    path, said = compare_runs(options.folder, options.other, options.to)
    for line in said:
        console().print(line, markup=False, highlight=False, soft_wrap=True)
    print(f"compared  {path}")
    return 0


def _mirror(options: argparse.Namespace) -> int:
    environment.prepare(None)
    from orchestrator.finish.run_folder import reopen, report_again

    found = report_again(options.folder, console(quiet=True), loadable=True)
    if not found.mirrored:
        print("error: MLflow could not be written to; see the warning above, and try again", file=sys.stderr)
        return 1
    print(f"mirrored  {len(found.dev.points)} points of {found.folder} into {reopen(options.folder)[1].mlflow_uri}")
    return 0


def _ui(options: argparse.Namespace) -> int:
    environment.prepare(None)
    from orchestrator.commands.ui import show

    return show(options.folder, options.port, not options.no_open, partial(print, flush=True))


def _rescore(options: argparse.Namespace) -> int:
    from orchestrator.ledger.records import read_ledger

    environment.prepare(read_ledger(options.folder).header["spec"]["address"])
    from orchestrator.commands.rescore import rescore
    from orchestrator.finish.run_folder import report_again

    metrics = [name.strip() for name in options.metrics.split(",") if name.strip()]
    path = rescore(options.folder, metrics, _progress, options.comet_model, options.work)
    report_again(options.folder, console())
    print(f"rescored  {path}")
    return 0


def _measure(options: argparse.Namespace) -> int:
    return measure(options, options.work)


def _translate(options: argparse.Namespace) -> int:
    from orchestrator.commands.translation.translate import TranslateRequest, translate_stream
    from workers.translation.line_reader import LineReader

    names = TranslateRequest.__dataclass_fields__
    request = TranslateRequest(**{name: getattr(options, name) for name in names})
    return translate_stream(request, LineReader(sys.stdin.fileno()), sys.stdout.fileno())


def _export(options: argparse.Namespace) -> int:
    from orchestrator.commands.exporting.export import export

    langs = [langs.strip() for langs in options.langs.split(",") if langs.strip()]
    export(options.folder, options.pick, options.to.absolute(), langs, print, options.format)
    return 0


def _score(options: argparse.Namespace) -> int:
    from orchestrator.commands.score import run_score

    run_score(options.hypotheses, options.references, options.target, options.sources)
    return 0


def _exit_code(found: Any) -> int:
    if found.interrupted:
        return 130
    return 0 if found.dev.points else 1


if __name__ == "__main__":
    sys.exit(main())
