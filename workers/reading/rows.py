"""Take a JSON file apart into rows: JSON lines, or one JSON array of objects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain

from workers.reading.errors import RowFault
from workers.reading.fields import json_type
from workers.reading.files import decode, lines_of, split_lines
from workers.reading.json_array import array_elements
from workers.reading.json_objects import checked_object, key_twice
from workers.reading.tally import JsonRow, Tally

_ARRAY_START = re.compile(rb"\s*\[\s*(?:[{\]]|\Z)")
_LINES_LOOKED_AT = 20
_OBJECT_RULE = "a row must be one JSON object"


def is_json(content: bytes) -> bool:
    """Whether a file holds JSON rows: an array, or an object's start in one of its first 20 lines."""
    lines = [line.strip() for line in split_lines(content) if line.strip()][:_LINES_LOOKED_AT]
    return (
        is_array(content)
        or any(line.startswith(b"{") for line in lines)
        or any(_parses(line, list) for line in lines[:1])
    )


def starts_with_object(content: bytes) -> bool:
    """Whether the first line is a whole JSON object, which no line of running text is."""
    return _parses(split_lines(content)[0], dict)


def is_array(content: bytes) -> bool:
    """Whether a file is one JSON array, by its first characters."""
    return _ARRAY_START.match(content) is not None


def json_rows(chunks: Iterable[bytes], tally: Tally) -> Iterator[JsonRow]:
    """The rows of a JSON file whose content comes in chunks, in order; what is not an object goes to the tally.

    Lines of white space alone are not rows. Raises DataError for an array that is broken: what follows the fault can't
    be told apart, so it can't be skipped.
    """
    remaining = iter(chunks)
    first = next(remaining, b"")
    whole = chain([first], remaining)
    return _array_rows(whole, tally) if is_array(first) else _line_rows(whole, tally)


def _line_rows(chunks: Iterable[bytes], tally: Tally) -> Iterator[JsonRow]:
    number = 0
    for line, raw in enumerate(lines_of(chunks), start=1):
        if not raw.strip():
            continue
        number += 1
        try:
            found = _object(_parse(raw.removesuffix(b"\n"), cut_off=not raw.endswith(b"\n")))
        except RowFault as fault:
            tally.refuse(line, fault)
        else:
            yield JsonRow(number, line, found)


def _array_rows(chunks: Iterable[bytes], tally: Tally) -> Iterator[JsonRow]:
    for number, (line, value) in enumerate(array_elements(chunks, tally.path), start=1):
        try:
            found = _object(value)
        except RowFault as fault:
            tally.refuse(line, fault)
        else:
            yield JsonRow(number, line, found)


def _parse(raw: bytes, cut_off: bool) -> object:
    text = decode(raw)
    try:
        return json.loads(text, object_pairs_hook=checked_object)
    except (ValueError, RecursionError) as error:
        hint = "; the file ends inside this row, it may be cut off" if cut_off else ""
        raise RowFault(f"{_OBJECT_RULE} (no JSON: {str(error)[:80]}{hint})", text) from None


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise RowFault(f"{_OBJECT_RULE}, not {json_type(value)}", "null" if value is None else value)
    if (twice := key_twice(value)) is not None:
        raise RowFault(f"the key `{twice}` stands twice in the row, and only one of the two can be meant")
    return value


def _parses(raw: bytes, kind: type) -> bool:
    try:
        return isinstance(json.loads(raw), kind)
    except (ValueError, RecursionError):
        return False
