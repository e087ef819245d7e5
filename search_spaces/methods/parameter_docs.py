"""What a method's parameters are, for people: their types, defaults, and the strings under the fields."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from search_spaces.methods.method import Method


@dataclass(frozen=True, slots=True)
class ParameterDoc:
    """kind: its type, or the values that it may have. default: as a study file writes it; None where the parameter must
    be given. about: on one line."""

    name: str
    kind: str
    default: str | None
    about: str


def parameter_docs(method: type[Method]) -> list[ParameterDoc]:
    """The method's parameters, those that must be given first."""
    about: dict[str, str] = {}
    for parent in reversed(method.__mro__):
        if issubclass(parent, Method):
            about |= _strings_under_fields(parent)
    hints = get_type_hints(method)
    found = [
        ParameterDoc(
            name=field.name,
            kind=_kind(hints[field.name]),
            default=None if field.default is MISSING else _as_yaml(field.default),
            about=about.get(field.name, ""),
        )
        for field in fields(method)
    ]
    return sorted(found, key=lambda one: one.default is not None)


def first_sentence(method: type[Method]) -> str:
    """What the method does, in the first sentence of its docstring."""
    paragraph = " ".join(inspect.cleandoc(method.__doc__ or "").split("\n\n")[0].split())
    return re.split(r"(?<=\.) (?=[A-Z])", paragraph, maxsplit=1)[0]


def _strings_under_fields(cls: type) -> dict[str, str]:
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    if not isinstance(tree, ast.ClassDef):
        return {}
    found = {}
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        text = below.value if isinstance(below, ast.Expr) else None
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        if isinstance(text, ast.Constant) and isinstance(text.value, str):
            found[field.target.id] = " ".join(text.value.split())
    return found


def _kind(hint: Any) -> str:
    return " | ".join(map(str, get_args(hint))) if get_origin(hint) is Literal else str(hint.__name__)


def _as_yaml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value) if value != "" else "none"
