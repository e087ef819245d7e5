"""Teacher translations: made once, checked, in the order of training, and only as many as the budget reads."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import workers.training.data.teacher_translations as sequence_data
from search_spaces.errors import StudyError
from workers.reading.segments import Segment
from workers.reading.training_data import training_data
from workers.scoring.sanity import failed_checks
from workers.training.data.sampling import choose_rows
from workers.training.data.teacher_translations import TeacherModel, teacher_translations
from workers.training.data.tokenized_pairs import TokenizedPairs, tokenize_pairs
from workers.translation.decoding import Decoding, Hypothesis
from workers.translation.prompts import PROMPTS

ALMA = PROMPTS["alma"]
CHUNK = 32


@pytest.fixture
def pairs(tmp_path: Path, character_tokenizer: Any) -> TokenizedPairs:
    rows = [{"src": f"A dog runs {n} times.", "ref": f"Ein Hund rennt {n} mal.", "langs": "en-de"} for n in range(150)]
    rows += [{"src": f"A cat eats {n} mice.", "ref": f"Un chat mange {n} rats.", "langs": "en-fr"} for n in range(30)]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = training_data([(str(file), 1.0)], ["en-de", "en-fr"])
    return tokenize_pairs(data, character_tokenizer, "t", ALMA, tmp_path / "store", held_out_count=4)


class Spoken:
    """A teacher that answers by rule, and tells what it was asked."""

    def __init__(self, answer: Callable[[Segment], Hypothesis]) -> None:
        self.asked: list[Segment] = []
        self.loaded = 0
        self._answer = answer

    def load(self, teacher: TeacherModel) -> Spoken:
        self.loaded += 1
        return self

    def __call__(self, segments: Sequence[Segment]) -> list[Hypothesis]:
        self.asked.extend(segments)
        return [self._answer(segment) for segment in segments]


def said(segment: Segment) -> Hypothesis:
    """Good, but for every sixth: empty, copied, looping or cut, in turn."""
    number = int("".join(filter(str.isdigit, segment.source)))
    good = f"Ja: {segment.references[0]}"
    bad = {0: "", 6: segment.source, 12: "und so weiter " * 30, 18: good}.get(number % 24)
    return Hypothesis(good if bad is None else bad, 9, number % 24 == 18)


def teacher(tmp_path: Path, **changes: Any) -> TeacherModel:
    fields: dict[str, Any] = {"folder": tmp_path, "key": "the teacher", "prompt": ALMA, "decoding": Decoding(16)}
    return TeacherModel(device=torch.device("cpu"), **(fields | changes))


@pytest.fixture
def made(
    pairs: TokenizedPairs, tmp_path: Path, character_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[TokenizedPairs, Spoken]]:
    def make(
        answer: Callable[[Segment], Hypothesis] = said, changes: dict[str, Any] | None = None, **asked: Any
    ) -> tuple[TokenizedPairs, Spoken]:
        spoken = Spoken(answer)
        monkeypatch.setattr(sequence_data, "_translator", spoken.load)
        who = teacher(tmp_path, **(changes or {}))
        asked = {"chunk": CHUNK, **asked}
        found = teacher_translations(pairs, who, character_tokenizer, "t", tmp_path / "store", **asked)
        return found, spoken

    return make


def test_targets_are_the_teachers_and_what_fails_a_check_is_dropped(
    made: Any, pairs: TokenizedPairs, character_tokenizer: Any
) -> None:
    found, spoken = made()
    sound = [one for one in spoken.asked if not failed_checks(one, said(one).text, said(one).truncated)]
    assert [(one.source, one.references) for one in map(found.segment, range(len(found)))] == [
        (one.source, (said(one).text,)) for one in sound
    ]
    shown = found.shown(0)
    assert character_tokenizer.decode(shown.ids[shown.target_start : -1]).strip() == said(sound[0]).text
    dropped = {reason: count for reason, count in found.left_out.items() if "teacher" in reason}
    assert sum(dropped.values()) == len(spoken.asked) - len(sound)
    assert set(dropped) == {
        "teacher translations that are empty", "teacher translations that copy their source",
        "teacher translations that are too long", "teacher translations that are cut at the length limit",
    }  # fmt: skip
    assert found.held_out == pairs.held_out and found.langs == ("en-de", "en-fr")


@pytest.fixture
def sources_alone(
    tmp_path: Path, character_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[TokenizedPairs, TokenizedPairs, Spoken]]:
    """So many sources without references, those with the teacher's translations, and the teacher."""

    def make(count: int, **asked: Any) -> tuple[TokenizedPairs, TokenizedPairs, Spoken]:
        rows = [{"src": f"A dog runs {n} times.", "ref": "", "langs": "en-de"} for n in range(1, count + 1)]
        (tmp_path / "sources.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        data = training_data([(str(tmp_path / "sources.jsonl"), 1.0)], ["en-de"])
        alone = tokenize_pairs(data, character_tokenizer, "t", ALMA, tmp_path / "store", sources_alone=True)
        spoken = Spoken(lambda segment: Hypothesis(f"Ein Hund: {segment.source[2:]}", 9, False))
        monkeypatch.setattr(sequence_data, "_translator", spoken.load)
        who = teacher(tmp_path)
        return alone, teacher_translations(alone, who, character_tokenizer, "t", tmp_path / "store", **asked), spoken

    return make


def test_a_source_alone_gets_a_target_and_is_trained_on(sources_alone: Any, character_tokenizer: Any) -> None:
    alone, found, _ = sources_alone(5)
    assert len(alone) == len(found) == 5 and alone.held_out == ()
    for row in range(5):
        one = found.segment(row)
        assert one.references == (f"Ein Hund: {one.source[2:]}",)
        shown = found.shown(row)
        assert character_tokenizer.decode(shown.ids[shown.target_start : -1]).strip() == one.references[0]


def test_they_come_in_the_order_in_which_training_draws(made: Any, pairs: TokenizedPairs) -> None:
    found, _ = made(seed=3)
    drawn = [pairs.segment(row) for step in range(10) for row in choose_rows(pairs, step, 16, 3)]
    kept = [one.source for one in drawn if not failed_checks(one, said(one).text, said(one).truncated)]
    read = [found.segment(row).source for step in range(6) for row in choose_rows(found, step, 16, 0)]
    assert read == kept[: len(read)]
    # Directions stay balanced as they are drawn, though the smaller one is translated once and read again.
    share = Counter(found.langs_of(int(row)) for row in found.order)["en-fr"] / len(found.order)
    assert share == pytest.approx(dict(zip(("en-de", "en-fr"), pairs.shares, strict=True))["en-fr"], abs=0.08)


def test_only_what_the_budget_reads_is_translated_and_a_larger_one_goes_on(made: Any, pairs: TokenizedPairs) -> None:
    small, first = made(tokens=1500)
    assert small.tokens >= 1500 and len(first.asked) <= CHUNK
    large, second = made(tokens=6000)
    assert large.tokens >= 6000 and not {one.id for one in first.asked} & {one.id for one in second.asked}
    assert large.digest == small.digest and large.folder != small.folder
    assert list(large.order[: len(small.order)]) == list(small.order)
    assert [large.shown(row) for row in range(len(small))] == [small.shown(row) for row in range(len(small))]
    again, third = made(tokens=6000)
    assert (again.folder, third.loaded) == (large.folder, 0)


def test_a_budget_of_nothing_is_as_many_draws_as_there_are_pairs(made: Any, pairs: TokenizedPairs) -> None:
    reports: list[tuple[int, int]] = []
    found, spoken = made(report=lambda done, of: reports.append((done, of)))
    drawn = [pairs.segment(row) for row in choose_rows(pairs, step=0, batch=len(pairs), seed=0)]
    kept = [one for one in drawn if not failed_checks(one, said(one).text, said(one).truncated)]
    assert found.tokens == sum(found.length(int(row)) for row in found.order[: len(kept)])
    assert reports[-1] == (pairs.tokens, pairs.tokens)
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)
    assert len({one.id for one in spoken.asked}) == len(spoken.asked) <= len(pairs) and spoken.loaded == 1


def test_few_pairs_are_read_once_however_large_a_chunk_is(made: Any) -> None:
    whole = made()[0].tokens
    assert made(chunk=1024)[0].tokens == whole


def test_many_sources_without_a_reference_are_all_translated(sources_alone: Any) -> None:
    alone, found, spoken = sources_alone(99, chunk=CHUNK)
    assert len(found) == len(spoken.asked) == len(alone) == 99
    assert found.budget(0) == sum(map(found.length, range(99)))


@pytest.mark.parametrize("batch", [7, 50])
def test_the_last_step_reads_what_a_larger_budget_reads_there(made: Any, batch: int) -> None:
    longer = made(tokens=40_000, batch=batch)[0]
    for tokens in (0, 1000, 3000):
        shorter = made(tokens=tokens, batch=batch)[0]
        read = step = 0
        while read < shorter.budget(tokens):
            rows = choose_rows(shorter, step=step, batch=batch, seed=0)
            assert rows == choose_rows(longer, step=step, batch=batch, seed=0)
            read += sum(map(shorter.length, rows))
            step += 1


def test_a_budget_beyond_the_data_reads_it_again(made: Any, pairs: TokenizedPairs) -> None:
    found, spoken = made(tokens=3 * pairs.tokens)
    assert found.tokens >= 3 * pairs.tokens and len(spoken.asked) == len(pairs)


def test_another_teacher_decoding_or_prompt_translates_anew(made: Any) -> None:
    known = {made(tokens=500)[0].digest}
    for changes in ({"key": "other"}, {"decoding": Decoding(17)}, {"decoding": Decoding(16, beams=2)}):
        found, spoken = made(tokens=500, changes=changes)
        assert spoken.loaded == 1 and found.digest not in known
        known.add(found.digest)
    assert made(tokens=500, changes={"decoding": Decoding(16, 7)})[1].loaded == 0  # the batch changes nothing


def test_a_teacher_that_says_nothing_of_use_is_refused(made: Any, pairs: TokenizedPairs) -> None:
    with pytest.raises(StudyError, match=rf"no pair to train on .*{len(pairs)} teacher translations that are empty"):
        made(lambda segment: Hypothesis("", 0, False))


def test_a_real_model_translates(
    pairs: TokenizedPairs, save_llama: Any, tmp_path: Path, character_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_llama(initializer_range=0.5, dtype=torch.float32)
    monkeypatch.setattr(
        sequence_data, "failed_checks", lambda segment, text, truncated: () if text.strip() else ("empty",)
    )
    who = teacher(folder, folder=folder)
    found = teacher_translations(pairs, who, character_tokenizer, "t", tmp_path / "store", tokens=300, chunk=8)
    kept = next((tmp_path / "store").glob("translations-*/translations.jsonl"))
    assert len(kept.read_text(encoding="utf-8").splitlines()) == 8 and found.tokens >= 300
