"""Translation: prompts that fit, batches that change nothing, and texts that end where the model stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from search_spaces.errors import StudyError
from tests.support.examples import segment
from workers.loading.load import load_model, load_tokenizer
from workers.reading.segments import Segment
from workers.translation.decoding import Decoding, Hypothesis
from workers.translation.prompts import PROMPTS
from workers.translation.translator import lines_of, prepare, stop_ids, translate

ALMA = PROMPTS["alma"]
CONTEXT = 512
LIMIT = 12
SEGMENTS = [
    segment(source, id=str(line))
    for line, source in enumerate(
        [
            "A woman with a green umbrella waits at a crosswalk.",
            "Hi.",
            "Two men in dark suits are crossing a busy street in the rain, and a dog follows them.",
            "A dog runs.",
            "An old man reads a book.",
            "Hi.",
            "Children play in the garden behind the house.",
        ]
    )
]
# "Translate this from English to German:" and a line break are 39 characters, "English: " 9, a line break and "German:"
# 8; with "<s>" 57 tokens stand around a source, which has one for each of its characters.
AROUND = 57


@pytest.fixture(scope="module")
def folder(save_llama: Any) -> Path:
    saved: Path = save_llama(initializer_range=0.5, max_position_embeddings=CONTEXT, dtype=torch.float32)
    return saved


@pytest.fixture
def tokenizer(folder: Path) -> Any:
    return load_tokenizer(folder)


@pytest.fixture
def model(folder: Path) -> Any:
    return load_model(folder, "cpu")


def prompt_ids(tokenizer: Any, source: str) -> list[int]:
    ids: list[int] = tokenizer(f"Translate this from English to German:\nEnglish: {source}\nGerman:")["input_ids"]
    return ids


def alone(model: Any, tokenizer: Any, source: str, limit: int = LIMIT) -> list[int]:
    """The new ids that plain `generate` gives for one segment by itself, with what stops it if anything does."""
    ids = torch.tensor([prompt_ids(tokenizer, source)])
    with torch.inference_mode():
        output = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=limit, do_sample=False, pad_token_id=0
        )
    new: list[int] = output[0, ids.shape[1] :].tolist()
    return new


def whole_line(tokenizer: Any, ids: list[int]) -> Hypothesis:
    """What a continuation of these ids means: its first line, and whether the limit cut it."""
    kept = ids[: ids.index(2)] if 2 in ids else ids
    raw = tokenizer.decode(kept, skip_special_tokens=True).strip()
    first = " ".join(raw.split("\n")[0].split())
    return Hypothesis(first, len(kept), 2 not in ids and "\n" not in raw)


def test_the_prompts_ids_are_the_tokenizers(tokenizer: Any) -> None:
    request = prepare(SEGMENTS[3], tokenizer, ALMA, (), Decoding(LIMIT), CONTEXT)
    assert list(request.ids) == prompt_ids(tokenizer, "A dog runs.")
    assert len(request.ids) == AROUND + len("A dog runs.")
    assert not request.cut


@pytest.mark.parametrize("room", [0, 1, 40])
def test_a_source_too_long_loses_its_end_until_prompt_and_translation_fit(tokenizer: Any, room: int) -> None:
    source = "".join(chr(ord("a") + number % 26) for number in range(200))
    context = AROUND + len(source) - room + LIMIT
    request = prepare(segment(source), tokenizer, ALMA, (), Decoding(LIMIT), context)
    assert list(request.ids) == prompt_ids(tokenizer, source[: len(source) - room])
    assert len(request.ids) + LIMIT == context
    assert request.cut == (room > 0)


def test_a_source_is_not_cut_where_no_context_is_known(tokenizer: Any) -> None:
    request = prepare(segment("a" * 5000), tokenizer, ALMA, (), Decoding(LIMIT), None)
    assert len(request.ids) == AROUND + 5000
    assert not request.cut


@pytest.mark.parametrize("limit", [CONTEXT - AROUND, CONTEXT, 10 * CONTEXT])
def test_a_limit_that_leaves_no_room_for_a_source_is_refused_with_the_one_that_would(
    tokenizer: Any, limit: int
) -> None:
    reason = (
        f"max_new_tokens={limit} .* leaves no room .* of {CONTEXT} tokens; ask for fewer than {CONTEXT - AROUND} new"
    )
    with pytest.raises(StudyError, match=reason):
        prepare(segment("a" * 300), tokenizer, ALMA, (), Decoding(limit), CONTEXT)
    fits = prepare(segment("a" * 300), tokenizer, ALMA, (), Decoding(CONTEXT - AROUND - 1), CONTEXT)
    assert fits.cut
    assert len(fits.ids) == AROUND + 1


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_a_batch_gives_each_segment_what_it_gets_alone_in_the_segments_order(
    model: Any, tokenizer: Any, batch_size: int
) -> None:
    expected = [whole_line(tokenizer, alone(model, tokenizer, segment.source)) for segment in SEGMENTS]
    found = translate(model, tokenizer, ALMA, SEGMENTS, (), Decoding(LIMIT, batch_size), CONTEXT)
    assert found == expected
    assert len({hypothesis.text for hypothesis in found}) >= 5


def test_the_stop_token_and_all_after_it_are_cut(model: Any, tokenizer: Any) -> None:
    free = {segment.id: alone(model, tokenizer, segment.source) for segment in SEGMENTS}
    first = free["0"]
    end = next(at for at in range(3, LIMIT) if first[at] not in first[:at])
    stop = first[end]
    model.generation_config.eos_token_id = [2, stop]
    found = translate(model, tokenizer, PROMPTS["alma"], SEGMENTS, (), Decoding(LIMIT), CONTEXT)
    for line, hypothesis in zip(SEGMENTS, found, strict=True):
        ids = free[line.id]
        kept = ids[: min((ids.index(token) for token in (2, stop) if token in ids), default=len(ids))]
        assert hypothesis.tokens == len(kept)
        assert hypothesis.text == whole_line(tokenizer, kept).text
    assert found[0].tokens == end
    assert not found[0].truncated


@pytest.mark.parametrize(("family", "expected"), [("alma", ("x", False)), ("chat", ("x x x", True))])
def test_a_translation_that_reaches_the_limit_is_marked_unless_its_line_had_ended(
    model: Any, tokenizer: Any, family: str, expected: tuple[str, bool]
) -> None:
    # After these biases the model says x, a line break, x, a line break, and so on without end.
    x, line_break = tokenizer("x\n", add_special_tokens=False)["input_ids"]
    model.generation_config.sequence_bias = [[[x], 1000.0], [[x, line_break], 2000.0]]
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    (found,) = translate(model, tokenizer, PROMPTS[family], SEGMENTS[:1], (), Decoding(5), CONTEXT)
    assert found == Hypothesis(expected[0], 5, expected[1])


def test_a_translation_of_one_line_that_reaches_the_limit_is_marked(model: Any, tokenizer: Any) -> None:
    model.generation_config.sequence_bias = [[tokenizer("x", add_special_tokens=False)["input_ids"], 1000.0]]
    (found,) = translate(model, tokenizer, ALMA, SEGMENTS[:1], (), Decoding(5), CONTEXT)
    assert found == Hypothesis("xxxxx", 5, True)


def test_a_cut_source_is_marked_in_its_hypothesis_alone(model: Any, tokenizer: Any) -> None:
    model.generation_config.eos_token_id = list(range(len(tokenizer)))
    segments: list[Segment] = [segment("b" * 600, id="long"), SEGMENTS[1]]
    found = translate(model, tokenizer, ALMA, segments, (), Decoding(LIMIT), CONTEXT)
    assert [hypothesis.truncated for hypothesis in found] == [True, False]
    assert [hypothesis.tokens for hypothesis in found] == [0, 0]


def test_progress_is_told_how_many_are_done(model: Any, tokenizer: Any) -> None:
    told: list[int] = []
    translate(model, tokenizer, ALMA, SEGMENTS, (), Decoding(2, 3), CONTEXT, told.append)
    assert told == list(range(1, len(SEGMENTS) + 1))


def says(model: Any, tokenizer: Any, text: str) -> None:
    """Make the model say this text from its first token on, and again when it is over."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    model.generation_config.sequence_bias = [[ids[: length + 1], 1000.0 * (length + 1)] for length in range(len(ids))]


CHATML = (
    "{% for turn in messages %}{{ '<|im_start|>' + turn.role + '\n' + turn.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def roomy(save_llama: Any) -> Path:
    """A model with rows for eight tokens more than its tokenizer has."""
    saved: Path = save_llama(vocab_size=106, initializer_range=0.5, max_position_embeddings=CONTEXT)
    return saved


@pytest.fixture
def chat(roomy: Path) -> tuple[Any, Any]:
    """Model and tokenizer of a ChatML model whose files name `</s>` as their only end."""
    tokenizer = load_tokenizer(roomy)
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>", "[THINK]", "[/THINK]"], special_tokens=True)
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.chat_template = CHATML
    return load_model(roomy, "cpu"), tokenizer


def test_the_templates_turn_end_stops_though_no_file_names_it(chat: tuple[Any, Any]) -> None:
    model, tokenizer = chat
    assert stop_ids(model, tokenizer) == [2, tokenizer.convert_tokens_to_ids("<|im_end|>")]
    says(model, tokenizer, "Ja.<|im_end|>")
    (found,) = translate(model, tokenizer, PROMPTS["chat"], SEGMENTS[:1], (), Decoding(40), CONTEXT)
    assert found == Hypothesis("Ja.", 3, False)


def test_a_turn_end_that_is_no_token_cuts_the_text(model: Any, tokenizer: Any) -> None:
    tokenizer.chat_template = CHATML
    assert stop_ids(model, tokenizer) == [2]
    says(model, tokenizer, "Ja.<|im_end|>\n")
    (found,) = translate(model, tokenizer, PROMPTS["chat"], SEGMENTS[:1], (), Decoding(40), CONTEXT)
    assert found == Hypothesis("Ja.", 40, False)


@pytest.mark.parametrize("marks", [("<think>", "</think>"), ("[THINK]", "[/THINK]")])
def test_what_a_chat_model_thinks_is_cut_and_told(chat: tuple[Any, Any], marks: tuple[str, str]) -> None:
    model, tokenizer = chat
    says(model, tokenizer, f"{marks[0]}So?{marks[1]}Ja.<|im_end|>")
    (found,) = translate(model, tokenizer, PROMPTS["chat"], SEGMENTS[:1], (), Decoding(40), CONTEXT)
    assert found == Hypothesis("Ja.", 8, False, thought=True)
    (found,) = translate(model, tokenizer, PROMPTS["chat"], SEGMENTS[:1], (), Decoding(4), CONTEXT)
    assert found == Hypothesis("", 4, True, thought=True)
    tokenizer.chat_template = CHATML + f"{{% if add_generation_prompt %}}{{{{ '{marks[0]}' }}}}{{% endif %}}"
    says(model, tokenizer, f"So?{marks[1]}Ja.<|im_end|>")
    (found,) = translate(model, tokenizer, PROMPTS["chat"], SEGMENTS[:1], (), Decoding(40), CONTEXT)
    assert found == Hypothesis("Ja.", 7, False, thought=True)


def test_a_one_line_prompt_is_asked_line_by_line_for_a_source_of_several(model: Any, tokenizer: Any) -> None:
    says(model, tokenizer, "x\n")
    paragraphs = segment("A dog runs.\r\n\n It barks. \nThe end.", id="several")
    for prompt in (ALMA, PROMPTS["few-shot"]):
        told: list[int] = []
        found = translate(
            model, tokenizer, prompt, [SEGMENTS[0], paragraphs, SEGMENTS[1]], (), Decoding(9), CONTEXT, told.append
        )
        assert [one.text for one in found] == ["x", "x\n\nx\nx", "x"]
        assert found[1].tokens == 3 * found[0].tokens and not any(one.truncated for one in found)
        assert told[-1] == 3 and told == sorted(told)
    assert [line.source for line in lines_of(paragraphs, ALMA)] == ["A dog runs.", "It barks.", "The end."]
    assert lines_of(paragraphs, PROMPTS["chat"]) == [paragraphs]


def test_a_chat_prompt_keeps_the_line_breaks_of_a_source_that_has_some(chat: tuple[Any, Any]) -> None:
    model, tokenizer = chat
    says(model, tokenizer, "Ja.\n\nNo.<|im_end|>")
    asked = [segment("Yes.\n\nNo.", id="several"), SEGMENTS[1]]
    found = translate(model, tokenizer, PROMPTS["chat"], asked, (), Decoding(40), CONTEXT)
    assert [one.text for one in found] == ["Ja.\n\nNo.", "Ja. No."]


def test_stop_tokens_are_the_generation_configs_and_the_tokenizers_once_each(model: Any, tokenizer: Any) -> None:
    model.generation_config.eos_token_id = [7, 2]
    assert stop_ids(model, tokenizer) == [7, 2]
    model.generation_config.eos_token_id = 9
    assert stop_ids(model, tokenizer) == [9, 2]
    model.generation_config.eos_token_id = None
    assert stop_ids(model, tokenizer) == [2]


def test_a_model_that_names_no_stop_token_is_refused_with_the_way_out(model: Any, folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    tokenizer.eos_token = None
    model.generation_config.eos_token_id = None
    with pytest.raises(StudyError, match=r"add eos_token_id to generation_config\.json"):
        stop_ids(model, tokenizer)
