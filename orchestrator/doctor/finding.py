"""One line of what `mtpareto doctor` found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from search_spaces.errors import UserError
from search_spaces.wording import pluralize
from workers.failures.table import MachineError

Level = Literal["ok", "warning", "wrong"]


@dataclass(frozen=True, slots=True)
class Finding:
    """level: "wrong" is what would stop a search. what: that was looked at. mend: the command or the step that mends
    it, where `said` does not have it."""

    level: Level
    what: str
    said: str
    mend: str = ""

    def line(self) -> str:
        """One line, in columns."""
        said = " ".join(self.said.split())
        return f"{self.level:<8} {self.what:<13} {said}" + (f"; mend: {self.mend}" if self.mend else "")


def found(what: str, look: Callable[[], str]) -> Finding:
    """What a look says; what it refuses, with the way out that its error names, is wrong."""
    try:
        return Finding("ok", what, look())
    except (UserError, MachineError, OSError) as error:
        return Finding("wrong", what, str(error))


def conclusion(findings: Sequence[Finding]) -> str:
    """The last line."""
    wrong = sum(one.level == "wrong" for one in findings)
    warnings = sum(one.level == "warning" for one in findings)
    beside = f", {pluralize(warnings, 'warning')}" if warnings else ""
    return f"{pluralize(wrong, 'finding')} would stop a search{beside}" if wrong else f"nothing would stop it{beside}"
