"""Lines through the shipped model: as a study translates them, empty ones left alone, long ones whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from search_spaces.errors import StudyError
from tests.support.examples import segment
from tests.support.paths import CAPTIONS
from workers.loading.load import load_model, load_tokenizer
from workers.translation.decoding import Decoding
from workers.translation.line_translator import LineTranslator
from workers.translation.prompt_file import Asking
from workers.translation.prompts import PROMPTS
from workers.translation.translator import translate

LINES = ["A dog runs in the park.", "", "Two men are playing football.", " \t", "  A woman reads a book. "]
ASKING = Asking(Decoding(64, 8))


@pytest.fixture(scope="module")
def translator() -> LineTranslator:
    return LineTranslator(CAPTIONS, ASKING, "eng", "de", device_map="cpu")


def test_lines_become_what_a_study_has_and_empty_ones_stay_empty(translator: LineTranslator) -> None:
    found = translator(LINES)
    segments = [segment(line.strip()) for line in LINES if line.strip()]
    studied = translate(
        load_model(CAPTIONS, "cpu"), load_tokenizer(CAPTIONS), PROMPTS["alma"], segments, (), ASKING.decoding, 512
    )
    assert [line.text for line in found if line.pieces] == [one.text for one in studied]
    assert [line.pieces for line in found] == [1, 0, 1, 0, 1]
    assert [found[1].text, found[3].text] == ["", ""]
    assert translator([]) == []
    assert [line.text for line in translator(["", " "])] == ["", ""]


def test_a_line_beyond_the_context_is_translated_in_pieces_to_its_end(translator: LineTranslator) -> None:
    sentences = ["A dog runs in the park.", "Two men are playing football.", "A woman reads a book."] * 30
    # The second has no place to be cut but within a word.
    line, word = translator([" ".join(sentences), "dog" * 700])
    assert line.pieces > 2
    assert not line.truncated
    assert line.text.count("Hund") == line.text.count("Buch") == 30
    assert word.pieces > 2
    assert "\n" not in line.text + word.text


def test_a_translation_never_breaks_its_line(translator: LineTranslator) -> None:
    for line in translator(["A dog.\u2028A cat.\x85A bird.\x0bA cow.", "A\rB"]):
        assert len(line.text.splitlines()) == 1


def test_a_translation_at_the_length_limit_is_marked() -> None:
    short = LineTranslator(CAPTIONS, Asking(Decoding(3, 8)), "en", "de", device_map="cpu")
    assert [line.truncated for line in short(["A dog runs in the park near the river.", ""])] == [True, False]


@pytest.mark.parametrize(
    ("asking", "target", "said"),
    [
        (Asking(Decoding(500)), "de", r"500 new tokens and a prompt of \d+ leave no room .* at most 4\d\d with --max"),
        (Asking(Decoding(prompt="chat")), "de", "no chat template"),
        (Asking(Decoding(prompt="haiku")), "de", "there is no prompt family 'haiku'"),
        (Asking(), "qq", "unknown language code 'qq'"),
        (Asking(languages={"x": "Short"}), "de", "languages: 'x' can't be"),
    ],
)
def test_what_can_not_be_asked_is_refused_before_the_model_is_loaded(asking: Asking, target: str, said: str) -> None:
    with pytest.raises(StudyError, match=said):
        LineTranslator(CAPTIONS, asking, "en", target, device_map="cpu")


def test_a_language_that_the_study_named_is_known(tmp_path: Path) -> None:
    named = replace(ASKING, languages={"xx": "German"})
    found = LineTranslator(CAPTIONS, named, "en", "xx", device_map="cpu")(["A dog runs in the park."])
    assert found[0].text == "Ein Hund rennt im Park."
