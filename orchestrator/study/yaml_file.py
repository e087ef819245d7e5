"""Reads a YAML study file: no key twice, and no value that YAML 1.1 reads otherwise than people do."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from orchestrator.study.keys import keys_of
from orchestrator.study.spec import StudySpec
from search_spaces.errors import StudyError
from search_spaces.methods.registry import METHODS
from workers.runtime.not_data import why_no_file

# Keys whose value is true or false: elsewhere `no` is Norwegian, and `on` and `off` are words.
_TRUE_OR_FALSE = frozenset(
    [key for key, info in keys_of(StudySpec).items() if info.annotation is bool]
    + [field.name for declared in METHODS.values() for field in fields(declared) if field.type == "bool"]
)
_WORDS = {"yes": True, "on": True, "no": False, "off": False}
# https://yaml.org/type/int.html: in YAML 1.1 numbers with a leading 0 are octal, and colons mean base 60.
_OCTAL = re.compile(r"[-+]?0[0-9_]+")
_SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?")
# YAML 1.2 reads these as numbers, YAML 1.1 as text: it wants a point and a sign.
_EXPONENT = re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+\Z|[-+]?\.[0-9]+[eE][-+]?[0-9]+\Z")


def read_study(path: Path) -> dict[str, Any]:
    """The mapping in a YAML study file; raises StudyError when there is none, for a key that stands twice, and for a
    number that YAML's versions read differently."""
    try:
        content = path.read_bytes()
        if (found := why_no_file(content)) is not None:
            what, way_out = found
            raise StudyError(f"{path}: {what}. {way_out.replace('FILE', path.name)}")
        record = yaml.load(content.decode("utf-8-sig"), _Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"the study file {path} can't be read: {error}") from error
    except _Refused as error:
        raise StudyError(f"{path}, {error}") from None
    except yaml.YAMLError as error:
        raise StudyError(f"{path} is not YAML: {error}") from error
    if record is None:
        raise StudyError(f"{path} is empty; a study has at least `data: FILE` and `out: FOLDER`")
    if not isinstance(record, dict):
        raise StudyError(f"{path} holds {type(record).__name__}, not a mapping such as `data: FILE`")
    return record


class _Refused(Exception):
    """What a study file may not say; the text begins with the line."""


class _Loader(yaml.SafeLoader):
    """PyYAML's SafeLoader, which is one of YAML 1.1, with what it takes in silence refused or read as written."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line, name = key.start_mark.line + 1, (key.tag, key.value)
            if name in lines:
                where = f"twice in line {line}" if lines[name] == line else f"in line {lines[name]} and in line {line}"
                raise _Refused(f"line {line}: the key {key.value!r} stands {where}; leave one of them out")
            lines[name] = line
            if key.value in _TRUE_OR_FALSE and _is_word(value):
                value.tag = "tag:yaml.org,2002:bool"
        return node


def _is_word(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.style is None and node.value.lower() in _WORDS


def _number(loader: _Loader, node: yaml.ScalarNode) -> Any:
    """An integer or a decimal number; refused where YAML 1.1 takes it for octal or for base 60."""
    written = node.value
    if _SEXAGESIMAL.fullmatch(written) or _OCTAL.fullmatch(written):
        base = "base 60" if ":" in written else "octal"
        raise _Refused(
            f"line {node.start_mark.line + 1}: {written} is read as a number in {base} by some programs and as "
            f"{'text' if ':' in written else 'a decimal number'} by others; write a plain number, or '{written}' with "
            "quotes for text"
        )
    if _EXPONENT.fullmatch(written):
        return float(written)
    kind = node.tag.rpartition(":")[2]
    return loader.construct_yaml_int(node) if kind == "int" else loader.construct_yaml_float(node)


def _resolvers() -> dict[Any, list[tuple[str, Any]]]:
    """PyYAML's, without dates and without `yes`, `no`, `on` and `off`: these are text unless a key wants true or
    false."""
    kept = {
        first: [(tag, pattern) for tag, pattern in found if tag.rpartition(":")[2] not in ("bool", "timestamp")]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for first in "tTfF":
        kept.setdefault(first, []).append(
            ("tag:yaml.org,2002:bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"))
        )
    leading_zero = re.compile(r"[-+]?0[0-9]+\Z")
    for first in "-+.0123456789":
        kept.setdefault(first, []).append(("tag:yaml.org,2002:float", _EXPONENT))
        kept[first].append(("tag:yaml.org,2002:int", leading_zero))
    return kept


_Loader.yaml_implicit_resolvers = _resolvers()
_Loader.add_constructor("tag:yaml.org,2002:int", _number)
_Loader.add_constructor("tag:yaml.org,2002:float", _number)
