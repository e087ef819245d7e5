"""The flags that spell a study on the command line: one a key of a study file, made from the keys' declarations."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, get_args

from pydantic.fields import FieldInfo

from orchestrator.study.keys import flag_name, flag_of, keys_of, names_of
from orchestrator.study.spec import GROUPS, StudySpec


def add_study_flags(command: argparse.ArgumentParser) -> None:
    """Give a command the study file, and a flag for each of its keys; what is not given stays None."""
    command.usage = f"{command.prog} [STUDY.yaml] [--data FILE] [--out FOLDER] [further flags]"
    command.add_argument("study", nargs="?", type=Path, help="a YAML study file; flags override what it says")
    groups = {title: command.add_argument_group(title, about) for title, about in GROUPS.items()}
    for key, info in keys_of(StudySpec).items():
        name = flag_name(key, info)
        if name is not None:
            groups[flag_of(info).group].add_argument(
                name, dest=key, default=None, help=_escaped(key_help(key)), **_reading(info)
            )


def key_help(key: str) -> str:
    """What the help says of a key: what it is, the names it may have, and its default."""
    info = keys_of(StudySpec)[key]
    flag = flag_of(info)
    if flag.off is not None:
        return flag.off
    about = (info.description or "").rstrip(".")
    # An abbreviation such as MLflow's or GPUs keeps its capital.
    said = about[0].lower() + about[1:] if about[1:2].islower() or about[1:2] == " " else about
    listed = f": {', '.join(names_of(info))}" if names_of(info) else ""
    again = "; may be given again" if flag.repeated else ""
    default = default_of(key)
    return f"{said}{listed}{again}" + (f" (default: {default})" if default else "")


def default_of(key: str) -> str:
    """A key's default in words; empty where it has none to speak of."""
    info = keys_of(StudySpec)[key]
    flag = flag_of(info)
    if flag.default is not None:
        return flag.default
    value = info.default
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else ""


def _escaped(text: str) -> str:
    """As argparse takes it, which fills in what follows a percent sign."""
    return text.replace("%", "%%")


def _reading(info: FieldInfo) -> dict[str, Any]:
    flag = flag_of(info)
    types = {info.annotation, *(getattr(part, "__origin__", part) for part in get_args(info.annotation))}
    if bool in types:
        return {"action": "store_false" if info.default else "store_true"}
    if flag.repeated:
        return {"action": "append", "metavar": flag.metavar}
    read = flag.read or next((kind for kind in (int, float) if kind in types), str)
    return {"type": read, "metavar": flag.metavar}
