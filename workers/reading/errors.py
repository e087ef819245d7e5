"""Say what is wrong with a data file: where, what was found, what was expected, and the way out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from search_spaces.errors import UserError

OR_SKIP = "Or pass over such rows and list them: --skip-bad-rows."
SKIP_WAY_OUT = f"Correct it. {OR_SKIP}"

_SHOWN_CHARACTERS = 80


def shorten(value: object) -> str:
    """The value on one line, cut in the middle beyond 80 characters; a blank one shows its quotes."""
    shown = " ".join(value.split()) if isinstance(value, str) else ""
    shown = shown or _representation(value)
    shown = shown.encode("utf-8", errors="backslashreplace").decode("utf-8")
    if len(shown) <= _SHOWN_CHARACTERS:
        return shown
    end = _SHOWN_CHARACTERS // 4
    return f"{shown[: _SHOWN_CHARACTERS - end]} ... {shown[-end:]}"


def _representation(value: object) -> str:
    try:
        return repr(value)
    except RecursionError:
        return f"a deeply nested {type(value).__name__}"


class DataError(UserError):
    """A data file, or a row of it, that can't be used; str() is one message with everything below.

    path: the file. line: 1-based; None for the whole file. value: what was found; None: nothing to show. rule: what was
    broken. way_out: what the caller can do.
    """

    def __init__(self, path: str | Path, line: int | None, value: object, rule: str, way_out: str) -> None:
        super().__init__(path, line, value, rule, way_out)  # the arguments, so that a copy can be unpickled
        self.path = Path(path)
        self.line = line
        self.value = value
        self.rule = rule
        self.way_out = way_out

    def __str__(self) -> str:
        where = f"{self.path}" if self.line is None else f"{self.path}, line {self.line}"
        found = "" if self.value is None else f" (found: {shorten(self.value)})"
        return f"{where}: {self.rule}{found}. {self.way_out}"


class RowFault(Exception):
    """One row that can't be used; the tally turns it into a DataError or, where bad rows are skipped, a BadRow.

    file: the file at fault if it is another than the one that is being read.
    """

    def __init__(self, rule: str, value: object = None, way_out: str = SKIP_WAY_OUT, file: Path | None = None) -> None:
        super().__init__(rule, value, way_out, file)
        self.rule = rule
        self.value = value
        self.way_out = way_out
        self.file = file


class OtherPair(Exception):
    """One row of another pair than the caller's, which the tally counts: no fault.

    pairs: those that the row can be read in, in their normalised form. asked: the caller's.
    """

    def __init__(self, pairs: Iterable[str], asked: Iterable[str]) -> None:
        super().__init__(tuple(pairs), tuple(asked))
        self.pairs: tuple[str, ...] = self.args[0]
        self.asked: tuple[str, ...] = self.args[1]
