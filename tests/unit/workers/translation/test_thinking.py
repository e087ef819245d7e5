"""What stands before an answer is cut, in every family's marks; what only looks like it stays."""

from __future__ import annotations

import pytest

from workers.translation.thinking import BLOCKS, opened_by, without_thinking


@pytest.mark.parametrize(("opening", "closing"), BLOCKS)
def test_a_leading_block_is_cut_closed_or_not(opening: str, closing: str) -> None:
    assert without_thinking(f"\n{opening}\nA dog, ein Hund.\n{closing}\n\nEin Hund.") == ("\n\nEin Hund.", True)
    assert without_thinking(f"{opening}\nA dog is ein Hun") == ("", True)
    assert without_thinking(f"{opening}\n\n{closing}\n\nEin Hund.") == ("\n\nEin Hund.", True)
    assert without_thinking(f"{opening}a{closing}{opening}b{closing}Ein Hund.") == ("Ein Hund.", True)


@pytest.mark.parametrize(("opening", "closing"), BLOCKS)
def test_a_block_that_the_prompt_opened_is_cut_though_the_model_did_not_open_it(opening: str, closing: str) -> None:
    opened = opened_by(f"<|im_start|>assistant\n{opening}\n")
    assert opened == opening
    assert without_thinking(f"A dog, ein Hund.{closing}Ein Hund.", opened) == ("Ein Hund.", True)
    assert without_thinking("A dog, ein Hund", opened) == ("", True)
    assert opened_by(f"<|im_start|>assistant\n{opening}\n\n{closing}\n\n") == ""


def test_a_block_that_nothing_opened_is_cut_where_something_follows() -> None:
    assert without_thinking("A dog.</think>Ein Hund.") == ("Ein Hund.", True)
    assert without_thinking("Ein Hund.</think>") == ("Ein Hund.</think>", False)


def test_the_channels_before_the_final_one_are_cut() -> None:
    answer = "<|channel|>final<|message|>Ein Hund."
    thought = "<|channel|>analysis<|message|>A dog.<|end|><|start|>assistant"
    assert without_thinking(thought + answer) == ("Ein Hund.", True)
    assert without_thinking(thought + answer + "<|end|><|start|>assistant") == ("Ein Hund.", True)
    assert without_thinking(answer) == ("Ein Hund.", False)
    assert without_thinking("<|channel|>analysis<|message|>A dog is") == ("", True)


@pytest.mark.parametrize(
    "text", ["Ein Hund.", "", "Ein <think> Hund.", "[THIN] Ein Hund.", "Der Befehl <think>x</think> ist neu."]
)
def test_what_does_not_lead_stays(text: str) -> None:
    assert without_thinking(text) == (text, False)


def test_marks_that_the_source_has_are_text() -> None:
    text = "<think> öffnet einen Block, </think> schließt ihn."
    assert without_thinking(text, source="<think> opens a block, </think> closes it.") == (text, False)
