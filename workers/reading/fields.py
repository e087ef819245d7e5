"""Check the fields of one row and take their values out."""

from __future__ import annotations

import math
import re
from collections.abc import Collection

from workers.languages.codes import UnknownLanguage, normalise_pair
from workers.reading.errors import OtherPair, RowFault

_DECIMAL = re.compile(r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_PAIR_WAY_OUT = (
    "Codes are those of ISO 639 (en-de, ces-deu, en-pt_BR); --language CODE=NAME (languages: {CODE: NAME}) names a "
    "missing one, --skip-bad-rows passes over such rows."
)


def required(fields: dict[str, object], key: str) -> object:
    """A field's value, which may be null. Raises RowFault when the row lacks the field."""
    if key not in fields:
        raise RowFault(f"the field `{key}` is missing", "the row has " + (", ".join(fields) or "no field"))
    return fields[key]


def text(fields: dict[str, object], key: str, what: str) -> str:
    """A text without the white space around it. what: "source" or "reference".

    Raises RowFault when it is missing, not a string, empty, or holds half a surrogate pair, which is not Unicode text.
    """
    return clean_text(required(fields, key), key, what)


def clean_text(value: object, key: str, what: str) -> str:
    """The value as `text` gives it. key: only names it in the fault."""
    stripped = string(value, key).strip()
    if not stripped:
        raise RowFault(f"empty {what} (`{key}`)", value)
    return stripped


def string(value: object, key: str) -> str:
    """The value as given. Raises RowFault when it is not a string or not Unicode text."""
    if not isinstance(value, str):
        raise wrong_type(key, "a string", value)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        rule = f"`{key}` holds half a surrogate pair, which is not Unicode text"
        raise RowFault(rule, ascii(value)) from None
    return value


def label(fields: dict[str, object], key: str) -> str:
    """An optional name, "" when it is absent or null. Raises RowFault when it is not a string."""
    value = fields.get(key)
    return "" if value is None else string(value, key).strip()


def whole_number(fields: dict[str, object], key: str) -> int:
    """An integer field. Raises RowFault when it is missing or of another type (true is not an integer)."""
    value = required(fields, key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong_type(key, "an integer", value)
    return value


def mapping(fields: dict[str, object], key: str) -> dict[str, object]:
    """A field that is an object. Raises RowFault when it is missing or of another type."""
    value = required(fields, key)
    if not isinstance(value, dict):
        raise wrong_type(key, "an object", value)
    return value


def score(value: object, key: str, low: float = -math.inf, high: float = math.inf) -> float | None:
    """A score given as a number or a decimal string; None stays None (unscored).

    Raises RowFault for another type, for a string that is not a decimal number, for NaN and infinity, and for a value
    outside low..high (both included).
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise wrong_type(key, "a number", value)
    if isinstance(value, str) and not _DECIMAL.fullmatch(value.strip()):
        raise RowFault(f"`{key}` must be a number", value)
    number = _float(value)
    if not math.isfinite(number):
        raise RowFault(f"`{key}` must be a finite number", value)
    if not low <= number <= high:
        raise RowFault(f"`{key}` must be from {low:g} to {high:g}", value)
    return number


def pair(value: object, key: str, asked: Collection[str]) -> str:
    """A row's language pair in its normalised form. asked: the caller's pairs; none is any.

    Raises RowFault when it is not a string or unknown, OtherPair when it is none of the caller's pairs.
    """
    try:
        found = normalise_pair(string(value, key))
    except UnknownLanguage as error:
        raise RowFault(f"{error} (`{key}`)", value, _PAIR_WAY_OUT) from None
    if asked and found not in asked:
        raise OtherPair([found], asked)
    return found


def wrong_type(key: str, expected: str, value: object) -> RowFault:
    """The fault of a field whose value has another type. expected: such as "a string"."""
    shown = "null" if value is None else value
    return RowFault(f"`{key}` must be {expected}, not {json_type(value)}", shown)


def json_type(value: object) -> str:
    """The JSON name of a value's type, for messages."""
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "an array"}
    return names.get(type(value), "an object")


def _float(value: float | str) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf
