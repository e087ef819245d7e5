"""Test that one data set is read from several files, and that a file which says no direction serves both."""

import json
from collections import Counter
from pathlib import Path

import pytest

from workers.reading.dataset import IN_EARLIER, read_dataset, read_datasets
from workers.reading.errors import DataError
from workers.reading.segments import DataSet, segments_digest

BOTH = ["cs-en", "en-cs", "de-en", "en-de"]


def alma(path: Path, count: int, *, also: str = "") -> Path:
    """ALMA's rows of the pair that the file's name ends in, as an array; also: a word that sets the texts apart."""
    one, other = path.name.split(".")[1].split("-")
    rows = [{"translation": {one: f"{one} {also}{n}", other: f"{other} {also}{n}"}} for n in range(1, count + 1)]
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def plain(path: Path, *rows: tuple[str, str, str], **more: str) -> Path:
    lines = [json.dumps({"src": source, "ref": reference, "langs": langs} | more) for langs, source, reference in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def counts(data: DataSet) -> dict[str, int]:
    return dict(Counter(segment.langs for segment in data.segments))


def refused(*files: Path, **how: object) -> str:
    with pytest.raises(DataError) as caught:
        read_datasets(files, **how)  # type: ignore[arg-type]
    return str(caught.value)


def test_one_file_is_read_as_ever(tmp_path: Path) -> None:
    file = alma(tmp_path / "valid.cs-en.json", 3)
    for langs in (None, "en-cs", ["en-cs"]):
        assert read_datasets([file], langs=langs) == read_dataset(file, langs=langs)
    assert read_datasets([file], langs="en-cs").segments[0].id == "en-cs:1"


def test_a_file_of_rows_without_a_direction_serves_both(tmp_path: Path) -> None:
    data = read_dataset(alma(tmp_path / "valid.cs-en.json", 2), langs=["en-cs", "cs-en"])
    assert [(one.id, one.source, one.references) for one in data.segments] == [
        ("en-cs:1", "en 1", ("cs 1",)),
        ("en-cs:2", "en 2", ("cs 2",)),
        ("cs-en:1", "cs 1", ("en 1",)),
        ("cs-en:2", "cs 2", ("en 2",)),
    ]
    # A row is one document, whatever its direction: resampled together.
    assert [one.doc_id for one in data.segments] == ["cs-en:1", "cs-en:2"] * 2


def test_files_that_serve_both_directions_and_files_of_one(tmp_path: Path) -> None:
    valid = [alma(tmp_path / f"valid.{pair}.json", 2) for pair in ("cs-en", "de-en")]
    assert counts(read_datasets(valid, langs=BOTH)) == dict.fromkeys(BOTH, 2)
    assert counts(read_datasets(valid)) == {"cs-en": 2, "de-en": 2}
    # Where each direction has a file of its own, none is read the wrong way round.
    test = [alma(tmp_path / f"test.{pair}.json", at, also=pair) for at, pair in enumerate(BOTH, start=1)]
    data = read_datasets(test, langs=BOTH)
    assert counts(data) == counts(read_datasets(test)) == {"cs-en": 1, "en-cs": 2, "de-en": 3, "en-de": 4}
    assert all(pair in segment.source for segment in data.segments for pair in [segment.langs])
    assert data.name == "test.cs-en.json and 3 more" and data.format == "alma"


def test_langs_takes_its_pairs_of_all_files_and_counts_the_others(tmp_path: Path) -> None:
    test = [alma(tmp_path / f"test.{pair}.json", at, also=pair) for at, pair in enumerate(BOTH, start=1)]
    data = read_datasets(test, langs="en-cs")
    assert counts(data) == {"en-cs": 2} and data.left_out == (("rows of other pairs than en-cs", 8),)
    assert all("en-cs" in segment.source for segment in data.segments)
    # A file's name says its pair where rows name none, and langs does not make another of it.
    table = tmp_path / "dev.en-de.tsv"
    table.write_text("One.\tEins.\n", encoding="utf-8")
    data = read_datasets([*test, table], langs=["en-cs"])
    assert counts(data) == {"en-cs": 2} and dict(data.left_out) == {"rows of other pairs than en-cs": 9}


def test_formats_mix_and_ids_stay_apart(tmp_path: Path) -> None:
    first = plain(tmp_path / "a.jsonl", ("en-de", "One.", "Eins."))
    second = plain(tmp_path / "b.jsonl", ("en-de", "Two.", "Zwei."))
    third = plain(tmp_path / "c.jsonl", ("en-de", "Three.", "Drei."), doc_id="news")
    data = read_datasets([first, second, third, alma(tmp_path / "valid.cs-en.json", 1)])
    assert [one.id for one in data.segments] == ["1:en-de:1", "2:en-de:1", "3:en-de:1", "4:cs-en:1"]
    assert [one.doc_id for one in data.segments] == ["1:en-de:1", "2:en-de:1", "news", "4:cs-en:1"]
    assert data.format == "plain_json, alma" and data.digest == segments_digest(data.segments)
    # Neither names nor folders are in it.
    moved = first.rename(tmp_path / "renamed.jsonl")
    assert read_datasets([moved, second, third, tmp_path / "valid.cs-en.json"]).digest == data.digest


def test_what_an_earlier_file_has_is_left_out_and_what_one_file_repeats_is_not(tmp_path: Path) -> None:
    first = plain(tmp_path / "a.jsonl", ("en-de", "One.", "Eins."), ("en-de", "One.", "Eins."))
    second = plain(
        tmp_path / "b.jsonl", ("en-de", "One.", "Eins."), ("en-de", "One.", "Eines."), ("en-fr", "One.", "Eins.")
    )
    data = read_datasets([first, second])
    assert [one.id for one in data.segments] == ["1:en-de:1", "1:en-de:2", "2:en-de:2", "2:en-fr:3"]
    assert data.left_out == ((IN_EARLIER, 1),)


def test_parallel_text_serves_both_directions_and_a_bad_line_counts_once(tmp_path: Path) -> None:
    for language, lines in {"en": "One\n\nThree\n", "cs": "Jedna\nDvě\nTři\n"}.items():
        (tmp_path / f"dev.{language}").write_text(lines, encoding="utf-8")
    data = read_dataset(tmp_path / "dev.en", langs=["en-cs", "cs-en"], skip_bad_rows=True)
    assert [(one.langs, one.source) for one in data.segments] == [
        ("en-cs", "One"),
        ("en-cs", "Three"),
        ("cs-en", "Jedna"),
        ("cs-en", "Tři"),
    ]
    assert len({one.doc_id for one in data.segments}) == 2 and [row.line for row in data.bad_rows] == [2]


def test_columns_named_by_languages_serve_both_directions(tmp_path: Path) -> None:
    table = tmp_path / "dev.csv"
    table.write_text("en,cs\nOne,Jedna\n", encoding="utf-8")
    assert counts(read_dataset(table, langs=["en-cs", "cs-en"])) == {"en-cs": 1, "cs-en": 1}
    assert counts(read_dataset(table)) == {"en-cs": 1}


def test_rows_that_say_their_source_are_never_turned_round(tmp_path: Path) -> None:
    file = plain(tmp_path / "a.jsonl", ("en-de", "One.", "Eins."), ("de-en", "Zwei.", "Two."), ("en-fr", "One.", "Un."))
    data = read_dataset(file, langs=["de-en", "en-de"])
    assert [(one.langs, one.source) for one in data.segments] == [("en-de", "One."), ("de-en", "Zwei.")]
    assert data.left_out == (("rows of other pairs than de-en, en-de", 1),)


def test_errors_name_the_file(tmp_path: Path) -> None:
    good = plain(tmp_path / "a.jsonl", ("en-de", "One.", "Eins."))
    bad = plain(tmp_path / "b.jsonl", ("en-de", "Two.", "Zwei."), ("en-de", "", "Drei."))
    assert refused(good, bad).startswith(f"{bad}, line 2: empty source")
    data = read_datasets([good, bad], skip_bad_rows=True)
    assert [row.reason for row in data.bad_rows] == ["b.jsonl: empty source (`src`)"]
    assert refused(good, tmp_path / "c.jsonl").startswith(f"{tmp_path / 'c.jsonl'}: there is no such file")
    assert refused(good, tmp_path / "." / "a.jsonl").startswith(f"{good}: this file is named twice")
    said = refused(good, bad, references=tmp_path / "refs.de", skip_bad_rows=True)
    assert said.startswith(f"{good}: this is one of 2 files, and references go with one alone")
    said = refused(good, bad, langs=["en-de", "en-cs"], skip_bad_rows=True)
    assert said.startswith("a.jsonl and 1 more: no row has the pair en-cs that langs requires; there are en-de")
    assert "no row has the pair en-cs" in refused(good, langs=["en-de", "en-cs"])
    assert "unknown pair 'en-qq'" in refused(good, bad, langs=["en-de", "en-qq"])
