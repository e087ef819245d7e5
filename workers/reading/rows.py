"""Take a JSON file apart into rows: JSON lines, or one JSON array of objects."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from workers.reading.errors import DataError, RowFault
from workers.reading.fields import json_type
from workers.reading.files import decode, split_lines
from workers.reading.tally import Row, Tally

_ARRAY_START = re.compile(rb"\s*\[\s*(?:[{\]]|\Z)")
_ARRAY_GAP = re.compile(r"[ \t\r\n]*")
_LINES_LOOKED_AT = 20
_OBJECT_RULE = "a row must be one JSON object"


def is_json(content: bytes) -> bool:
    """Say whether a file holds JSON rows: an array, or an object's start in one of its first 20 lines."""
    lines = [line.strip() for line in split_lines(content) if line.strip()][:_LINES_LOOKED_AT]
    return is_array(content) or any(line.startswith(b"{") for line in lines) or _parses(lines[0], list)


def starts_with_object(content: bytes) -> bool:
    """Say whether the first line is a whole JSON object, which no line of running text is."""
    return _parses(split_lines(content)[0], dict)


def is_array(content: bytes) -> bool:
    """Say whether a file is one JSON array, by its first characters."""
    return _ARRAY_START.match(content) is not None


def json_rows(content: bytes, tally: Tally) -> Iterator[Row]:
    """Yield the rows of a JSON file, in order; what is no object goes to the tally.

    Lines of white space alone are no rows. Raises DataError for an array that is broken: what follows the
    fault can't be told apart, so it can't be skipped.
    """
    return _array_rows(content, tally) if is_array(content) else _line_rows(content, tally)


def _line_rows(content: bytes, tally: Tally) -> Iterator[Row]:
    lines = split_lines(content)
    number = 0
    for line, raw in enumerate(lines, start=1):
        if not raw.strip():
            continue
        number += 1
        cut_off = line == len(lines) and not content.endswith(b"\n")
        try:
            found = _object(_parse(raw, cut_off))
        except RowFault as fault:
            tally.refuse(line, fault)
        else:
            yield Row(number, line, found)


def _array_rows(content: bytes, tally: Tally) -> Iterator[Row]:
    text = _decode_whole(content, tally.path)
    decoder = json.JSONDecoder()
    position = _skip_gap(text, text.index("[") + 1)
    line, counted, number = 1, 0, 0
    while not (text.startswith("]", position) and not number):
        line, counted = line + text.count("\n", counted, position), position
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise _broken_array(tally.path, line, text[position:], str(error)) from None
        number += 1
        try:
            found = _object(value)
        except RowFault as fault:
            tally.refuse(line, fault)
        else:
            yield Row(number, line, found)
        position = _skip_gap(text, position)
        if text.startswith("]", position):
            break
        if not text.startswith(",", position):
            raise _broken_array(tally.path, line, text[position:], "an element must be followed by , or ]")
        position = _skip_gap(text, position + 1)
    if text[position + 1 :].strip():
        line += text.count("\n", counted, position)
        raise _broken_array(tally.path, line, text[position + 1 :], "nothing may follow its ]")


def _skip_gap(text: str, position: int) -> int:
    gap = _ARRAY_GAP.match(text, position)
    return gap.end() if gap else position


def _broken_array(path: Path, line: int, value: str, detail: str) -> DataError:
    rule = f"the JSON array is cut off or damaged ({detail})"
    way_out = "Fetch it again, or write one object a line: only then can --skip-bad-rows pass over a bad row."
    return DataError(path, line, value[:1000] or "the end of the file", rule, way_out)


def _decode_whole(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        around = content[max(0, error.start - 20) : error.start + 20].decode("utf-8", errors="replace")
        rule = f"the text must be UTF-8 (byte 0x{content[error.start]:02x} is not)"
        raise DataError(path, line, around, rule, "Convert the file to UTF-8.") from None


def _parse(raw: bytes, cut_off: bool) -> object:
    text = decode(raw)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        hint = "; the file ends inside this row, it may be cut off" if cut_off else ""
        raise RowFault(f"{_OBJECT_RULE} (no JSON: {error}{hint})", text) from None


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise RowFault(f"{_OBJECT_RULE}, not {json_type(value)}", "null" if value is None else value)
    return value


def _parses(raw: bytes, kind: type) -> bool:
    try:
        return isinstance(json.loads(raw), kind)
    except (ValueError, RecursionError):
        return False
