"""Which families of candidates are out of the search, because the model can't take what they have in common."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from search_spaces.methods.family import Family
from search_spaces.methods.registry import Step
from search_spaces.outcome import Failure


class Families:
    """Learns from failures, in the order in which they were told; pure.

    What a method refuses is out at once. An error of a program is out for that step alone; when two steps of a method
    end in the same words, numbers apart, the method is out. Neither takes out what has worked: then only the step that
    failed is.
    """

    def __init__(self) -> None:
        self._out: list[Family] = []
        self._words: dict[tuple[str, str], Family] = {}

    def learn(self, failure: Failure, worked: Callable[[Family], bool]) -> Family | None:
        """Take in a failure; the family of several steps that is out from now on, or None. worked: whether a candidate
        of a family has been measured."""
        family = failure.family
        if family is None:
            return None
        wide = self._widened(family, failure) if failure.reason == "error" else family
        if wide is None or worked(wide):
            if not worked(family):
                self._out.append(family)
            return None
        if wide in self._out:
            return None
        self._out.append(wide)
        return wide

    def of(self, steps: Sequence[Step]) -> Family | None:
        """The family that is out and that these steps are of."""
        return next((family for family in self._out if family.has(steps)), None)

    def _widened(self, family: Family, failure: Failure) -> Family | None:
        """The whole method, once another of its steps has failed in the same words."""
        words = re.sub(r"\d+", "#", failure.message)
        first = self._words.setdefault((family.method, words), family)
        return Family(family.method) if first != family else None
