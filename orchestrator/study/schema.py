"""The keys of a study file for editors and readers: a JSON Schema, and the table of docs/study-file.md."""

from __future__ import annotations

import inspect
from typing import Any

from pydantic import TypeAdapter

from orchestrator.study.flags import default_of
from orchestrator.study.keys import flag_name, flag_of, keys_of, rule_of
from orchestrator.study.spec import GROUPS, StudySpec
from search_spaces.methods.recipes import RECIPES
from search_spaces.methods.reference_points import COMMON, REFERENCE_POINTS
from search_spaces.methods.registry import METHODS


def study_schema() -> dict[str, Any]:
    """The JSON Schema of a study file (https://json-schema.org/draft/2020-12). Where it takes a file, what still may be
    refused hangs on several keys or on the model."""
    found = TypeAdapter(StudySpec).json_schema(mode="validation")
    found["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    found["title"] = "A study of mtpareto"
    found["description"] = "A search for the quality-versus-size frontier of a translation model."
    # Either may be a flag instead.
    del found["required"]
    for key, info in keys_of(StudySpec).items():
        declared = found["properties"][key]
        declared.pop("title", None)
        declared["description"] = f"{info.description} It is {rule_of(info)}."
    # The default is a folder of this machine.
    del found["properties"]["model"]["default"]
    steps = [_method_schema(name) for name in METHODS] + [_recipe_schema(name) for name in RECIPES]
    found["properties"]["anchors"]["items"] = {"type": "array", "items": {"anyOf": steps}}
    for name in ("baseline", "start"):
        found["properties"][name]["items"] = {"anyOf": steps}
    named = {"enum": [COMMON, *REFERENCE_POINTS]}
    chain = {"type": "array", "minItems": 1, "items": {"anyOf": steps}}
    found["properties"]["reference_points"]["anyOf"] = [named, {"type": "array", "items": {"anyOf": [named, chain]}}]
    return found


def _method_schema(name: str) -> dict[str, Any]:
    found = TypeAdapter(METHODS[name]).json_schema()
    for declared in found.get("properties", {}).values():
        declared.pop("title", None)
    return {
        "type": "object",
        "description": str(inspect.getdoc(METHODS[name])).split("\n\n")[0],
        "properties": {"method": {"const": name}, **found.get("properties", {})},
        "required": ["method", *found.get("required", [])],
        "additionalProperties": False,
    }


def _recipe_schema(name: str) -> dict[str, Any]:
    """A recipe and what may be set beside it: its method's parameters."""
    of = _method_schema(RECIPES[name]["method"])
    return {
        **of,
        "description": f"A recipe: {', '.join(f'{key} {value}' for key, value in RECIPES[name].items())}.",
        "properties": {"recipe": {"const": name}, **of["properties"]},
        "required": ["recipe"],
    }


def keys_table() -> str:
    """Every key in Markdown, a table a group: the key, its flag, what it is, what a value must be, its default."""
    lines: list[str] = []
    for group, about in GROUPS.items():
        lines += [f"## {group.capitalize()}", "", about, ""]
        lines += ["| key | flag | what it is | a value is | default |", "| --- | --- | --- | --- | --- |"]
        for key, info in keys_of(StudySpec).items():
            if flag_of(info).group == group:
                name = flag_name(key, info)
                cells = (f"`{key}`", f"`{name}`" if name else "", info.description, rule_of(info), _default(key))
                lines.append(f"| {' | '.join(' '.join(str(cell).split()) for cell in cells)} |")
        lines.append("")
    return "\n".join(lines).rstrip()


def _default(key: str) -> str:
    info = keys_of(StudySpec)[key]
    if info.is_required():
        return "it must be given"
    return str(info.default).lower() if isinstance(info.default, bool) else default_of(key)
