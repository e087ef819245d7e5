"""The quick part of `tests.kill_runs`: stops at a few moments, by a signal to the driver and to its whole group."""

from __future__ import annotations

import json
from pathlib import Path

from tests import kill_runs


def test_a_search_stopped_at_any_moment_loses_and_repeats_nothing(tmp_path: Path) -> None:
    asked = ["--moments", "1", "--signals", "SIGTERM", "--work", str(tmp_path / "work"), "--json", str(tmp_path / "j")]
    assert kill_runs.main(asked) == 0
    figures = json.loads((tmp_path / "j").read_text(encoding="utf-8"))["figures"]
    assert (figures["stops"], figures["wrong"]) == (2, 0)
