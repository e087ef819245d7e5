"""`prompt.json` keeps how a model is asked, whole, and says what is wrong with one that does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from search_spaces.errors import ModelFilesError, StudyError
from tests.support.examples import segment
from workers.checkpoints.model_files import bytes_on_disk
from workers.translation.decoding import Decoding
from workers.translation.prompt_file import PROMPT_FILE, Asking, examples_of, pair_of, read_asking, write_asking

SHOWN = [segment(f"A dog {number}.", f"Ein Hund {number}.") for number in range(5)]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    asking = Asking(Decoding(64, 8, "few-shot", 4), ("en-de",), {"xx": "Xish"}, examples_of(SHOWN, ["en-de"]))
    write_asking(tmp_path, asking, stop_ids=[2])
    found = read_asking(tmp_path)
    assert found is not None
    assert (found.decoding, found.pairs, found.languages) == (asking.decoding, asking.pairs, asking.languages)
    shots = [(one.langs, one.source, one.references) for one in found.examples]
    assert shots == [("en-de", one.source, one.references) for one in SHOWN[:3]]
    assert json.loads((tmp_path / PROMPT_FILE).read_text())["stop_ids"] == [2]


def test_a_folder_without_one_says_nothing(tmp_path: Path) -> None:
    assert read_asking(tmp_path) is None


@pytest.mark.parametrize("text", ["", "[]", '{"batch_size": 0}', '{"examples": [{"langs": "en-de"}]}', '{"pairs": 3}'])
def test_a_damaged_one_is_named_with_the_way_out(tmp_path: Path, text: str) -> None:
    (tmp_path / PROMPT_FILE).write_text(text)
    with pytest.raises(ModelFilesError, match=r"prompt\.json does not say how .*--prompt"):
        read_asking(tmp_path)


def test_it_counts_for_no_byte_of_the_model(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_text("{}")
    before = bytes_on_disk(tmp_path)
    write_asking(tmp_path, Asking())
    assert bytes_on_disk(tmp_path) == before


def test_codes_of_two_and_three_letters_name_one_pair() -> None:
    assert pair_of("eng", "deu") == pair_of("en", "de_DE") == "en-de"
    assert pair_of("en", "pt-BR") == "en-pt_BR"
    with pytest.raises(StudyError, match="unknown language code 'qq'"):
        pair_of("en", "qq")
    with pytest.raises(StudyError, match="the same"):
        pair_of("en", "eng")
