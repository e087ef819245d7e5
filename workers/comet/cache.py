"""Scores that were taken before: lines of JSON, only ever appended, so that they outlive the process that took them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path


def score_key(model: str, source: str, hypothesis: str, reference: str) -> str:
    """What a score is known by. model: whatever decides the scores (checkpoint digest, precision)."""
    text = json.dumps([model, source, hypothesis, reference], ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class ScoreCache:
    """The scores in one file. A line that a killed process left unfinished is skipped, and its score taken again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._scores: dict[str, float] = {}
        content = path.read_bytes() if path.exists() else b""
        self._torn = bool(content) and not content.endswith(b"\n")
        for line in content.splitlines():
            self._take(line)

    def __len__(self) -> int:
        return len(self._scores)

    def get(self, key: str) -> float | None:
        return self._scores.get(key)

    def add(self, scores: Mapping[str, float]) -> None:
        """Keep scores; they are on disk when this returns."""
        lines = "".join(json.dumps({"key": key, "score": score}) + "\n" for key, score in scores.items())
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as stream:
            stream.write(("\n" if self._torn else "").encode() + lines.encode())
            stream.flush()
            os.fsync(stream.fileno())
        self._torn = False
        self._scores.update(scores)

    def _take(self, line: bytes) -> None:
        try:
            record = json.loads(line)
            self._scores[str(record["key"])] = float(record["score"])
        except (ValueError, KeyError, TypeError):
            return
