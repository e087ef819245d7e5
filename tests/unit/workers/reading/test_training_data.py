"""Training data: read row by row in every format and direction, kept apart from what is measured on, and tokenized."""

from __future__ import annotations

import gzip
import json
import pickle
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from search_spaces.errors import StudyError
from tests.support.examples import dataset, segment
from workers.calibration.sequences import encode_pair, encode_pairs
from workers.reading.errors import DataError
from workers.reading.json_array import array_elements
from workers.reading.training_data import (
    BAD_ROWS,
    EMPTY,
    MEASURED,
    OTHER_LANGUAGES,
    TrainingData,
    examples,
    normalise_text,
    training_data,
)
from workers.training.data.held_out import held_out
from workers.training.data.overlap import refuse_overlap
from workers.training.data.tokenized_pairs import CUT_OFF, KEPT_APART, TokenizedPairs, tokenize_pairs
from workers.translation.prompts import PROMPTS

ALMA = PROMPTS["alma"]
BOTH = ("en-de", "de-en")


def write(path: Path, text: str) -> str:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


def plain(path: Path, *pairs: tuple[str, str], langs: str = "en-de") -> str:
    return write(path, "".join(json.dumps({"src": one, "ref": other, "langs": langs}) + "\n" for one, other in pairs))


def many(path: Path, count: int, langs: str = "en-de", word: str = "dog") -> str:
    """Pairs that all differ."""
    return plain(
        path, *((f"A {word} runs {n} times.", f"Ein {word} rennt {n}-mal.") for n in range(count)), langs=langs
    )


def read(data: TrainingData) -> tuple[list[tuple[str, str, str, int | None]], dict[str, int]]:
    counts: Counter[str] = Counter()
    found = [(one.langs, one.source, one.reference, one.line) for one in examples(data, counts)]
    return found, {reason: count for reason, count in counts.items() if count}


def test_a_pair_serves_every_direction_that_its_languages_allow(tmp_path: Path) -> None:
    file = plain(tmp_path / "pairs.jsonl", ("A dog.", "Ein Hund."), ("A cat.", "Eine Katze."))
    found, counts = read(training_data([(file, 1.0)], BOTH))
    assert sorted(found) == [
        ("de-en", "Ein Hund.", "A dog.", 1), ("de-en", "Eine Katze.", "A cat.", 2),
        ("en-de", "A cat.", "Eine Katze.", 2), ("en-de", "A dog.", "Ein Hund.", 1),
    ]  # fmt: skip
    assert counts == {}
    assert [row[0] for row in read(training_data([(file, 1.0)], ["de-en"]))[0]] == ["de-en", "de-en"]


def test_pairs_of_other_languages_and_empty_ones_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [("A dog.", "Ein Hund."), (" ", "Eine Katze."), ("A cow.", "")]
    file = plain(tmp_path / "pairs.jsonl", *rows)
    other = plain(tmp_path / "other.jsonl", ("A dog.", "Un chien."), langs="en-fr")
    found, counts = read(training_data([(file, 1.0), (other, 2.0)], ["en-de"]))
    assert found == [("en-de", "A dog.", "Ein Hund.", 1)]
    assert counts == {EMPTY: 2, OTHER_LANGUAGES: 1}


def test_sources_alone_are_examples_where_targets_are_made(tmp_path: Path, character_tokenizer: Any) -> None:
    rows = [*((f"A dog {n}.", f"Ein Hund {n}.") for n in range(20)), ("A cow.", ""), ("A cow", " "), ("", "Eine Kuh.")]
    data = training_data([(plain(tmp_path / "pairs.jsonl", *rows), 1.0)], BOTH)
    counts: Counter[str] = Counter()
    found = [(one.langs, one.source, one.reference) for one in examples(data, counts, sources_alone=True)]
    # In a row of German and English either side may be the one that stands alone.
    assert found[40:] == [("en-de", "A cow.", ""), ("en-de", "A cow", ""), ("de-en", "Eine Kuh.", "")]
    assert counts[EMPTY] == 3
    store = tmp_path / "store"
    given = tokenize_pairs(data, character_tokenizer, "t", ALMA, store, held_out_count=4)
    with_alone = tokenize_pairs(data, character_tokenizer, "t", ALMA, store, held_out_count=4, sources_alone=True)
    assert with_alone.held_out == given.held_out and len(given.held_out) == 4
    assert len(with_alone) == len(given) + 3 and with_alone.digest != given.digest
    assert with_alone.segment(len(given)).source == "A cow."


@pytest.mark.parametrize("as_array", [False, True])
def test_alma_rows_say_their_languages_themselves(tmp_path: Path, as_array: bool) -> None:
    rows = [{"translation": {"cs": "Pes.", "en": "A dog."}}, {"translation": {"cs": "Kočka.", "en": "A cat."}}]
    text = json.dumps(rows) if as_array else "".join(json.dumps(row) + "\n" for row in rows)
    file = write(tmp_path / "train.cs-en.json.gz", text)
    found, _ = read(training_data([(file, 1.0)], ["en-cs", "cs-en"]))
    assert {(langs, source) for langs, source, _, _ in found} == {
        ("en-cs", "A dog."), ("en-cs", "A cat."), ("cs-en", "Pes."), ("cs-en", "Kočka."),
    }  # fmt: skip


def test_parallel_text_is_named_by_one_side_and_may_have_more_than_two(tmp_path: Path) -> None:
    english = write(tmp_path / "train.en.gz", "A dog.\nA cat.\n")
    german = write(tmp_path / "train.de.gz", "Ein Hund.\nEine Katze.\n")
    write(tmp_path / "train.fr", "Un chien.\nUn chat.\n")
    write(tmp_path / "train-more.cs", "Pes.\n")
    found, _ = read(training_data([(english, 1.0)], ["en-de", "fr-de"]))
    assert ("fr-de", "Un chat.", "Eine Katze.", 2) in found and len(found) == 4
    with pytest.raises(StudyError, match="are the same training pairs; name one of them"):
        training_data([(english, 1.0), (german, 1.0)], ["en-de"])
    with pytest.raises(DataError, match="no other side of it in cs, en beside it"):
        training_data([(english, 1.0)], ["en-cs"])


def test_sides_of_other_lengths_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "train.en", "A dog.\nA cat.\n")
    write(tmp_path / "train.de", "Ein Hund.\n")
    with pytest.raises(DataError, match=r"line 2.*same number of lines.*train\.de ends before"):
        read(training_data([(file, 1.0)], ["en-de"]))


def test_evaluation_sets_are_read_too(tmp_path: Path) -> None:
    row = {"lp": "en-de_DE", "segment_id": 1, "is_bad_source": False, "source": "A dog.", "target": "Ein Hund."}
    found, _ = read(training_data([(write(tmp_path / "wmt.jsonl", json.dumps(row)), 1.0)], ["de-en"]))
    assert found == [("de-en", "Ein Hund.", "A dog.", None)]


@pytest.mark.parametrize("bad", ['{"src": "A dog."}', '{"src": 1, "ref": "x", "langs": "en-de"}', '{"src": "A'])
def test_a_bad_row_is_an_error_or_left_out_and_counted(tmp_path: Path, bad: str) -> None:
    good = json.dumps({"src": "A dog.", "ref": "Ein Hund.", "langs": "en-de"})
    file = write(tmp_path / "pairs.jsonl", f"{good}\n{bad}\n{good}\n")
    with pytest.raises(DataError, match="line 2"):
        read(training_data([(file, 1.0)], ["en-de"]))
    found, counts = read(training_data([(file, 1.0)], ["en-de"], skip_bad_rows=True))
    assert len(found) == 2 and counts == {BAD_ROWS: 1}


def test_files_that_cannot_be_used_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="nothing to train on"):
        training_data([], ["en-de"])
    with pytest.raises(DataError, match="no such file"):
        training_data([(str(tmp_path / "none.jsonl"), 1.0)], ["en-de"])
    with pytest.raises(DataError, match="the file is empty"):
        training_data([(write(tmp_path / "empty.jsonl", "\n"), 1.0)], ["en-de"])
    damaged = tmp_path / "damaged.jsonl.gz"
    damaged.write_bytes(gzip.compress(many(tmp_path / "x", 200).encode() * 50)[:-9])
    with pytest.raises(DataError, match="cut off or damaged"):
        training_data([(str(damaged), 1.0)], ["en-de"])
    with pytest.raises(StudyError, match=r"weight of .* is 0; it must be a number above 0"):
        training_data([(many(tmp_path / "pairs.jsonl", 3), 0)], ["en-de"])


def test_the_digest_is_of_content_weights_and_directions(tmp_path: Path) -> None:
    file = many(tmp_path / "pairs.jsonl", 3)
    packed = write(tmp_path / "elsewhere.jsonl.gz", Path(file).read_text(encoding="utf-8"))
    digest = training_data([(file, 1.0)], ["en-de"]).digest
    assert training_data([(packed, 1.0)], ["en-de"]).digest == digest
    others = [training_data([(file, 2.0)], ["en-de"]), training_data([(file, 1.0)], BOTH)]
    assert digest not in {other.digest for other in others}


def test_an_array_is_the_same_in_chunks_of_any_size() -> None:
    raw = json.dumps([{"a": "ž" * 9, "b": [1, {"c": None}]}, 12345, "x\\u017e", {}], indent=1).encode()
    whole = list(array_elements([raw], Path("data")))
    for size in (1, 2, 3, 7, 20):
        chunks = [raw[start : start + size] for start in range(0, len(raw), size)]
        assert list(array_elements(chunks, Path("data"))) == whole
    with pytest.raises(DataError, match="must be UTF-8"):
        list(array_elements([b'["\xc5', b'"]'], Path("data")))


@pytest.mark.parametrize(("taught", "measured"), [("A dog runs.", "A dog  runs."), ("Un café.", "Un cafe\u0301.")])
@pytest.mark.parametrize("flipped", [False, True])
def test_a_source_that_is_measured_on_may_not_be_trained_on(
    tmp_path: Path, taught: str, measured: str, flipped: bool
) -> None:
    pair = ("Etwas.", taught) if flipped else (taught, "Etwas.")
    file = plain(tmp_path / "pairs.jsonl", ("A cat.", "Eine Katze."), pair)
    splits = {"dev": dataset([segment("Other.")]), "test": dataset([segment(measured)])}
    with pytest.raises(DataError) as error:
        refuse_overlap(training_data([(file, 1.0)], ["en-de"]), splits)
    assert (error.value.path, error.value.line) == (Path(file), 2)
    side = "target" if flipped else "source"
    assert f"a {side} of the training data (en-de) is a source of the test data too" in str(error.value)
    assert normalise_text(measured) in str(error.value) and "--skip-bad-rows" in str(error.value)
    without = refuse_overlap(training_data([(file, 1.0)], ["en-de"], skip_bad_rows=True), splits)
    found, counts = read(without)
    assert [source for _, source, _, _ in found] == ["A cat."] and counts == {MEASURED: 1}
    assert without.digest != training_data([(file, 1.0)], ["en-de"]).digest


def test_all_that_is_measured_on_is_counted(tmp_path: Path) -> None:
    file = plain(tmp_path / "pairs.jsonl", ("A cat.", "X."), ("One.", "Eins."), ("Two.", "Zwei."), ("One.", "Y."))
    splits = {"dev": dataset([segment("One.", id="1"), segment("Two.", id="2")])}
    with pytest.raises(DataError, match=r"line 2: a source .* \(and 1 more of its texts\) is a source of the dev data"):
        refuse_overlap(training_data([(file, 1.0)], ["en-de"]), splits)


def test_a_source_alone_may_not_be_one_that_is_measured_on(tmp_path: Path) -> None:
    file = plain(tmp_path / "sources.jsonl", ("A cat.", ""), ("A dog runs.", ""))
    splits = {"dev": dataset([segment("A dog runs.")])}
    with pytest.raises(DataError, match="is a source of the dev data too"):
        refuse_overlap(training_data([(file, 1.0)], ["en-de"]), splits)
    without = refuse_overlap(training_data([(file, 1.0)], ["en-de"], skip_bad_rows=True), splits)
    assert [one.source for one in examples(without, Counter(), sources_alone=True)] == ["A cat."]


def test_a_row_of_several_languages_goes_as_a_whole(tmp_path: Path) -> None:
    write(tmp_path / "rows.en", "A cat.\nA dog runs.\n")
    write(tmp_path / "rows.fr", "Un chat.\nUn chien court.\n")
    file = write(tmp_path / "rows.de", "Eine Katze.\nEin Hund rennt.\n")
    data = training_data([(file, 1.0)], ["en-de", "fr-de"], skip_bad_rows=True)
    assert len(read(data)[0]) == 4
    found, counts = read(refuse_overlap(data, {"dev": dataset([segment("A dog runs.")])}))
    assert [(langs, source) for langs, source, _, _ in found] == [("en-de", "A cat."), ("fr-de", "Un chat.")]
    assert counts == {MEASURED: 2}


def test_what_a_held_out_pair_is_translated_to_is_no_target_of_another_direction(
    tmp_path: Path, character_tokenizer: Any
) -> None:
    one = plain(tmp_path / "en.jsonl", *((f"A dog runs {n} times.", f"Ein Hund {n}.") for n in range(200)))
    other = plain(tmp_path / "fr.jsonl", *((f"Un chien {n}.", f"Ein Hund {n}.") for n in range(200)), langs="fr-de")
    data = training_data([(one, 1.0), (other, 1.0)], ["en-de", "fr-de"])
    pairs = tokenize_pairs(data, character_tokenizer, "t", ALMA, tmp_path / "store", held_out_count=20)
    kept = {one.references[0] for one in pairs.held_out}
    assert len(pairs.held_out) == 20
    assert kept.isdisjoint(pairs.segment(row).references[0] for row in range(len(pairs)))


def test_data_without_overlap_stays_as_it_is(tmp_path: Path) -> None:
    data = training_data([(many(tmp_path / "pairs.jsonl", 5), 1.0)], ["en-de"])
    assert refuse_overlap(data, {"dev": dataset([segment("A dog  walks.")])}) == data


def test_held_out_pairs_are_balanced_and_share_no_source_with_training(
    tmp_path: Path, character_tokenizer: Any
) -> None:
    large = many(tmp_path / "large.jsonl", 300)
    small = many(tmp_path / "small.jsonl", 100, langs="en-fr")  # the same sources, into French
    data = training_data([(large, 1.0), (small, 1.0)], ["en-de", "de-en", "en-fr"])
    apart = held_out(data, 30, seed=3)
    assert Counter(one.langs for one in apart) == {"en-de": 10, "de-en": 10, "en-fr": 10}
    assert apart == held_out(data, 30, seed=3) != held_out(data, 30, seed=4)
    pairs = tokenize_pairs(data, character_tokenizer, "t", ALMA, tmp_path / "store", held_out_count=30, seed=3)
    sources = {one.source for one in apart}
    for row in range(len(pairs)):
        one = pairs.segment(row)
        assert sources.isdisjoint((one.source, one.references[0]))
    assert pairs.held_out == apart and len(pairs) + pairs.left_out[KEPT_APART] == 700
    assert len(held_out(training_data([(large, 1.0)], ["en-de"]), 128)) == 30  # a tenth at most


def test_tokenized_pairs_are_those_of_the_prompt(tmp_path: Path, character_tokenizer: Any) -> None:
    data = training_data([(many(tmp_path / "pairs.jsonl", 40), 1.0)], BOTH)
    pairs = tokenize_pairs(data, character_tokenizer, "t", ALMA, tmp_path / "store", held_out_count=0)
    assert len(pairs) == 80 and pairs.langs == ("de-en", "en-de") and pairs.left_out == {}
    expected = [(one.langs, encode_pair(one.segment, character_tokenizer, ALMA)) for one in examples(data, Counter())]
    assert [(pairs.langs_of(row), pairs.shown(row)) for row in range(80)] == expected
    assert [pairs.length(row) for row in range(80)] == [len(one.ids) for _, one in expected]
    assert (pairs.budget(0), pairs.budget(5)) == (pairs.tokens, 5)
    assert pairs.tokens == sum(len(one.ids) for _, one in expected) == sum(one.tokens for one in pairs.strata)
    texts = [(one.source, one.reference) for one in examples(data, Counter())]
    assert [(one.source, one.references[0]) for one in map(pairs.segment, range(80))] == texts
    one = pairs.shown(7)
    assert one.ids[-1] == character_tokenizer.eos_token_id
    assert character_tokenizer.decode(one.ids[one.target_start : -1]).strip() == texts[7][1]
    with pytest.raises(IndexError, match="there is no row 80"):
        pairs.shown(80)


def test_the_store_keeps_them_by_what_decides_them(tmp_path: Path, character_tokenizer: Any) -> None:
    file = many(tmp_path / "pairs.jsonl", 40)
    data, store = training_data([(file, 1.0)], ["en-de"]), tmp_path / "store"
    first = tokenize_pairs(data, character_tokenizer, "t", ALMA, store)
    Path(file).unlink()  # not read again
    again = tokenize_pairs(data, None, "t", ALMA, store)
    assert (again.folder, again.digest) == (first.folder, first.digest)
    loaded: TokenizedPairs = pickle.loads(pickle.dumps(first))
    assert loaded.shown(3) == first.shown(3)
    many(tmp_path / "pairs.jsonl", 40)
    others = [
        tokenize_pairs(data, character_tokenizer, "another", ALMA, store),
        tokenize_pairs(data, character_tokenizer, "t", PROMPTS["few-shot"], store),
        tokenize_pairs(data, character_tokenizer, "t", ALMA, store, 90),
        tokenize_pairs(data, character_tokenizer, "t", ALMA, store, seed=1),
        tokenize_pairs(data, character_tokenizer, "t", ALMA, store, held_out_count=2),
    ]
    assert len({first.digest, *(other.digest for other in others)}) == 6


def test_sequences_are_cut_and_those_without_translation_left_out(tmp_path: Path, character_tokenizer: Any) -> None:
    rows = [("A dog.", "Ein Hund."), ("A very long story. " * 9, "Kurz."), ("A cat.", "Lang. " * 40)]
    data = training_data([(plain(tmp_path / "pairs.jsonl", *rows), 1.0)], ["en-de"])
    pairs = tokenize_pairs(data, character_tokenizer, "t", ALMA, tmp_path / "store", 100, held_out_count=0)
    assert len(pairs) == 2 and pairs.left_out == {CUT_OFF: 1}
    assert pairs.length(1) == 100 and pairs.shown(1).target_start < 100


def test_data_without_a_pair_is_refused_with_the_reasons(tmp_path: Path, character_tokenizer: Any) -> None:
    data = training_data([(many(tmp_path / "pairs.jsonl", 5), 1.0)], ["en-cs"])
    with pytest.raises(StudyError, match=r"no pair to train on \(5 pairs of other languages\)"):
        tokenize_pairs(data, character_tokenizer, "t", ALMA, tmp_path / "store")


def test_tokenizing_together_gives_what_tokenizing_alone_gives(character_tokenizer: Any) -> None:
    pairs = [segment("A dog.", "Ein Hund."), segment("A much longer sentence.", "Ein viel längerer Satz.")]
    together = encode_pairs(pairs, character_tokenizer, ALMA, 80)
    assert together == [encode_pair(one, character_tokenizer, ALMA, 80) for one in pairs]


class CoarseTokenizer:
    """As fast as can be: a token for every sixty-four characters."""

    eos_token_id = 2

    def __call__(self, texts: list[str], add_special_tokens: bool) -> dict[str, list[list[int]]]:
        return {"input_ids": [[3] * (len(text) // 64) for text in texts]}


def test_memory_stays_far_below_the_files_size(tmp_path: Path) -> None:
    text = "a dog runs along a very long street in a small town " * 25
    file = tmp_path / "pairs.jsonl"
    with file.open("w", encoding="utf-8") as stream:
        stream.writelines(f'{{"src": "{n} {text}", "ref": "{n} {text}", "langs": "en-de"}}\n' for n in range(10_000))
    data = training_data([(str(file), 1.0)], ["en-de"])
    tracemalloc.start()
    pairs = tokenize_pairs(data, CoarseTokenizer(), "t", ALMA, tmp_path / "store", seed=1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(pairs) == 10_000 - 128 and file.stat().st_size > 25e6
    assert peak < 0.35 * file.stat().st_size
