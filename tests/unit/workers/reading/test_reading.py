"""Test the data reader on small made-up files: every format, and every kind of broken file."""

import gzip
import hashlib
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from workers.languages.codes import (
    ISO_639_3,
    LANGUAGE_NAMES,
    MAIN_REGION,
    MAIN_SCRIPT,
    UnknownLanguage,
    given_names,
    language_name,
    name_languages,
    normalise_language,
    normalise_pair,
    special_names,
)
from workers.reading.dataset import read_dataset
from workers.reading.errors import DataError, shorten
from workers.reading.formats.registry import FORMATS
from workers.reading.segments import DataSet, Segment, segments_digest

JsonRow = dict[str, object]

WMT24PP_TARGETS = [
    "ar_EG", "ar_SA", "bg_BG", "bn_IN", "ca_ES", "cs_CZ", "da_DK", "de_DE", "el_GR", "es_MX", "et_EE",
    "fa_IR", "fi_FI", "fil_PH", "fr_CA", "fr_FR", "gu_IN", "he_IL", "hi_IN", "hr_HR", "hu_HU", "id_ID",
    "is_IS", "it_IT", "ja_JP", "kn_IN", "ko_KR", "lt_LT", "lv_LV", "ml_IN", "mr_IN", "nl_NL", "no_NO",
    "pa_IN", "pl_PL", "pt_BR", "pt_PT", "ro_RO", "ru_RU", "sk_SK", "sl_SI", "sr_RS", "sv_SE", "sw_KE",
    "sw_TZ", "ta_IN", "te_IN", "th_TH", "tr_TR", "uk_UA", "ur_PK", "vi_VN", "zh_CN", "zh_TW", "zu_ZA",
]  # fmt: skip


def esa(system: str, tgt: object, line_id: object = 1, **more: object) -> JsonRow:
    row: JsonRow = {
        "langs": "en-de",
        "line_id": line_id,
        "src": f"Source {line_id}",
        "tgt": tgt,
        "doc_id": "news_1",
        "domain": "news",
        "esa_spans": [{"start_i": "missing", "end_i": "missing", "severity": "minor", "error_type": None}],
        "esa_score": "80",
        "system": system,
        "annotator": "a1",
        "speech_info": None,
    }
    return row | more


def unified(doc_id: str = "en-es_#_speech_#_vid_1_#_731", **more: object) -> JsonRow:
    row: JsonRow = {
        "doc_id": doc_id,
        "src_text": "Hello",
        "tgt_text": {"refA": "Hola", "SysA": "Buenas"},
        "scores": {
            "refA": [{"score": 1.0, "protocol": "ESA"}],
            "SysA": [{"score": 70.0, "protocol": "ESA"}, {"score": 80}],
        },
    }
    return row | more


def plus(segment_id: object = 2, **more: object) -> JsonRow:
    row: JsonRow = {
        "lp": "en-de_DE",
        "domain": "news",
        "document_id": "doc_1",
        "segment_id": segment_id,
        "is_bad_source": False,
        "source": f"Source {segment_id}",
        "target": f"Ziel {segment_id}",
        "original_target": "Altes Ziel",
    }
    return row | more


def alma(de: object = "Hallo", en: object = "Hello") -> JsonRow:
    return {"translation": {"de": de, "en": en}}


def plain(number: int = 1, **more: object) -> JsonRow:
    row: JsonRow = {"src": f"Source {number}", "ref": f"Ziel {number}", "langs": "en-de"}
    return row | more


def as_lines(*rows: object) -> bytes:
    """One JSON value a line; a string is put in as it is."""
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows).encode()


def write(folder: Path, content: bytes, name: str = "data") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def read(folder: Path, *rows: object, name: str = "data", **options: object) -> DataSet:
    return read_dataset(write(folder, as_lines(*rows), name), **options)  # type: ignore[arg-type]


def refused(path: Path, **options: object) -> DataError:
    with pytest.raises(DataError) as caught:
        read_dataset(path, **options)  # type: ignore[arg-type]
    error = caught.value
    assert str(error).startswith(str(error.path)), "the message starts with the file"
    assert error.rule in str(error) and error.way_out and error.way_out in str(error)
    assert len(str(error).replace(str(error.path.parent), "")) < 300, "one line that a person reads"
    if error.line is not None:
        assert f", line {error.line}:" in str(error)
    if error.value is not None:
        assert shorten(error.value) in str(error)
    return error


# The formats


def test_esa_takes_references_from_refa_rows_only(tmp_path: Path) -> None:
    data = read(
        tmp_path,
        esa("SysA", "Ausgabe", 7),
        esa("refA", " Referenz ", 7),
        esa("SysB", "", 7, esa_score="60.5"),
        esa("SysA", "Andere", 3),
        esa("refA", "Drei", 3),
    )
    assert data.format == "wmt24_esa"
    assert [segment.id for segment in data.segments] == ["en-de:3", "en-de:7"]
    assert data.segments[1] == Segment(
        "en-de:7", "en-de", "Source 7", ("Referenz",), "news_1", "news", human_score=70.25
    )
    assert data.pairs == ("en-de",) and data.name == "data" and data.without_reference == 0


def test_esa_human_score_leaves_out_refa_and_counts_every_annotation(tmp_path: Path) -> None:
    rows = [esa("refA", "R", esa_score="0")]
    rows += [esa("SysA", "A", esa_score=score, annotator=score) for score in ("100", "90")]
    rows += [esa("SysB", "B", esa_score="20"), esa("SysC", "C", esa_score=None)]
    assert read(tmp_path, *rows).segments[0].human_score == 70.0


def test_esa_without_scores_is_unscored(tmp_path: Path) -> None:
    row = esa("SysA", "A")
    del row["esa_score"]
    assert read(tmp_path, esa("refA", "R", esa_score=None), row).segments[0].human_score is None


def test_esa_merges_equal_references_and_keeps_different_ones(tmp_path: Path) -> None:
    rows = [esa("refA", "R"), esa("refA", "R ", annotator="a2"), esa("refA", "Zweite")]
    assert read(tmp_path, *rows).segments[0].references == ("R", "Zweite")


def test_esa_counts_segments_without_reference(tmp_path: Path) -> None:
    data = read(tmp_path, esa("SysA", "A", 1), esa("SysB", "B", 1), esa("refA", "R", 2))
    assert [segment.id for segment in data.segments] == ["en-de:2"]
    assert data.without_reference == 1 and data.left_out == (("no reference", 1),)


def test_esa_orders_pairs_as_they_appear_and_keeps_line_ids_apart(tmp_path: Path) -> None:
    data = read(tmp_path, esa("refA", "Z", 2, langs="en-zh"), esa("refA", "D", 2), esa("refA", "C", 1))
    assert [segment.id for segment in data.segments] == ["en-zh:2", "en-de:1", "en-de:2"]
    assert data.pairs == ("en-de", "en-zh")


@pytest.mark.parametrize(("key", "other"), [("src", "Else"), ("doc_id", "d2"), ("domain", "social")])
def test_esa_rows_of_one_segment_must_agree(tmp_path: Path, key: str, other: str) -> None:
    error = refused(write(tmp_path, as_lines(esa("refA", "R"), esa("SysA", "A", **{key: other}))))
    assert error.line == 2 and f"`{key}` is another than in line 1" in error.rule and error.value == other


def test_unified_takes_all_from_doc_id_and_refa(tmp_path: Path) -> None:
    data = read(tmp_path, unified(), unified("cs-de_DE_#_news_#_blesk.cz.1_#_0", scores=None))
    assert data.format == "wmt_unified"
    assert data.segments[0] == Segment("en-es:vid_1:731", "en-es", "Hello", ("Hola",), "vid_1", "speech", 75.0)
    assert data.segments[1].langs == "cs-de" and data.segments[1].human_score is None


def test_unified_counts_rows_without_refa(tmp_path: Path) -> None:
    data = read(tmp_path, unified(), unified("en-es_#_a_#_b_#_2", tgt_text={"SysA": "Nada", "refA": None}))
    assert len(data.segments) == 1 and data.without_reference == 1


def test_unified_averages_no_other_protocol(tmp_path: Path) -> None:
    scores = {"SysA": [{"score": -25.0, "protocol": "MQM"}, {"score": 50.0, "protocol": "ESA"}, {"score": None}]}
    assert read(tmp_path, unified(scores=scores)).segments[0].human_score == 50.0


@pytest.mark.parametrize("doc_id", ["en-es", "en-es_#_speech", "en-es_#__#_doc_#_1", "WMT26_###_news_###_eng_Latn"])
def test_unified_needs_pair_domain_and_document_in_doc_id(tmp_path: Path, doc_id: str) -> None:
    assert "joined by _#_" in refused(write(tmp_path, as_lines(unified(doc_id)))).rule


def test_wmt24pp_leaves_out_bad_sources_and_the_canary_and_counts_them(tmp_path: Path) -> None:
    data = read(
        tmp_path,
        plus(1, domain="canary", is_bad_source=True),
        plus(2),
        plus(3, is_bad_source=True, target=""),
        plus(4, is_bad_source=True),
    )
    assert data.format == "wmt24pp"
    assert data.segments == (Segment("en-de:doc_1:2", "en-de", "Source 2", ("Ziel 2",), "doc_1", "news"),)
    assert data.left_out == (("bad source", 2), ("canary", 1)) and data.without_reference == 0


def test_alma_lines_and_array_give_the_same_segments(tmp_path: Path) -> None:
    rows = [alma(), alma("Zwei\nZeilen", "Two\nlines")]
    lines = read(tmp_path, *rows, name="test.de-en.json")
    arrays = [
        json.dumps(rows),
        json.dumps(rows, indent=2),
        " [\n\n" + ",\n".join(map(json.dumps, rows)) + "] ",
    ]
    for text in arrays:
        array = read_dataset(write(tmp_path, text.encode()), langs="de-en")
        assert array.segments == lines.segments and array.digest == lines.digest
    assert lines.format == "alma"
    assert lines.segments[1] == Segment("de-en:2", "de-en", "Zwei\nZeilen", ("Two\nlines",), "de-en:2", "")


def test_alma_direction_is_the_callers_before_the_names(tmp_path: Path) -> None:
    data = read(tmp_path, alma(), name="train.de-en.json", langs="eng-deu")
    assert data.segments[0].langs == "en-de" and data.segments[0].source == "Hello"
    assert read(tmp_path, alma(), name="valid.en-de.jsonl.gz").pairs == ("en-de",)


@pytest.mark.parametrize("name", ["train.json", "de-en.txt", "test.xx-yy.json", "made-en.json"])
def test_alma_without_direction_asks_for_langs(tmp_path: Path, name: str) -> None:
    error = refused(write(tmp_path, as_lines(alma()), name))
    assert "de-en or en-de" in error.way_out and "source" in error.rule


def test_alma_ignores_keys_that_are_no_languages(tmp_path: Path) -> None:
    row = {"translation": {"gpt4_de": "x", "language_pair": "en-de", "deu_Latn": "Hallo", "en": "Hello"}}
    assert read(tmp_path, row, langs="en-de").segments[0].references == ("Hallo",)


def test_plain_rows_with_all_their_fields(tmp_path: Path) -> None:
    data = read(
        tmp_path,
        plain(ref=["Eins", " Zwei "], id="x1", doc_id="d1", domain="news", difficulty="-0.5"),
        plain(2, id=7, score=3, langs="eng-ara_EG"),
        plain(3),
    )
    assert data.format == "plain_json"
    assert data.segments == (
        Segment("x1", "en-de", "Source 1", ("Eins", "Zwei"), "d1", "news", -0.5),
        Segment("7", "en-ar_EG", "Source 2", ("Ziel 2",), "7", "", 3.0),
        Segment("en-de:3", "en-de", "Source 3", ("Ziel 3",), "en-de:3", ""),
    )
    assert data.segments[1].source_language == "en" and data.segments[1].target_language == "ar_EG"


def test_plain_rows_without_langs_take_the_callers(tmp_path: Path) -> None:
    path = write(tmp_path, as_lines({"src": "a", "ref": "b"}))
    assert read_dataset(path, langs="cs-uk").pairs == ("cs-uk",)
    assert "Pass langs" in refused(path).way_out


def test_parallel_text_takes_the_pair_from_the_suffixes(tmp_path: Path) -> None:
    source = write(tmp_path, "One\u2028line\r\n two \n".encode(), "x.en")
    target = write(tmp_path, gzip.compress(b"Eins\nZwei"), "x.de.gz")
    data = read_dataset(source, references=target)
    assert data.format == "parallel_text" and data.name == "x.en"
    assert data.segments == (
        Segment("en-de:1", "en-de", "One\u2028line", ("Eins",), "en-de:1", ""),
        Segment("en-de:2", "en-de", "two", ("Zwei",), "en-de:2", ""),
    )


def test_parallel_text_takes_the_pair_from_the_caller(tmp_path: Path) -> None:
    source, target = write(tmp_path, b"[Music]\n", "x.src"), write(tmp_path, b"{Musik}\n", "x.ref")
    assert read_dataset(source, references=str(target), langs="en-pt-BR").pairs == ("en-pt_BR",)
    assert "Pass langs" in refused(source, references=target).way_out


def test_parallel_text_suffixes_against_langs_are_refused(tmp_path: Path) -> None:
    source, target = write(tmp_path, b"One\n", "x.en"), write(tmp_path, b"Um\n", "x.pt")
    assert read_dataset(source, references=target, langs="en-pt_BR").pairs == ("en-pt_BR",)
    assert "Swap" in refused(target, references=source, langs="en-pt").way_out


def test_parallel_text_of_unequal_length_names_both_counts(tmp_path: Path) -> None:
    error = refused(write(tmp_path, b"a\nb\nc\n", "x.en"), references=write(tmp_path, b"a\nb\n", "x.de"))
    assert "3 in x.en" in str(error) and "2 in " in str(error)


def test_parallel_text_lines_are_checked_and_skipped_in_pairs(tmp_path: Path) -> None:
    source = write(tmp_path, b"one\n \nthree\nfour\n", "x.en")
    target = write(tmp_path, b"eins\nzwei\n\nv\xfcr\n", "x.de")
    assert refused(source, references=target).line == 2
    data = read_dataset(source, references=target, skip_bad_rows=True)
    assert [segment.id for segment in data.segments] == ["en-de:1"]
    assert [row.line for row in data.bad_rows] == [2, 3, 4]
    assert data.bad_rows[0].reason == "empty source"
    assert data.bad_rows[1].reason == "x.de: empty reference"
    assert "UTF-8" in data.bad_rows[2].reason


def test_parallel_text_names_the_file_at_fault(tmp_path: Path) -> None:
    source, target = write(tmp_path, b"one\n", "x.en"), write(tmp_path, b"v\xfcr\n", "x.de")
    assert refused(source, references=target).path == target
    assert refused(source, references=tmp_path / "none.de").path == tmp_path / "none.de"
    assert refused(source, references=write(tmp_path, b"", "y.de")).path == tmp_path / "y.de"


def test_text_without_references_says_how_to_pass_them(tmp_path: Path) -> None:
    error = refused(write(tmp_path, b"Just a text.\nAnother.\n", "x.en"))
    assert "--references" in error.way_out and error.value == "Just a text."
    assert "this is text without references" in error.rule and "x.de beside x.en" in error.way_out


def test_references_beside_a_json_file_are_refused(tmp_path: Path) -> None:
    data, text = write(tmp_path, as_lines(plain()), "a.jsonl"), write(tmp_path, b"x\n", "b.de")
    assert refused(data, references=text).path == data
    assert refused(text, references=data).path == data


# What holds for all formats


@pytest.mark.parametrize(
    ("row", "key"),
    [
        (esa("refA", "R"), "wmt24_esa"),
        (unified(), "wmt_unified"),
        (plus(), "wmt24pp"),
        (alma(), "alma"),
        (plain(), "plain_json"),
    ],
)
def test_content_decides_the_format_not_the_name(tmp_path: Path, row: JsonRow, key: str) -> None:
    langs = "de-en" if key == "alma" else None
    contents = [as_lines(row), b"\xef\xbb\xbf" + as_lines(row), json.dumps([row]).encode()]
    digests = set()
    for content in contents:
        for packed in (
            content,
            gzip.compress(content),
            gzip.compress(content[:9]) + gzip.compress(content[9:]),
        ):
            data = read_dataset(write(tmp_path, packed, "misleading.test.cs-uk.csv"), langs=langs)
            assert data.format == key and key in FORMATS
            digests.add(data.digest)
    assert len(digests) == 1


def test_digest_is_of_content_and_order(tmp_path: Path) -> None:
    first, second = plain(1, id="a"), plain(2, id="b")
    data = read(tmp_path, first, second)
    assert data.digest == segments_digest(data.segments) and len(data.digest) == 64
    assert data.digest == read(tmp_path, first | {"unused": 1}, "", second).digest
    assert data.digest != read(tmp_path, second, first).digest
    assert data.digest != read(tmp_path, first, second | {"score": 1}).digest


def test_digest_stays_as_it_is() -> None:
    segment = Segment("en-de:1", "en-de", "Größe", ("a", "b"), "d", "news", 80.0)
    canonical = (
        '[{"doc_id":"d","domain":"news","human_score":80.0,"id":"en-de:1",'
        '"langs":"en-de","references":["a","b"],"source":"Größe"}]'
    )
    assert segments_digest([segment]) == hashlib.sha256(canonical.encode()).hexdigest()


def test_text_is_kept_but_for_white_space_around_it(tmp_path: Path) -> None:
    decomposed = "Gro\u0308ße\n\n zwei  Worte"
    data = read(tmp_path, plain(src=f"\t{decomposed} \n", ref=f"\u3000{decomposed}"))
    assert data.segments[0].source == decomposed and data.segments[0].references == (decomposed,)


def test_ids_stay_when_rows_are_skipped(tmp_path: Path) -> None:
    data = read(tmp_path, plain(1), plain(2, src=""), plain(3), skip_bad_rows=True)
    assert [segment.id for segment in data.segments] == ["en-de:1", "en-de:3"]


def test_read_dataset_takes_a_string(tmp_path: Path) -> None:
    assert len(read_dataset(str(write(tmp_path, as_lines(plain())))).segments) == 1


# Bad rows

SURROGATE = r'{"src": "a \ud800", "ref": "b", "langs": "en-de"}'

BAD_ROWS = {
    "no JSON": (plain(1), '{"src": "x"', "must be one JSON object"),
    "a string": (plain(1), '"text"', "not a string"),
    "an array": (plain(1), "[1, 2]", "not an array"),
    "null": (plain(1), "null", "not null"),
    "too deep": (plain(1), "[" * 100_000, "no JSON"),
    "a number too long": (plain(1), '{"src": ' + "9" * 5000 + "}", "no JSON"),
    "another format": (plain(1), alma(), "`langs` is missing"),
    "field missing": (plain(1), {"src": "a", "langs": "en-de"}, "`ref` is missing"),
    "wrong type": (plain(1), plain(2, src=3), "`src` must be a string, not a number"),
    "wrong type null": (plain(1), plain(2, src=None), "`src` must be a string, not null"),
    "wrong type in list": (plain(1), plain(2, ref=["a", {}]), "`ref` must be a string, not an object"),
    "wrong type langs": (plain(1), plain(2, langs=5), "`langs` must be a string"),
    "wrong type doc": (plain(1), plain(2, doc_id=5), "`doc_id` must be a string"),
    "wrong type id": (plain(1), plain(2, id=True), "`id` must be a string, not a boolean"),
    "unknown source": (plain(1), plain(2, langs="qq-de"), "unknown pair 'qq-de'"),
    "unknown target": (plain(1), plain(2, langs="en-de_12"), "unknown pair"),
    "no pair": (plain(1), plain(2, langs="en"), "a pair is two language codes"),
    "three languages": (plain(1), plain(2, langs="en-de-fr"), "a pair is two language codes"),
    "same language": (plain(1), plain(2, langs="de-deu_Latn"), "are the same"),
    "empty source": (plain(1), plain(2, src=" \n"), "empty source (`src`)"),
    "empty reference": (plain(1), plain(2, ref=""), "empty reference (`ref`)"),
    "one empty reference": (plain(1), plain(2, ref=["a", " "]), "empty reference (`ref`)"),
    "no reference": (plain(1), plain(2, ref=[]), "empty reference (`ref`)"),
    "duplicate id": (plain(1, id="a"), plain(2, id="a"), "duplicate id: line 1"),
    "duplicate made id": (plain(1, id="en-de:2"), plain(2), "duplicate id: line 1"),
    "empty id": (plain(1), plain(2, id=""), "empty id"),
    "score NaN": (plain(1), plain(2, score=float("nan")), "finite"),
    "score infinite": (plain(1), plain(2, difficulty=float("inf")), "finite"),
    "score too large": (plain(1), plain(2, score=10**400), "finite"),
    "score no number": (plain(1), plain(2, score="good"), "`score` must be a number"),
    "score NaN string": (plain(1), plain(2, score="nan"), "`score` must be a number"),
    "score boolean": (plain(1), plain(2, score=True), "not a boolean"),
    "score list": (plain(1), plain(2, score=[1]), "not an array"),
    "two scores": (plain(1), plain(2, score=1, difficulty=2), "not both"),
    "half a surrogate pair": (plain(1), SURROGATE, "surrogate"),
    "esa empty reference": (esa("refA", "R"), esa("refA", " ", 2), "empty reference (`tgt`)"),
    "esa empty source": (esa("refA", "R"), esa("SysA", "A", 2, src=""), "empty source"),
    "esa missing tgt": (esa("refA", "R"), {k: v for k, v in esa("A", "").items() if k != "tgt"}, "`tgt` is"),
    "esa missing langs": (esa("refA", "R"), {"line_id": 1, "system": "A"}, "`langs` is missing"),
    "esa tgt type": (esa("refA", "R"), esa("SysA", None), "`tgt` must be a string"),
    "esa line_id type": (esa("refA", "R"), esa("SysA", "A", line_id="1"), "`line_id` must be an integer"),
    "esa line_id true": (esa("refA", "R"), esa("SysA", "A", line_id=True), "not a boolean"),
    "esa score": (esa("refA", "R"), esa("SysA", "A", esa_score="high"), "`esa_score` must be a number"),
    "esa score empty": (esa("refA", "R"), esa("SysA", "A", esa_score=""), "`esa_score` must be a number"),
    "esa score range": (esa("refA", "R"), esa("SysA", "A", esa_score="101"), "from 0 to 100"),
    "esa score of refA": (esa("refA", "R"), esa("refA", "R", esa_score="NaN"), "must be a number"),
    "esa pair": (esa("refA", "R"), esa("SysA", "A", langs="en-xx"), "unknown pair"),
    "unified duplicate": (unified(), unified(), "duplicate id: line 1"),
    "unified outputs": (unified(), unified("en-es_#_a_#_b_#_2", tgt_text=["a"]), "must be an object"),
    "unified reference": (unified(), unified("en-es_#_a_#_b_#_2", tgt_text={"refA": ""}), "empty reference"),
    "unified scores": (unified(), unified("en-es_#_a_#_b_#_2", scores=[1]), "`scores` must be an object"),
    "unified entries": (unified(), unified("en-es_#_a_#_b_#_2", scores={"A": 1}), "must be an array"),
    "unified entry": (unified(), unified("en-es_#_a_#_b_#_2", scores={"A": [1]}), "must be an object"),
    "unified pair": (unified(), unified("en-qq_#_a_#_b_#_2"), "unknown pair"),
    "unified score": (
        unified(),
        unified("en-es_#_a_#_b_#_2", scores={"A": [{"score": float("nan")}]}),
        "`scores.A.score` must be a finite number",
    ),
    "wmt24pp duplicate": (plus(2), plus(2), "duplicate id: line 1"),
    "wmt24pp flag": (plus(2), plus(3, is_bad_source="no"), "must be true or false"),
    "wmt24pp no flag": (plus(2), {"lp": "en-de", "segment_id": 3}, "`is_bad_source` is missing"),
    "wmt24pp empty": (plus(2), plus(3, target="  "), "empty reference (`target`)"),
    "wmt24pp number": (plus(2), plus(3.5), "`segment_id` must be an integer"),
    "alma type": (alma(), {"translation": "Hallo"}, "`translation` must be an object"),
    "alma language": (alma(), {"translation": {"de": "Hallo", "english": "Hello"}}, "`translation` has no en"),
    "alma text type": (alma(), alma(en=5), "`translation.en` must be a string"),
    "alma empty": (alma(), alma(en=""), "empty reference (`translation.en`)"),
    "alma empty source": (alma(), alma(de=" "), "empty source (`translation.de`)"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_is_one_clear_error_and_can_be_skipped(tmp_path: Path, case: str) -> None:
    good, bad, expected = BAD_ROWS[case]
    langs = "de-en" if "alma" in case else None
    path = write(tmp_path, as_lines(good, "", bad))
    error = refused(path, langs=langs)
    assert error.path == path and error.line == 3
    assert expected in error.rule and error.value is not None
    assert "--skip-bad-rows" in error.way_out and len(str(error)) < 1200

    data = read_dataset(path, langs=langs, skip_bad_rows=True)
    assert len(data.segments) == 1 and len(data.bad_rows) == 1
    assert data.bad_rows[0].line == 3 and expected in data.bad_rows[0].reason
    assert data.bad_rows[0].value and len(data.bad_rows[0].value) < 200


@pytest.mark.parametrize("depth", [200, 900, 940, 980, 3000])
def test_a_deeply_nested_value_is_a_bad_row(tmp_path: Path, depth: int) -> None:
    row = '{"src": ' + "[" * depth + "]" * depth + ', "ref": "b", "langs": "en-de"}'
    assert refused(write(tmp_path, as_lines(plain(1), row))).line == 2


def test_a_bad_element_of_an_array_is_told_by_its_line_and_can_be_skipped(tmp_path: Path) -> None:
    path = write(tmp_path, json.dumps([plain(1), plain(2, src=""), 5, plain(4)], indent=1).encode())
    assert refused(path).line == 7
    data = read_dataset(path, skip_bad_rows=True)
    assert [segment.id for segment in data.segments] == ["en-de:1", "en-de:4"]
    assert [row.line for row in data.bad_rows] == [7, 12]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[{"src": "a",\n', 1),
        ('[\n{"src": "a", "ref": "b", "langs": "en-de"},\n{"src": "a"', 3),
        ('[{"src": "a", "ref": "b", "langs": "en-de"}', 1),
        ('[{"src": "a", "ref": "b", "langs": "en-de"}\n{}]', 1),
        ('[{"src": "a", "ref": "b", "langs": "en-de"},\n]', 2),
        ('[{"src": "a", "ref": "b", "langs": "en-de"}\n]\n[1]', 2),
        ("[", 1),
    ],
)
def test_a_broken_array_can_not_be_skipped_through(tmp_path: Path, text: str, line: int) -> None:
    path = write(tmp_path, text.encode())
    for skip in (False, True):
        error = refused(path, skip_bad_rows=skip)
        assert error.line == line and "JSON array is cut off or damaged" in error.rule


@pytest.mark.parametrize(
    ("row", "key"),
    [
        ('{"src": "One", "src": "Two", "ref": "Eins", "langs": "en-de"}', "src"),
        ('{"translation": {"en": "One", "de": "Eins", "en": "Two"}}', "en"),
    ],
)
@pytest.mark.parametrize("form", ["{}\n", "[{}]"])
def test_a_row_with_a_key_twice_is_a_bad_row(tmp_path: Path, row: str, key: str, form: str) -> None:
    path = tmp_path / "test.en-de.json"
    path.write_text(form.replace("{}", row))
    with pytest.raises(DataError, match=f"line 1: the key `{key}` stands twice in the row"):
        read_dataset(path)


def test_a_cut_off_last_line_says_so(tmp_path: Path) -> None:
    path = write(tmp_path, as_lines(plain(1), plain(2))[:-12])
    error = refused(path)
    assert error.line == 2 and "may be cut off" in error.rule
    assert read_dataset(path, skip_bad_rows=True).bad_rows[0].line == 2


def test_bad_utf8_is_told_by_line_and_byte(tmp_path: Path) -> None:
    path = write(tmp_path, as_lines(plain(1)) + b'{"src": "Gr\xf6\xdfe"}\n')
    error = refused(path)
    assert error.line == 2 and "UTF-8 (byte 0xf6 at position 12" in error.rule
    assert len(read_dataset(path, skip_bad_rows=True).bad_rows) == 1


def test_bad_utf8_in_an_array_and_in_the_first_line(tmp_path: Path) -> None:
    error = refused(write(tmp_path, b'[{"src":\n"Gr\xf6\xdfe"}]'), skip_bad_rows=True)
    assert error.line == 2 and "UTF-8" in error.rule
    assert "UTF-8" in refused(write(tmp_path, json.dumps(plain()).encode("utf-16"))).rule


def test_bad_rows_come_in_the_order_of_their_lines(tmp_path: Path) -> None:
    rows = ["{", plain(2, src=""), plain(3), alma(), plain(5, langs="x")]
    data = read(tmp_path, *rows, skip_bad_rows=True)
    assert [row.line for row in data.bad_rows] == [1, 2, 4, 5] and len(data.segments) == 1


def test_the_first_row_that_fits_decides_the_format_when_skipping(tmp_path: Path) -> None:
    path = write(tmp_path, as_lines("{broken", {"a": 1}, alma(), plain()))
    assert refused(path).line == 1
    data = read_dataset(path, langs="de-en", skip_bad_rows=True)
    assert data.format == "alma" and [row.line for row in data.bad_rows] == [1, 2, 4]


# Files that can't be used at all


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "the file is empty"),
        (b" \n\n", "the file is empty"),
        (b"\xef\xbb\xbf", "the file is empty"),
        (gzip.compress(b"", mtime=0), "empty after unpacking"),
        (gzip.compress(as_lines(*map(plain, range(500))), mtime=0)[:-30], "gzip file is cut off or damaged"),
        (gzip.compress(as_lines(plain()), mtime=0)[:-4], "gzip file is cut off or damaged"),
        (b"\x1f\x8b" + b"no gzip at all", "gzip file is cut off or damaged"),
        (gzip.compress(as_lines(plain()), mtime=0)[:12] + b"\xff" * 60, "gzip file is cut off or damaged"),
        (b"[]", "no usable segment is left: the file has no row"),
        (as_lines({"a": 1, "b": 2}), "fit no accepted format"),
        (as_lines(esa("SysA", "A", 1), esa("SysA", "B", 2)), "left out: 2 (no reference)"),
        (as_lines(plus(1, is_bad_source=True)), "left out: 1 (bad source)"),
    ],
)
def test_an_unusable_file_is_an_error_even_when_skipping(
    tmp_path: Path, content: bytes, expected: str, skip: bool
) -> None:
    path = write(tmp_path, content)
    error = refused(path, skip_bad_rows=skip)
    assert error.path == path and expected in error.rule


def test_nothing_but_bad_rows_is_an_error_that_counts_them(tmp_path: Path) -> None:
    error = refused(write(tmp_path, as_lines(plain(1, src=""), plain(2, ref=""))), skip_bad_rows=True)
    assert "bad rows: 2 (the first in line 1: empty source" in error.rule
    assert "bad rows: 1 (" in refused(write(tmp_path, b"{broken\n"), skip_bad_rows=True).rule


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    missing = refused(tmp_path / "none.jsonl")
    assert missing.line is None and "no such file" in missing.rule
    assert "folder" in refused(tmp_path).rule
    assert "can't be read" in refused(write(tmp_path, b"x", "a") / "b").rule


def test_a_row_that_fits_no_format_names_its_keys_and_what_is_read(tmp_path: Path) -> None:
    error = refused(write(tmp_path, as_lines({"langs": "en-de", "src": "a", "tgt": "b", "system": "X"})))
    assert "keys: langs, src, tgt, system" in str(error)
    assert "nearest is WMT24 ESA annotations, which also has line_id" in error.rule
    assert "JSON lines of {src, ref, langs}" in error.way_out and "the README lists all formats" in error.way_out


@pytest.mark.parametrize("langs", ["en", "en-qq", "", "en-en", "german-english"])
def test_an_unknown_pair_from_the_caller(tmp_path: Path, langs: str) -> None:
    error = refused(write(tmp_path, as_lines(plain())), langs=langs)
    assert error.value == langs and error.line is None and "en-de" in error.way_out


def test_a_data_error_is_a_value_error_that_can_be_pickled() -> None:
    error = DataError("a.jsonl", 3, "x" * 500, "too long", "Shorten it.")
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(error, ValueError) and isinstance(copy, DataError)
    assert str(copy) == str(error) and copy.line == 3
    assert str(error).startswith("a.jsonl, line 3: too long (found: xxx") and len(str(error)) < 200


# Languages


def test_names_cover_wmt24pp_and_say_each_variant() -> None:
    names = {target: language_name(target) for target in WMT24PP_TARGETS}
    assert len(set(names.values())) == len({normalise_pair(f"en-{target}") for target in WMT24PP_TARGETS}) == 55
    assert all(name.startswith(LANGUAGE_NAMES[target.split("_")[0]]) for target, name in names.items())
    assert {target: name for target, name in names.items() if "(" in name} == {
        "ar_EG": "Arabic (Egypt)", "ar_SA": "Arabic (Saudi Arabia)", "fr_CA": "French (Canada)",
        "pt_BR": "Portuguese (Brazil)", "pt_PT": "Portuguese (Portugal)", "sw_KE": "Swahili (Kenya)",
        "sw_TZ": "Swahili (Tanzania)", "zh_TW": "Chinese (Traditional, Taiwan)",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("de", "German"), ("ces", "Czech"), ("zho_Hans", "Chinese"), ("zh_CN", "Chinese"), ("jpn", "Japanese"),
        ("zho_Hant", "Chinese (Traditional, Taiwan)"), ("zh_HK", "Chinese (Traditional, Hong Kong)"),
        ("zh-Hant-HK", "Chinese (Traditional, Hong Kong)"), ("zh_SG", "Chinese (Singapore)"),
        ("yue_Hant", "Cantonese"), ("yue_Hans", "Cantonese (Simplified)"), ("sr_Cyrl", "Serbian"),
        ("srp_Latn", "Serbian (Latin script)"), ("sr_Latn_BA", "Serbian (Latin script, Bosnia and Herzegovina)"),
        ("de_AT", "German (Austria)"), ("en_GB", "English (United Kingdom)"), ("es_ES", "Spanish (Spain)"),
        ("es_419", "Spanish (Latin America)"), ("hy_AM", "Armenian"), ("kas_Deva", "Kashmiri (Devanagari script)"),
        ("taq_Tfng", "Tamasheq (Tifinagh script)"), ("arb_Latn", "Arabic (Latin script)"), ("de_XX", "German (XX)"),
    ],
)  # fmt: skip
def test_a_name_says_script_and_region_where_they_are_not_the_languages_own(code: str, name: str) -> None:
    assert language_name(code) == name


# https://github.com/facebookresearch/flores/blob/main/flores200/README.md
FLORES_200 = (ROOT / "tests" / "data" / "flores-200-codes.txt").read_text().split()


def test_every_code_of_flores_200_has_a_name_and_a_form() -> None:
    names = {code: language_name(code) for code in FLORES_200}
    assert len(FLORES_200) == len(names) == 204
    # Twi is a variety of Akan, and goes by its code.
    assert len(set(names.values())) == 203
    assert all(normalise_language(normal) == normal for normal in map(normalise_language, FLORES_200))
    variants = {code for code, name in names.items() if "(" in name}
    assert variants == {
        "ace_Arab", "arb_Latn", "ars_Arab", "arz_Arab", "bjn_Arab", "kas_Deva", "knc_Arab", "min_Arab", "taq_Tfng",
        "zho_Hant",
    }  # fmt: skip


def test_a_studys_own_names_are_known_until_others_are_given() -> None:
    try:
        name_languages({"qaa": "Klingon", "zho_Hant": "Taiwanese Mandarin", "nah_Latn": "Nahuatl"})
        assert normalise_pair("en-qaa_Latn") == "en-qaa" and language_name("qaa") == "Klingon"
        assert language_name("qaa_Cyrl") == "Klingon (Cyrillic script)"
        assert language_name("zh_TW") == "Taiwanese Mandarin" and language_name("zh_HK").startswith("Chinese (Trad")
        assert special_names(["de", "zh", "zh_TW", "nah"]) == {"nah": "Nahuatl", "zh_TW": "Taiwanese Mandarin"}
        given = given_names()
        name_languages({})
        name_languages(given)
        assert language_name("qaa") == "Klingon" and language_name("zh_TW") == "Taiwanese Mandarin"
        with pytest.raises(UnknownLanguage, match="begins with two to eight letters"):
            name_languages({"1x": "Nothing"})
        assert language_name("qaa") == "Klingon"
    finally:
        name_languages({})
    with pytest.raises(UnknownLanguage, match="unknown language code"):
        normalise_language("qaa")
    assert language_name("zh_TW") == "Chinese (Traditional, Taiwan)"


def test_tables_agree_with_each_other() -> None:
    assert {code.split("_")[0] for code in ISO_639_3.values()} <= set(LANGUAGE_NAMES)
    assert set(MAIN_REGION) <= set(LANGUAGE_NAMES) and set(MAIN_SCRIPT) <= set(LANGUAGE_NAMES)
    assert not set(ISO_639_3) & set(LANGUAGE_NAMES)
    assert all(normalise_language(code) == code for code in LANGUAGE_NAMES)


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("en-de", "en-de"),
        ("en-de_DE", "en-de"),
        ("EN-DE", "en-de"),
        ("ces-deu", "cs-de"),
        ("eng-zho_Hans", "en-zh"),
        ("eng_Latn-zho_Hant", "en-zh_TW"),
        ("en-zh_CN", "en-zh"),
        ("en-zh_TW", "en-zh_TW"),
        ("eng-ara_EG", "en-ar_EG"),
        ("eng_Latn-arz_Arab", "en-ar_EG"),
        ("en-arb_Arab", "en-ar"),
        ("en-pt-BR", "en-pt_BR"),
        ("pt-BR-en-US", "pt_BR-en"),
        ("en-pt_br", "en-pt_BR"),
        ("en-fr_CA", "en-fr_CA"),
        ("en-fr_FR", "en-fr"),
        ("en-es_MX", "en-es"),
        ("en-sr_Cyrl_RS", "en-sr"),
        ("en-sr_Latn_RS", "en-sr_Latn"),
        ("en-fil_PH", "en-fil"),
        ("pt_PT-pt_BR", "pt_PT-pt_BR"),
    ],
)
def test_pairs_have_one_form(given: str, normal: str) -> None:
    assert normalise_pair(given) == normal and normalise_pair(normal) == normal


@pytest.mark.parametrize("code", ["", "xx", "german", "en_", "de_DEU_X", "e", "en_12"])
def test_unknown_codes_are_value_errors(code: str) -> None:
    with pytest.raises(UnknownLanguage, match="unknown language code"):
        language_name(code)


def test_reading_imports_nothing_heavy() -> None:
    code = "import sys, workers.reading; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    root = ROOT
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
