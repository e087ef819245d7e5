"""What an exception and everything in its chain show: names of classes, error numbers and texts."""

from __future__ import annotations

import builtins
import errno
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# How deep a chain is followed.
LONGEST_CHAIN = 50
# Ray's exception has the name of torch's.
ENDED_BY_RAY = "ray.exceptions.OutOfMemoryError"
# Errors of files tell their number in brackets, as Rust does, or in the system's words.
NUMBERED = re.compile(r"\[Errno (\d+)\]|\(os error (\d+)\)|errno[ :=]+(\d+)")
IN_WORDS = sorted(((os.strerror(number), number) for number in errno.errorcode), key=lambda pair: -len(pair[0]))
# What a ledger's message begins with.
NAMED = re.compile(r"\s*([A-Za-z_][\w.]*)(?:: |$)")


@dataclass(frozen=True, slots=True)
class Sight:
    """What one exception of a chain shows: the names of its classes, its error number and its text. handled: whether it
    is only what was being dealt with when the next was raised."""

    names: frozenset[str]
    number: int | None
    text: str
    handled: bool = False


def sights_of(error: BaseException) -> Iterator[Sight]:
    """An exception's whole chain, from the outermost on: what it was raised from or while handling, what a group holds,
    and what Ray wraps."""
    due: list[tuple[BaseException, bool]] = [(error, False)]
    seen: set[int] = set()
    while due and len(seen) < LONGEST_CHAIN:
        one, handled = due.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield sight_of(one, handled)
        due += [(inner, handled) for inner in _causes(one)]
        if one.__context__ is not None and not one.__suppress_context__:
            due.append((one.__context__, True))


def sight_of(error: BaseException, handled: bool = False) -> Sight:
    """One exception without its chain."""
    names, text = names_of(type(error)), str(error)
    if "RayError" in names and "OutOfMemoryError" in names and "RayTaskError" not in names:
        names |= {ENDED_BY_RAY}
    number = error.errno if isinstance(error, OSError) and isinstance(error.errno, int) else _number_in(text)
    # A chain does not outlast the way from another process, but Ray's text has all of it.
    return Sight(names, number, text, handled or "RayTaskError" in names)


def sight_of_words(message: str) -> Sight:
    """What is left of an exception in a message that begins with its class's name."""
    found = NAMED.match(message)
    name = found[1].rsplit(".", 1)[-1] if found else ""
    kind = getattr(builtins, name, None)
    names = names_of(kind) if isinstance(kind, type) and issubclass(kind, BaseException) else frozenset({name})
    return Sight(names, _number_in(message), message)


def names_of(kind: type) -> frozenset[str]:
    """The names of a class and of those it inherits from."""
    return frozenset(each.__name__ for each in kind.__mro__)


def _causes(error: BaseException) -> Iterable[BaseException]:
    """What an exception was raised from, and what Ray's and groups of exceptions hold."""
    held = [error.__cause__, *(getattr(error, name, None) for name in ("cause", "_base_exc", "controller_failure"))]
    several = [*getattr(error, "exceptions", ()), *dict(getattr(error, "worker_failures", None) or {}).values()]
    return [one for one in (*held, *several) if isinstance(one, BaseException)]


def _number_in(text: str) -> int | None:
    if found := NUMBERED.search(text):
        return int(next(group for group in found.groups() if group))
    return next((number for words, number in IN_WORDS if words in text), None)
