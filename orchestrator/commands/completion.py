"""`mtpareto completion SHELL`: a script that completes subcommands, flags, names and paths."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from orchestrator.number_format import METRIC_NAMES
from orchestrator.study.keys import keys_of, names_of
from orchestrator.study.spec import StudySpec
from search_spaces.methods.reference_points import COMMON, REFERENCE_POINTS
from search_spaces.methods.registry import METHODS
from workers.translation.prompts import PROMPTS

# Arguments whose values are names of the project though the command line itself takes any text: they are checked
# where they are read, with errors that say more.
_STUDY_NAMES = {key: names_of(info) for key, info in keys_of(StudySpec).items() if names_of(info)}
NAMES: Mapping[str, Sequence[str]] = _STUDY_NAMES | {
    "name": tuple(METHODS),
    "metrics": tuple(METRIC_NAMES),
    "eval_metrics": tuple(METRIC_NAMES),
    "prompt": tuple(PROMPTS),
    "reference_points": (COMMON, *REFERENCE_POINTS),
}
FILES = frozenset({"study", "data", "test", "references", "calibration", "calibration_text", "training", "published"})
FOLDERS = frozenset({"folder", "other", "out", "outdir", "store", "model", "model_id"})


def completion_script(shell: str, top: argparse.ArgumentParser) -> str:
    """The script for bash, zsh or fish. top: the whole command line, a study's flags included; it is changed."""
    import shtab

    for action in _actions(top):
        if action.choices is None and action.dest in NAMES:
            action.choices = NAMES[action.dest]
        elif action.choices is None and action.dest in FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        elif action.choices is None and (action.dest in FILES or action.type is Path):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    return str(shtab.complete(top, shell))


def _actions(command: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Every argument of a command and of its subcommands."""
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in dict.fromkeys(action.choices.values()):
                # Beside a subcommand stands its line of help, and not the paragraph of its own page.
                below.description = None
                yield from _actions(below)
        else:
            yield action
