"""Check the fields of one row and take their values out."""

import math
import re

from workers.languages.codes import UnknownLanguage, normalise_pair
from workers.reading.errors import OtherPair, RowFault

_DECIMAL = re.compile(r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_PAIR_WAY_OUT = (
    "Codes are those of ISO 639 (en-de, ces-deu, en-pt_BR); --language CODE=NAME (languages: {CODE: NAME}) names a "
    "missing one, --skip-bad-rows passes over such rows."
)


def required(fields: dict[str, object], key: str) -> object:
    """Return a field's value, which may be null. Raises RowFault if the row lacks the field."""
    if key not in fields:
        raise RowFault(f"the field `{key}` is missing", "the row has " + (", ".join(fields) or "no field"))
    return fields[key]


def text(fields: dict[str, object], key: str, what: str) -> str:
    """Return a text (`what`: "source" or "reference") without the white space around it.

    Raises RowFault if it is missing, no string, empty, or holds half a surrogate pair, which is no Unicode
    text.
    """
    return clean_text(required(fields, key), key, what)


def clean_text(value: object, key: str, what: str) -> str:
    """Return `value` as `text` does; `key` only names it in the fault."""
    stripped = string(value, key).strip()
    if not stripped:
        raise RowFault(f"empty {what} (`{key}`)", value)
    return stripped


def string(value: object, key: str) -> str:
    """Return `value` as given. Raises RowFault if it is no string or not Unicode text."""
    if not isinstance(value, str):
        raise wrong_type(key, "a string", value)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        rule = f"`{key}` holds half a surrogate pair, which is no Unicode text"
        raise RowFault(rule, ascii(value)) from None
    return value


def label(fields: dict[str, object], key: str) -> str:
    """Return an optional name, "" if it is absent or null. Raises RowFault if it is no string."""
    value = fields.get(key)
    return "" if value is None else string(value, key).strip()


def whole_number(fields: dict[str, object], key: str) -> int:
    """Return an integer field. Raises RowFault if it is missing or of another type (true is no integer)."""
    value = required(fields, key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong_type(key, "an integer", value)
    return value


def mapping(fields: dict[str, object], key: str) -> dict[str, object]:
    """Return a field that is an object. Raises RowFault if it is missing or of another type."""
    value = required(fields, key)
    if not isinstance(value, dict):
        raise wrong_type(key, "an object", value)
    return value


def score(value: object, key: str, low: float = -math.inf, high: float = math.inf) -> float | None:
    """Return a score given as a number or a decimal string; None stays None (unscored).

    Raises RowFault for another type, for a string that is no decimal number, for NaN and infinity, and for a
    value outside low..high (both included).
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


def pair(value: object, key: str, asked: str | None) -> str:
    """Return a row's language pair in its normalised form.

    Raises RowFault if it is no string or unknown, OtherPair if it is another than the pair the caller asked
    for (None: any).
    """
    try:
        found = normalise_pair(string(value, key))
    except UnknownLanguage as error:
        raise RowFault(f"{error} (`{key}`)", value, _PAIR_WAY_OUT) from None
    if asked is not None and found != asked:
        raise OtherPair([found], asked)
    return found


def wrong_type(key: str, expected: str, value: object) -> RowFault:
    """Return the fault of a field whose value is not `expected`, such as "a string"."""
    shown = "null" if value is None else value
    return RowFault(f"`{key}` must be {expected}, not {json_type(value)}", shown)


def json_type(value: object) -> str:
    """Return the JSON name of a value's type, for messages."""
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "an array"}
    return names.get(type(value), "an object")


def _float(value: float | str) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf
