"""Test that `langs` takes one pair's rows from files that name their pairs, and tells of the others."""

import argparse
import json
from pathlib import Path

import pytest

from orchestrator.finish.run_folder import read_data
from orchestrator.study.flags import add_study_flags
from orchestrator.study.spec import StudySpec, spec_from_mapping
from orchestrator.study.splits import spell_left_out
from search_spaces.errors import StudyError
from workers.reading.dataset import read_dataset
from workers.reading.errors import DataError
from workers.reading.segments import segments_digest

JsonRow = dict[str, object]

OTHERS = "rows of other pairs than en-cs"


def esa(langs: str, number: int, **more: object) -> JsonRow:
    row: JsonRow = {"langs": langs, "line_id": number, "src": f"S{number}", "tgt": f"{langs} {number}"}
    return row | {"system": "refA"} | more


def unified(langs: str, number: int, **more: object) -> JsonRow:
    row: JsonRow = {"doc_id": f"{langs}_#_news_#_d_#_{number}", "src_text": f"S{number}"}
    return row | {"tgt_text": {"refA": f"{langs} {number}"}} | more


def plus(langs: str, number: int, **more: object) -> JsonRow:
    row: JsonRow = {"lp": langs, "segment_id": number, "is_bad_source": False, "source": f"S{number}"}
    return row | {"target": f"{langs} {number}"} | more


def plain(langs: str, number: int, **more: object) -> JsonRow:
    return {"src": f"S{number}", "ref": f"{langs} {number}", "langs": langs} | more


def alma(langs: str, number: int) -> JsonRow:
    source, target = langs.split("-")
    return {"translation": {source: f"S{number}", target: f"{langs} {number}"}}


FORMATS = {"wmt24_esa": esa, "wmt_unified": unified, "wmt24pp": plus, "plain_json": plain, "alma": alma}


def write(path: Path, *rows: JsonRow | str) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def refused(path: Path, langs: str | None, skip: bool = False) -> DataError:
    with pytest.raises(DataError) as caught:
        read_dataset(path, langs=langs, skip_bad_rows=skip)
    return caught.value


@pytest.mark.parametrize("key", FORMATS)
def test_the_rows_of_the_pair_are_taken_and_the_others_counted(tmp_path: Path, key: str) -> None:
    row = FORMATS[key]
    mixed = [row("en-ja", 1), row("en-cs", 2), row("en-ja", 3), row("en-cs", 4), row("en-zh", 5)]
    data = read_dataset(write(tmp_path / "mixed.jsonl", *mixed), langs="eng-ces")
    assert data.format == key and data.pairs == ("en-cs",)
    assert [segment.source for segment in data.segments] == ["S2", "S4"]
    assert data.left_out == ((OTHERS, 3),) and data.bad_rows == ()
    assert spell_left_out(data) == [f"mixed.jsonl: 3 left out ({OTHERS})"]


@pytest.mark.parametrize("key", FORMATS)
def test_a_file_of_the_pair_alone_is_read_whole(tmp_path: Path, key: str) -> None:
    path = write(tmp_path / "test.en-cs.json", FORMATS[key]("en-cs", 1), FORMATS[key]("en-cs", 2))
    asked, unasked = read_dataset(path, langs="en-cs"), read_dataset(path)
    assert asked.digest == unasked.digest and asked.left_out == ()


@pytest.mark.parametrize("key", [key for key in FORMATS if key != "alma"])
def test_the_digest_is_of_what_is_kept(tmp_path: Path, key: str) -> None:
    row = FORMATS[key]
    rows = [row("en-cs", 1), row("en-ja", 2)]
    path = write(tmp_path / "data", *rows)
    whole, czech = read_dataset(path), read_dataset(path, langs="en-cs")
    assert whole.left_out == () and whole.pairs == ("en-cs", "en-ja")
    assert czech.digest == segments_digest(czech.segments) != whole.digest
    more = read_dataset(write(tmp_path / "data", *rows, row("en-ja", 3)), langs="en-cs")
    assert more.digest == czech.digest and more.left_out == ((OTHERS, 2),)


@pytest.mark.parametrize("key", [key for key in FORMATS if key != "alma"])
@pytest.mark.parametrize("skip", [False, True])
def test_a_file_without_the_pair_is_an_error_that_lists_its_pairs(tmp_path: Path, key: str, skip: bool) -> None:
    row = FORMATS[key]
    path = write(tmp_path / "data", row("en-zh", 1), row("en-ja", 2), row("en-zh", 3))
    error = refused(path, "en-cs", skip)
    assert "no row has the pair en-cs" in error.rule and "the file has en-ja, en-zh" in error.rule
    assert "--langs" in error.way_out


def test_alma_without_the_pair_lists_both_directions(tmp_path: Path) -> None:
    error = refused(write(tmp_path / "data", alma("en-zh", 1)), "en-cs")
    assert "no row has the pair en-cs" in error.rule and "the file has en-zh, zh-en" in error.rule


def test_alma_rows_are_selected_by_the_callers_pair_not_by_the_files_name(tmp_path: Path) -> None:
    path = write(tmp_path / "test.en-cs.json", alma("en-cs", 1), alma("en-ja", 2))
    assert "`translation` has no cs" in refused(path, None).rule
    assert len(read_dataset(path, langs="cs-en").segments) == 1


def test_rows_of_the_pair_without_a_reference_are_no_lack_of_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "data", esa("en-cs", 1, system="SysA"), esa("en-ja", 2))
    error = refused(path, "en-cs")
    assert "left out: 1 (no reference)" in error.rule and f"left out: 1 ({OTHERS})" in error.rule
    assert "the other pairs: en-ja" in error.rule


@pytest.mark.parametrize("bad", ['{"src": "x"', json.dumps(plain("en-cs", 2, src="")), json.dumps(plain("en-qq", 2))])
def test_bad_rows_still_stop_it(tmp_path: Path, bad: str) -> None:
    path = write(tmp_path / "data", plain("en-cs", 1), bad, plain("en-ja", 3))
    assert refused(path, "en-cs").line == 2
    data = read_dataset(path, langs="en-cs", skip_bad_rows=True)
    assert [row.line for row in data.bad_rows] == [2] and data.left_out == ((OTHERS, 1),)


def test_of_a_row_of_another_pair_only_the_pair_is_read(tmp_path: Path) -> None:
    rows = [plain("en-ja", 1, src=""), plain("en-cs", 2, id="a"), plain("en-ja", 3, id="a")]
    data = read_dataset(write(tmp_path / "data", *rows), langs="en-cs")
    assert [segment.id for segment in data.segments] == ["a"] and data.left_out == ((OTHERS, 2),)


def test_rows_without_a_pair_take_the_callers_beside_those_that_name_one(tmp_path: Path) -> None:
    path = write(tmp_path / "data", plain("en-ja", 1), {"src": "S2", "ref": "R2"})
    data = read_dataset(path, langs="en-cs")
    assert [segment.id for segment in data.segments] == ["en-cs:2"] and data.left_out == ((OTHERS, 1),)


def test_files_that_name_no_pair_are_of_the_callers(tmp_path: Path) -> None:
    source, target = write(tmp_path / "x.src", "One", "Two"), write(tmp_path / "x.ref", "Jedna", "Dvě")
    text = read_dataset(source, references=target, langs="en-cs")
    rows = read_dataset(write(tmp_path / "data", {"src": "One", "ref": "Jedna"}), langs="en-cs")
    assert text.pairs == rows.pairs == ("en-cs",) and len(text.segments) == 2
    assert text.left_out == rows.left_out == ()


def test_a_large_count_is_told_with_its_thousands(tmp_path: Path) -> None:
    rows = [plain("en-cs", 0), *(plain("en-ja", number) for number in range(1234))]
    data = read_dataset(write(tmp_path / "data", *rows), langs="en-cs")
    assert spell_left_out(data) == [f"data: 1,234 left out ({OTHERS})"]


def test_a_search_reads_its_pair_of_both_data_and_test(tmp_path: Path) -> None:
    dev = write(tmp_path / "dev.jsonl", plain("en-cs", 1), plain("en-ja", 2))
    test = write(tmp_path / "test.jsonl", esa("en-ja", 3), esa("en-cs", 4), esa("en-ja", 5))
    data = read_data(StudySpec(out=str(tmp_path), data=str(dev), test=str(test), langs="en-cs"))
    assert data["dev"].pairs == data["test"].pairs == ("en-cs",)
    assert data["dev"].left_out == ((OTHERS, 1),) and data["test"].left_out == ((OTHERS, 2),)
    both = read_data(StudySpec(out=str(tmp_path), data=str(dev), test=str(test)))
    assert both["dev"].pairs == both["test"].pairs == ("en-cs", "en-ja")


def test_a_test_file_that_names_no_pair_is_of_the_searchs(tmp_path: Path) -> None:
    dev = write(tmp_path / "dev.src", "One")
    references = write(tmp_path / "dev.ref", "Jedna")
    test = write(tmp_path / "test.jsonl", {"src": "Two", "ref": "Dvě"})
    spec = StudySpec(out=str(tmp_path), data=str(dev), references=str(references), test=str(test), langs="en-cs")
    assert read_data(spec)["test"].pairs == ("en-cs",)


def test_a_test_file_without_the_pair_stops_the_search(tmp_path: Path) -> None:
    dev, test = write(tmp_path / "dev", plain("en-cs", 1)), write(tmp_path / "test", plain("en-ja", 2))
    with pytest.raises(DataError, match=r"no row has the pair en-cs.*the file has en-ja"):
        read_data(StudySpec(out=str(tmp_path), data=str(dev), test=str(test), langs="en-cs"))


def test_a_text_test_file_is_not_told_to_use_the_references_of_data(tmp_path: Path) -> None:
    dev, test = write(tmp_path / "dev", plain("en-cs", 1)), write(tmp_path / "test.en", "Two")
    with pytest.raises(DataError) as caught:
        read_data(StudySpec(out=str(tmp_path), data=str(dev), test=str(test), langs="en-cs"))
    assert "x.de beside x.en" in caught.value.way_out
    assert "those of --data may also be named with --references" in caught.value.way_out


def test_a_study_of_several_files_and_pairs(tmp_path: Path) -> None:
    dev = [write(tmp_path / f"valid.{langs}.json", alma(langs, 1)) for langs in ("cs-en", "de-en")]
    both = ("cs-en", "en-cs", "de-en", "en-de")
    test = [write(tmp_path / f"test.{langs}.json", alma(langs, 2)) for langs in both]
    spec = StudySpec(
        out=str(tmp_path), data=list(map(str, dev)), test=tuple(map(str, test)), langs=" cs-en,en-cs ,de-en, en-de"
    )
    assert spec.langs == both and spec.data_name == "valid.cs-en.json and 1 more"
    assert spec_from_mapping(json.loads(json.dumps(spec.to_json()))) == spec
    data = read_data(spec)
    assert data["dev"].pairs == data["test"].pairs == tuple(sorted(both))
    assert len(data["dev"].segments) == len(data["test"].segments) == 4


def test_one_file_in_a_list_is_the_file(tmp_path: Path) -> None:
    spec = StudySpec(out="runs/x", data=["dev.jsonl"], test="test.jsonl", langs=["en-cs"], calibration=["a", "b"])
    assert (spec.data, spec.langs, spec.to_json()["data"], spec.to_json()["langs"]) == (
        "dev.jsonl",
        "en-cs",
        "dev.jsonl",
        "en-cs",
    )
    assert StudySpec(out="runs/x", data="dev.jsonl", langs="en-cs").to_json()["test"] is None
    absolute = spec.absolute()
    assert absolute.data == str(Path("dev.jsonl").resolve()) and absolute.test == str(Path("test.jsonl").resolve())
    assert absolute.calibration == (str(Path("a").resolve()), str(Path("b").resolve()))


def test_flags_of_files_may_be_given_again() -> None:
    parser = argparse.ArgumentParser()
    add_study_flags(parser)
    asked = parser.parse_args(
        ["--data", "a", "--data", "b", "--test", "c", "--calibration", "d", "--langs", "en-cs,cs-en"]
    )
    assert (asked.data, asked.test, asked.calibration, asked.langs) == (["a", "b"], ["c"], ["d"], "en-cs,cs-en")
    with pytest.raises(StudyError, match="langs is 'en-cs,'; it must be a pair such as en-cs, several with commas"):
        StudySpec(out="runs/x", data="dev.jsonl", langs="en-cs,")
    with pytest.raises(StudyError, match="a study needs `data`"):
        StudySpec(out="runs/x", data=[])
