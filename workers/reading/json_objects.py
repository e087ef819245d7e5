"""Read JSON objects without losing a key that stands twice, of which Python's own reader keeps the last in silence."""

from __future__ import annotations

from collections.abc import Sequence


class _Twice(dict[str, object]):
    """An object that had this key twice."""

    def __init__(self, pairs: Sequence[tuple[str, object]], key: str) -> None:
        super().__init__(pairs)
        self.key = key


def checked_object(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """The object of these (key, value) pairs, for `json`'s object_pairs_hook; one with a key twice is marked."""
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    keys = [key for key, _ in pairs]
    return _Twice(pairs, next(key for key in keys if keys.count(key) > 1))


def key_twice(value: object) -> str | None:
    """The key that stands twice in this object, or in an object that it holds; None where there is none."""
    if isinstance(value, _Twice):
        return value.key
    if isinstance(value, dict):
        return next((key for inner in value.values() if (key := key_twice(inner)) is not None), None)
    return None
