"""The one-candidate command says what it is at while that takes long, and nothing while it does not."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from orchestrator.progress import single as single_progress
from orchestrator.progress.single import follow_stages
from search_spaces.candidate import Candidate
from tests.support.examples import BASE, dataset, segment
from workers.plan.evaluation_plan import EvaluationPlan
from workers.runtime.stages import Stages
from workers.translation.decoding import Decoding


def test_stages_and_segments_are_said_now_and_then(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    said: list[str] = []
    heard = threading.Semaphore(0)

    def say(line: str) -> None:
        said.append(line)
        heard.release()

    def next_line() -> str:
        assert heard.acquire(timeout=10)
        before = len(said)
        while len(said) == before:
            assert heard.acquire(timeout=10)
        return said[-1]

    def evaluate(candidate: Any, split: str, plan: Any, stages: Stages, progress: Any) -> str:
        with stages.stage("load"):
            lines.append(next_line())
        with stages.stage("translate"):
            progress(1)
            lines.append(next_line())
        return "measured"

    lines: list[str] = []
    monkeypatch.setattr(single_progress, "evaluate", evaluate)
    plan = EvaluationPlan({"dev": dataset([segment(), segment()])}, None, ("chrf",), Decoding(), tmp_path, seed=0)
    with follow_stages(say, first=0.001, between=0.001) as measure:
        assert measure(Candidate(BASE), "dev", plan, Stages()) == "measured"
    assert lines == ["loading, 0 s so far", "translating 1 of 2, 0 s so far"]


def test_what_is_short_says_nothing() -> None:
    said: list[str] = []
    with follow_stages(said.append):
        pass
    assert said == []
