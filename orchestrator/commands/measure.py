"""The flags of `main.py` and `mtpareto measure`, and the candidate that they spell."""

from __future__ import annotations

import argparse
from pathlib import Path

from orchestrator.stopping.signals import RunningCommand
from search_spaces.methods.quantizers import BitsAndBytes
from search_spaces.methods.registry import Step
from search_spaces.outcome import Failure

ABOUT = "One candidate, measured: translate a data file with a model, compressed or not, and score it."
HYPHENS = "Flags may be written with hyphens instead: --skip-bad-rows."
QUANT: dict[str, tuple[Step, ...]] = {
    "none": (),
    "8bit": (BitsAndBytes(format="int8"),),
    "4bit": (BitsAndBytes(format="nf4"),),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags, with underscores. Those that a study has too are told as there."""
    from orchestrator.study.flags import key_help

    parser.add_argument(
        "--data", required=True, help="JSON lines, a table, or text beside its translation, plain or .gz"
    )
    parser.add_argument(
        "--outdir",
        required=True,
        type=Path,
        help="where predictions.jsonl, hypotheses.txt (a line a segment), rows.csv and summary.json go",
    )
    parser.add_argument("--model_id", help=key_help("model"))
    parser.add_argument("--revision", help=key_help("revision"))
    parser.add_argument(
        "--quant", choices=tuple(QUANT), default="none", help="bitsandbytes 8 or 4 bits (default: none)"
    )
    parser.add_argument("--device_map", default="auto", help=key_help("device_map"))
    parser.add_argument("--max_new_tokens", type=int, help=key_help("max_new_tokens"))
    parser.add_argument("--batch_size", type=int, help=key_help("batch_size"))
    parser.add_argument("--beams", type=int, default=1, help=key_help("beams"))
    parser.add_argument("--prompt", help=key_help("prompt"))
    parser.add_argument(
        "--eval_metrics",
        default="chrf,bleu",
        help="any of chrf, chrf++, bleu, ter, comet, cometkiwi, with commas (default: chrf,bleu)",
    )
    parser.add_argument("--comet_model", help=key_help("comet_model"))
    parser.add_argument(
        "--bins", default="0-30,30-60,60-100", help="by human or difficulty score: LOW-HIGH, with commas"
    )
    parser.add_argument("--references", help=key_help("references"))
    parser.add_argument("--langs", help=key_help("langs"))
    parser.add_argument("--language", action="append", default=[], metavar="CODE=NAME", help=key_help("languages"))
    parser.add_argument(
        "--calibration", help="pairs that show a base model how to translate (default: the shipped ones)"
    )
    parser.add_argument("--seed", type=int, default=0, help="for methods that draw at random (default: 0)")
    parser.add_argument("--skip_bad_rows", action="store_true", help="leave bad rows out, and say how many")
    parser.add_argument(
        "--no_language_check", dest="check_languages", action="store_false", help=key_help("check_languages")
    )
    parser.add_argument("--trust_remote_code", action="store_true", help=key_help("trust_remote_code"))
    parser.add_argument(
        "--overwrite", action="store_true", help="write over the files of an earlier candidate in --outdir"
    )


def with_underscores(word: str) -> str:
    """A flag with underscores, as this command spells them; hyphens are taken as well."""
    name, equals, value = word.partition("=")
    return name[:2] + name[2:].replace("-", "_") + equals + value if name.startswith("--") else word


def measure(options: argparse.Namespace, work: RunningCommand) -> int:
    """Measure the candidate; returns the exit code: 1 when it failed. Raises UserError, with nothing written."""
    from orchestrator.commands.single import MeasureRequest, measure_one
    from orchestrator.study.values import language_names

    metrics = tuple(name.strip() for name in options.eval_metrics.split(",") if name.strip())
    request = MeasureRequest(
        data=options.data,
        outdir=options.outdir,
        steps=QUANT[options.quant],
        metrics=metrics,
        bins=options.bins,
        model=options.model_id,
        revision=options.revision,
        device_map=options.device_map,
        max_new_tokens=options.max_new_tokens,
        batch_size=options.batch_size,
        beams=options.beams,
        prompt=options.prompt,
        references=options.references,
        langs=options.langs,
        languages=language_names(options.language),
        calibration=options.calibration,
        comet_model=options.comet_model,
        seed=options.seed,
        skip_bad_rows=options.skip_bad_rows,
        trust_remote_code=options.trust_remote_code,
        check_languages=options.check_languages,
        overwrite=options.overwrite,
    )
    return int(isinstance(measure_one(request, print, work), Failure))
