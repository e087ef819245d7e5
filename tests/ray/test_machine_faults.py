"""A search whose machine is at fault stops with what to do, books nothing, and goes on once the machine is mended."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.search import driver
from tests.ray.conftest import Command, ledger_lines, trials
from tests.support.limited import Limited
from workers.failures.table import MACHINE_EXIT


def test_a_search_that_can_write_no_artefact_halts_and_resume_measures_what_is_left(
    runs: Path, small_study: list[str], here: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = runs / "halted"
    asked = ["--space", "bit-width", "--trials", "3", "--no-speed", "--out", str(folder)]
    with monkeypatch.context() as patched:
        patched.setattr(driver, "CompressionTrial", Limited)
        done = here("search", *small_study, *asked)
    said = done.stdout + done.stderr
    assert done.returncode == MACHINE_EXIT, said
    error = done.stderr.splitlines()[-1]
    assert error.startswith("error: a file is larger than is allowed here on ")
    assert "`ulimit -f`" in error and error.endswith(f"Then resume with: mtpareto resume {folder}")
    assert "Traceback" not in said
    assert "the search stops: a file is larger than is allowed here" in done.stdout
    # The baseline was measured; its page is there, and the candidate is nobody's failure.
    assert [line["outcome"]["kind"] for line in trials(folder)] == ["measurement"]
    assert (folder / "report.html").is_file() and ledger_lines(folder)[-1] == {"kind": "end", "complete": False}

    done = here("resume", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line["outcome"]["kind"] for line in trials(folder)] == ["measurement"] * 3
    assert [line["number"] for line in trials(folder)] == [0, 1, 2]
