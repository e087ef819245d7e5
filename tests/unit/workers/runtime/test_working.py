"""How far a step's work is: heard by who follows, in layers, groups and swaps, and not too often."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.progress.trial_table import doing_text
from search_spaces.methods.registry import step_from_json
from tests.support.examples import segment
from workers.evaluation.methods import compress
from workers.plan.compression_context import CompressionContext
from workers.runtime.callbacks import Doing
from workers.runtime.working import followed_by, now_and_then, working
from workers.translation.prompts import PROMPTS

PAIRS = [
    segment(f"{count} dogs run over field {count}.", f"{count} Hunde.", langs=langs, id=str(count))
    for count in range(40)
    for langs in ("en-de", "en-fr")
]


def test_work_is_heard_by_who_follows_and_by_nobody_else() -> None:
    heard: list[tuple[str, int, int]] = []
    working("quantizing, layer", 1, 3)
    with followed_by(lambda *said: heard.append(said)):
        working("quantizing, layer", 2, 3)
        with followed_by(lambda *said: None):
            working("measuring", 1, 9)
        working("quantizing, layer", 3, 3)
    working("quantizing, layer", 1, 3)
    assert heard == [("quantizing, layer", 2, 3), ("quantizing, layer", 3, 3)]


def test_what_is_begun_is_heard_at_once_and_the_rest_now_and_then() -> None:
    heard: list[tuple[str, int, int]] = []
    times = iter([10.0, 10.5, 12.1, 12.2, 12.3])
    follow = now_and_then(2.0, lambda *said: heard.append(said), clock=lambda: next(times))
    for done in (1, 2, 3):
        follow("calibrating, layer", done, 4)
    follow("quantizing, layer", 1, 4)
    follow("quantizing, layer", 2, 4)
    assert heard == [("calibrating, layer", 1, 4), ("calibrating, layer", 3, 4), ("quantizing, layer", 1, 4)]


def test_a_line_says_the_stage_the_work_and_how_far_it_is() -> None:
    assert doing_text(Doing("compress", 12, 32, "quantizing, layer")) == "compressing: quantizing, layer 12 of 32"
    assert doing_text(Doing("translate", 64, 252)) == "translating 64 of 252"
    assert doing_text(Doing("compress")) == "compressing"


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"method": "rtn", "bits": 4}, ["quantizing, layer"]),
        ({"method": "gptq", "bits": 4}, ["calibrating, layer", "quantizing, layer"]),
        ({"method": "awq", "bits": 4}, ["calibrating, layer", "searching scales, input", "quantizing, layer"]),
        ({"method": "wanda"}, ["calibrating, layer", "pruning, layer"]),
        (
            {"method": "mixed", "bits": 3.5},
            ["calibrating, layer", "measuring widths, group", "measuring swaps, at most", "quantizing, layer"],
        ),
    ],
)
def test_each_step_tells_of_its_work_from_the_first_part_to_the_last(
    save_llama: Any, tmp_path: Path, step: dict[str, Any], said: list[str]
) -> None:
    parent, out = save_llama(dtype=torch.float32, initializer_range=0.2), tmp_path / "out"
    out.mkdir()
    context = CompressionContext(
        PAIRS, PROMPTS["alma"], torch.device("cpu"), 0, store=tmp_path / "store", calibration_tokens=2000
    )
    heard: list[tuple[str, int, int]] = []
    with followed_by(lambda *one: heard.append(one)):
        compress(parent, out, step_from_json(step), context)
    assert list(dict.fromkeys(what for what, _, _ in heard)) == said
    for what in said:
        parts = [(done, of) for name, done, of in heard if name == what]
        assert parts == sorted(parts) and parts[0][0] >= 1
        assert "swaps" in what or parts[-1][0] == parts[-1][1]
