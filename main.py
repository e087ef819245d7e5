"""One candidate, measured: translate a data file with a model, compressed or not, and score it.

It shares every line of its work with a trial of `mtpareto search`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from orchestrator.stopping.signals import UnderWay, stoppable
from orchestrator.stopping.terminal import lasting_streams
from search_spaces.errors import UserError
from search_spaces.methods.quantizers import BitsAndBytes
from search_spaces.methods.registry import Step
from workers.failures.table import MACHINE_EXIT, MachineError

QUANT: dict[str, tuple[Step, ...]] = {
    "none": (),
    "8bit": (BitsAndBytes(format="int8"),),
    "4bit": (BitsAndBytes(format="nf4"),),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 when measured, 1 when the candidate failed, 2 for what the user can mend, 75 where the
    machine must be mended first, 130 for what a signal stopped."""
    options = parser().parse_args([_spelt(word) for word in (sys.argv[1:] if arguments is None else arguments)])
    os.environ.setdefault("TQDM_DISABLE", "1")
    work = UnderWay()
    with lasting_streams(), stoppable(work):
        return _run(options, work)


def _run(options: argparse.Namespace, work: UnderWay) -> int:
    try:
        return _measure(options, work)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except MachineError as error:
        print(f"error: {error}", file=sys.stderr)
        return MACHINE_EXIT


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="main.py", description=__doc__, epilog="Flags may be written with hyphens instead: --skip-bad-rows."
    )
    top.add_argument("--data", required=True, help="the segments, in any format the README lists, plain or .gz")
    top.add_argument(
        "--outdir",
        required=True,
        type=Path,
        help="where predictions.jsonl, hypotheses.txt (a line a segment), rows.csv and summary.json go",
    )
    top.add_argument("--model_id", help="hub id or local folder (default: the shipped caption model)")
    top.add_argument("--revision", help="revision of a hub model")
    top.add_argument("--quant", choices=tuple(QUANT), default="none", help="bitsandbytes 8 or 4 bits (default: none)")
    top.add_argument("--device_map", default="auto", help="auto, cpu or cuda:N (default: auto)")
    top.add_argument("--max_new_tokens", type=int, help="length limit of a translation (default: 256)")
    top.add_argument("--batch_size", type=int, help="segments translated at a time (default: 64)")
    top.add_argument("--beams", type=int, default=1, help="of beam search; 1 is greedy (default: 1)")
    top.add_argument("--prompt", help="alma, chat, few-shot or translategemma (default: by the model's own files)")
    top.add_argument(
        "--eval_metrics",
        default="chrf,bleu",
        help="of chrf, chrf++, bleu, ter, comet and cometkiwi, with commas (default: chrf,bleu)",
    )
    top.add_argument("--comet_model", help="COMET's hub id or checkpoint file (default: Unbabel/wmt22-comet-da)")
    top.add_argument(
        "--bins", default="0-30,30-60,60-100", help="of the human or difficulty score: LOW-HIGH, with commas"
    )
    top.add_argument(
        "--references", help="the target lines of parallel text (default: those beside --data, x.de for x.en)"
    )
    top.add_argument(
        "--langs", help="take one pair's rows, such as en-de; where a file names no pair, what its pair is"
    )
    top.add_argument(
        "--language",
        action="append",
        default=[],
        metavar="CODE=NAME",
        help="what a language code stands for, where it is not known; may be given again",
    )
    top.add_argument("--calibration", help="pairs that show a base model how to translate (default: the shipped ones)")
    top.add_argument("--seed", type=int, default=0, help="for methods that draw (default: 0)")
    top.add_argument("--skip_bad_rows", action="store_true", help="leave bad rows out, and say how many")
    top.add_argument(
        "--no_language_check",
        dest="check_languages",
        action="store_false",
        help="take data that seems to be in other languages than it says",
    )
    top.add_argument("--trust_remote_code", action="store_true", help="run code that comes with the model")
    top.add_argument(
        "--overwrite", action="store_true", help="write over the files of an earlier candidate in --outdir"
    )
    return top


def _spelt(word: str) -> str:
    """A flag with underscores, as this command spells them; hyphens are taken as well."""
    name, equals, value = word.partition("=")
    return name[:2] + name[2:].replace("-", "_") + equals + value if name.startswith("--") else word


def _measure(options: argparse.Namespace, work: UnderWay) -> int:
    from orchestrator.commands.single import Request, measure_one
    from orchestrator.study.spec import language_names

    metrics = tuple(name.strip() for name in options.eval_metrics.split(",") if name.strip())
    request = Request(
        data=options.data, outdir=options.outdir, steps=QUANT[options.quant], metrics=metrics, bins=options.bins,
        model=options.model_id, revision=options.revision, device_map=options.device_map,
        max_new_tokens=options.max_new_tokens, batch_size=options.batch_size, beams=options.beams,
        prompt=options.prompt,
        references=options.references, langs=options.langs,
        languages=language_names(options.language), calibration=options.calibration,
        comet_model=options.comet_model, seed=options.seed,
        skip_bad_rows=options.skip_bad_rows, trust_remote_code=options.trust_remote_code,
        check_languages=options.check_languages,
        overwrite=options.overwrite,
    )  # fmt: skip
    return measure_one(request, print, work)


if __name__ == "__main__":
    sys.exit(main())
