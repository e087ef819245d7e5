"""The flags that spell a study on the command line: one a key of a study file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from search_spaces.spaces.registry import SPACES


def rungs(text: str) -> list[int]:
    """`64,256,1024`; nothing or `none` is no racing."""
    names = [part.strip() for part in text.split(",") if part.strip()]
    try:
        return [] if names == ["none"] else [int(part) for part in names]
    except ValueError as error:
        rule = "it must be numbers of segments with commas, such as 64,256,1024, or none"
        raise argparse.ArgumentTypeError(f"rungs is {text!r}; {rule}") from error


# title, what its flags are about, and the flags: as they stand in the help.
STUDY_FLAGS: tuple[tuple[str, str, tuple[tuple[str, dict[str, Any]], ...]], ...] = (
    (
        "what is compressed",
        "The model, and what may be tried on it.",
        (
            ("--model", {"help": "hub id or local folder (default: the shipped caption model)"}),
            ("--revision", {"help": "revision of a hub model"}),
            ("--space", {"help": f"{', '.join(SPACES)} (default: joint)"}),
            ("--trials", {"type": int, "help": "candidates to measure, the baseline included (default: 12)"}),
            ("--seed", {"type": int, "help": "of the sampler and the bootstrap (default: 0)"}),
        ),
    ),
    (
        "data",
        "What it is measured on.",
        (
            ("--data", {"help": "the segments the search selects on, in any format the README lists"}),
            ("--test", {"help": "held-out segments on which the frontier is scored once"}),
            (
                "--references",
                {"help": "the target lines of parallel text (default: those beside --data, x.de for x.en)"},
            ),
            ("--langs", {"help": "take one pair's rows, such as en-de; where a file names no pair, what its pair is"}),
            (
                "--language",
                {
                    "action": "append",
                    "metavar": "CODE=NAME",
                    "dest": "languages",
                    "help": "what a language code stands for, where it is not known; may be given again",
                },
            ),
        ),
    ),
    (
        "calibration and training",
        "What methods look at and train on.",
        (
            ("--calibration", {"help": "pairs for methods that look at activations (default: the shipped ones)"}),
            (
                "--calibration-tokens",
                {"type": int, "help": "tokens that calibration statistics are taken over (default: 65536)"},
            ),
            ("--calibration-text", {"help": "a file of running text to take them over instead of the pairs"}),
            (
                "--training",
                {
                    "action": "append",
                    "metavar": "FILE",
                    "help": "pairs for steps that train; may be given again (default: none)",
                },
            ),
            ("--training-gpus", {"type": int, "help": "GPUs that train one candidate together (default: 1)"}),
        ),
    ),
    (
        "translation",
        "How every candidate translates.",
        (
            ("--prompt", {"help": "alma, chat, few-shot or translategemma (default: by the model's own files)"}),
            ("--max-new-tokens", {"type": int, "help": "length limit of a translation (default: 256)"}),
            ("--batch-size", {"type": int, "help": "segments translated at a time (default: 64)"}),
            ("--beams", {"type": int, "help": "of beam search; 1 is greedy (default: 1)"}),
            ("--device-map", {"help": "auto, cpu or cuda:N (default: auto)"}),
        ),
    ),
    (
        "quality",
        "What counts as good, and when a trial ends early.",
        (
            ("--quality", {"help": "chrf or comet: the metric of the frontier (default: chrf)"}),
            (
                "--floor",
                {
                    "type": float,
                    "help": "share of the baseline's quality that a candidate must keep, or 0 (default: 0.5)",
                },
            ),
            ("--rungs", {"type": rungs, "help": "segments after which a race looks, or none (default: 64,256,1024)"}),
            (
                "--margin",
                {
                    "type": float,
                    "help": "points that a recommended candidate loses less than (default: the least people notice)",
                },
            ),
            ("--comet-model", {"help": "COMET's hub id, checkpoint or folder (default: Unbabel/wmt22-comet-da)"}),
        ),
    ),
    (
        "resources",
        "Where trials run, and how many at a time.",
        (
            ("--address", {"help": "a Ray cluster's address (default: RAY_ADDRESS, else a local Ray)"}),
            (
                "--gpus-per-trial",
                {"type": float, "help": "GPUs a trial takes, such as 0.5 (default: 1 where there are any)"},
            ),
            (
                "--cpus-per-trial",
                {"type": float, "help": "CPUs a trial takes (default: a node's, shared among its GPUs)"},
            ),
            ("--max-concurrent", {"type": int, "help": "trials side by side (default: as many as fit)"}),
            ("--retries", {"type": int, "help": "further attempts after a lost worker (default: 3)"}),
        ),
    ),
    (
        "results",
        "Where everything is written, and what stays.",
        (
            ("--out", {"help": "the run's folder, such as runs/NAME"}),
            (
                "--store",
                {"help": "the artefact store, on storage every node reaches (default: inside the run's folder)"},
            ),
            ("--keep", {"help": "artefacts that stay: frontier, all or none (default: frontier)"}),
            (
                "--tracking-uri",
                {
                    "help": "an MLflow server or sqlite:///FILE (default: MLFLOW_TRACKING_URI, else mlflow.db beside "
                    "the folder)"
                },
            ),
            ("--experiment", {"help": "MLflow's grouping there (default: MLFLOW_EXPERIMENT_NAME, else mtpareto)"}),
        ),
    ),
)

NO_LANGUAGE_CHECK = "--no-language-check"
NO_LANGUAGE_CHECK_HELP = "take data that seems to be in other languages than it says"

# flag, the group that it stands in, what it does.
STUDY_SWITCHES = (
    ("--trust-remote-code", "what is compressed", "run code that comes with the model"),
    ("--skip-bad-rows", "data", "leave bad rows out, and sources of the test data out of --data, and say how many"),
)


def add_study_flags(command: argparse.ArgumentParser) -> None:
    """Give a command the study file, and a flag for each of its keys; what is not given stays None."""
    command.usage = f"{command.prog} [STUDY.yaml] [--data FILE] [--out FOLDER] [further flags]"
    command.add_argument("study", nargs="?", type=Path, help="a YAML study file; flags override what it says")
    groups = {}
    for title, about, flags in STUDY_FLAGS:
        groups[title] = command.add_argument_group(title, about)
        for flag, settings in flags:
            groups[title].add_argument(flag, **settings)
    for flag, title, does in STUDY_SWITCHES:
        groups[title].add_argument(flag, action="store_true", default=None, help=does)
    does = "do not time the frontier's points when the search is over"
    groups["results"].add_argument("--no-speed", dest="speed", action="store_false", default=None, help=does)
    groups["data"].add_argument(
        NO_LANGUAGE_CHECK, dest="check_languages", action="store_false", default=None, help=NO_LANGUAGE_CHECK_HELP
    )
