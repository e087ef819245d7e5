"""A baseline that is broken itself is said to be: in which share, for which cause, with the way out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search_spaces.candidate import Candidate
from search_spaces.methods.quantizers import RTN
from tests.support.examples import dataset, segment
from tests.support.paths import ROOT
from workers.checkpoints.locate import resolve
from workers.evaluation.evaluate import evaluate
from workers.plan.evaluation_plan import EvaluationPlan
from workers.reading.dataset import read_dataset
from workers.runtime.stages import Stages
from workers.scoring.baseline_look import MOST, UNSOUND, baseline_fault, why_all_empty
from workers.scoring.sanity import CHECKS, IN_WORDS, failed_checks
from workers.translation.decoding import Decoding, Hypothesis
from workers.translation.length_limit import limit_warning
from workers.translation.prompts import PROMPTS

REFERENCE = "Der alte Fischer flickt auf dem Steg sein Netz, während neben ihm zwei Möwen auf den Fisch warten."
SOURCE = "The old fisherman repairs his net on the pier while two gulls wait for the fish beside him."
ONE = segment(SOURCE, REFERENCE)
SOUND = Hypothesis(REFERENCE, 30, False)


def fault(hypotheses: list[Hypothesis], segments: list[Any] | None = None, prompt: str = "chat") -> str | None:
    asked = segments or [ONE] * len(hypotheses)
    failed = [failed_checks(at, one.text, one.truncated) for at, one in zip(asked, hypotheses, strict=True)]
    return baseline_fault(asked, hypotheses, failed, Decoding(256), prompt)


def test_every_check_has_a_limit_and_words() -> None:
    assert set(MOST) == set(CHECKS) == set(IN_WORDS)


@pytest.mark.parametrize(
    ("bad", "said", "way_out"),
    [
        (Hypothesis("", 0, False), "are empty", "try --prompt alma or few-shot"),
        (Hypothesis(SOURCE, 30, False), "copy their source", "check --langs; try --prompt"),
        (Hypothesis("Le vieux pêcheur répare son filet sur la jetée pendant que deux mouettes attendent.", 30, False),
         "are in the wrong language", "check --langs; try --prompt"),
        (Hypothesis("Старый рыбак чинит на причале свою сеть.", 30, False), "are in the wrong script", "check --langs"),
        (Hypothesis("Der alte Fischer flickt auf dem", 256, True), "are cut at", "--max-new-tokens, now 256"),
        (Hypothesis(REFERENCE + " Ja." * 40, 256, True), "are cut at the length limit", "its stop token may not"),
        (Hypothesis("", 256, True, thought=True), "are cut at", "it thinks first, and is cut before or while it"),
    ],
)  # fmt: skip
def test_what_a_model_fails_is_said_with_count_cause_and_way_out(bad: Hypothesis, said: str, way_out: str) -> None:
    line = fault([SOUND] * 91 + [bad] * 9)
    assert line is not None and line.startswith(f"{UNSOUND}9 % of its translations ")
    assert said in line and "(9 of 100)" in line and way_out in line
    assert not bad.truncated or line.count("(9 of 100)") == 1


def test_a_sound_model_is_not_spoken_of_and_one_hypothesis_is_chance() -> None:
    assert fault([SOUND] * 100) is None
    cut = replace(SOUND, truncated=True)
    assert fault([SOUND] * 9 + [cut]) is None
    assert fault([SOUND] * 198 + [cut] * 2) is None and fault([SOUND] * 197 + [cut] * 3) is not None


def test_a_pair_that_the_model_can_not_do_is_named_though_the_others_hide_it() -> None:
    into_english = segment(REFERENCE, SOURCE, langs="de-en")
    found = fault([SOUND] * 200, [ONE] * 196 + [into_english] * 4)
    assert found is not None and found.count("(4 of 200, most in de-en)") == 2
    assert "2 % of its translations copy their source" in found and "2 % are in the wrong language" in found


def test_many_faults_are_one_sentence_with_the_worst_first_and_each_way_out_once() -> None:
    cut, copied = Hypothesis("Der alte Fischer flickt auf dem", 256, True), Hypothesis(SOURCE, 30, False)
    found = fault([SOUND] * 86 + [cut] * 5 + [copied] * 9)
    assert found == (
        f"{UNSOUND}9 % of its translations copy their source (9 of 100), 9 % are in the wrong language (9 of 100), 5 % "
        "are cut at the length limit (5 of 100); it may not have learnt this direction, or not be asked in its own "
        "way: check --langs; try --prompt alma or few-shot; raise --max-new-tokens, now 256"
    )


def test_a_model_that_does_not_end_its_turn_is_told_so_once() -> None:
    endless, wordy = (
        Hypothesis(REFERENCE + " Ja." * 40, 256, True),
        Hypothesis(REFERENCE + f" {REFERENCE}" * 3, 90, False),
    )
    found = fault([SOUND] * 50 + [endless] * 40 + [wordy] * 10)
    assert found is not None and "are too long" in found
    assert found.count("end its turn") == found.count("--prompt") == 1


def test_a_few_turns_without_an_end_are_no_fault_of_the_stop_token() -> None:
    found = fault([SOUND] * 98 + [Hypothesis(REFERENCE + " Ja." * 40, 256, True)] * 2)
    assert found == (
        f"{UNSOUND}2 % of its translations are cut at the length limit (2 of 100); most of them repeat themselves or "
        "are far too long, as a small model's are now and then"
    )


def test_nothing_to_score_says_whether_the_model_was_still_thinking() -> None:
    thinking = Hypothesis("", 256, True, thought=True)
    assert why_all_empty([thinking] * 2, Decoding(256)).startswith(
        "all 2 hypotheses are empty: the model was still thinking at the length limit of 256 new tokens; raise --max-"
    )
    assert why_all_empty([thinking, Hypothesis("", 0, False)], Decoding(256)) == "all 2 hypotheses are empty"


def test_a_limit_too_small_for_the_references_is_told_beforehand(character_tokenizer: Any) -> None:
    segments = [segment("a" * 9, "b" * 30), segment("a" * 9, "b" * 60, "b" * 50), segment("a" * 40, "")]
    assert limit_warning(segments, character_tokenizer, PROMPTS["chat"], 50) is None
    said = limit_warning(segments, character_tokenizer, PROMPTS["chat"], 39)
    assert said is not None and said.startswith("2 of 3 translations need more than the 39 new tokens")
    assert "(a reference takes 50), and will be cut; raise --max-new-tokens to 64" in said
    lines = [segment("a\n\n" + "a" * 20, "b" * 20 + "\n" + "b" * 25), segment("a" * 30 + "\na", "b" * 200)]
    assert limit_warning(lines, character_tokenizer, PROMPTS["alma"], 30) is None
    assert "2 of 2" in str(limit_warning(lines, character_tokenizer, PROMPTS["chat"], 30))


def test_a_baseline_cut_at_the_limit_is_warned_of_and_noted_and_a_candidate_of_it_is_not(tmp_path: Path) -> None:
    data = dataset(read_dataset(ROOT / "data" / "subset.jsonl").segments[:8])
    plan = EvaluationPlan({"dev": data}, None, ("chrf",), Decoding(4, 8), tmp_path, device_map="cpu")
    base = resolve(str(ROOT / "models" / "captions"))[0]
    notes = evaluate(Candidate(base, ()), "dev", plan, Stages()).measurement.notes
    assert notes[0].startswith("8 of 8 translations need more than the 4 new tokens")
    assert notes[1].startswith(f"{UNSOUND}100 % of its translations are cut at the length limit (8 of 8); raise")
    assert len(notes) == 2
    quantized = evaluate(Candidate(base, (RTN(bits=8),)), "dev", plan, Stages()).measurement
    assert not [one for one in quantized.notes if "new tokens" in one or one.startswith(UNSOUND)]
    enough = replace(plan, decoding=Decoding(64, 8))
    assert evaluate(Candidate(base, ()), "dev", enough, Stages()).measurement.notes == ()
