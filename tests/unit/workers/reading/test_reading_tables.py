"""Test that tables of pairs and text beside its translation give the segments that JSON lines of them give."""

import csv
import gzip
import io
import json
import sys
import zipfile
from collections import Counter
from pathlib import Path

import pyarrow
import pytest
from pyarrow import ipc, parquet

from workers.reading.dataset import read_dataset
from workers.reading.errors import DataError
from workers.reading.segments import DataSet
from workers.reading.training_data import examples, training_data

PAIRS = [("A dog runs.", "Ein Hund rennt."), ('He said "no".', 'Er sagte "nein", laut.'), ("Two\tmen", "Zwei; Männer")]
PLAIN = [("One.", "Eins."), ("Two.", "Zwei.")]


def as_json(path: Path, pairs: list[tuple[str, str]], langs: str = "en-de") -> DataSet:
    rows = [json.dumps({"src": source, "ref": reference, "langs": langs}) for source, reference in pairs]
    path.write_text("\n".join(rows), encoding="utf-8")
    return read_dataset(path)


def as_csv(header: list[str] | None, rows: list[list[str]], **how: object) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n", **how)  # type: ignore[arg-type]
    writer.writerows([*([header] if header else []), *rows])
    return stream.getvalue()


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def texts(data: DataSet) -> list[tuple[str, str, str]]:
    return [(segment.langs, segment.source, segment.references[0]) for segment in data.segments]


def refused(path: Path, **how: object) -> str:
    with pytest.raises(DataError) as caught:
        read_dataset(path, **how)  # type: ignore[arg-type]
    said = str(caught.value)
    assert len(said.replace(str(path.parent), "")) < 300, said
    return said


def trained(path: Path) -> list[tuple[str, str, str]]:
    data = training_data([(str(path), 1.0)], ["en-de"])
    return [(one.langs, one.source, one.reference) for one in examples(data, Counter())]


HEADERS = {
    "plain": ["src", "ref", "langs"], "long": ["source", "target", "lp"],
    "spelt": ["Source", "Reference", "Language Pair"], "texts": ["source_text", "target_text", "language_pair"],
    "tgt": ["src", "tgt", "langs"],
}  # fmt: skip


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["pairs.csv", "pairs.tsv", "pairs"])
def test_a_text_table_with_a_header_is_read_as_its_json_lines(
    tmp_path: Path, header: str, delimiter: str, name: str
) -> None:
    rows = [[source, reference, "en-de"] for source, reference in PAIRS]
    path = write(tmp_path / name, as_csv(HEADERS[header], rows, delimiter=delimiter))
    expected = as_json(tmp_path / "rows.jsonl", PAIRS)
    assert read_dataset(path).digest == expected.digest
    assert trained(path) == texts(expected)


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize("header", [["en", "de"], ["eng_Latn", "de_DE"], ["English", "German"]])
def test_columns_named_by_languages_are_a_pair_in_their_order(tmp_path: Path, header: list[str], quoting: int) -> None:
    path = write(tmp_path / "t.csv", as_csv(header, [list(pair) for pair in PAIRS], quoting=quoting))
    expected = [("en-de", *pair) for pair in PAIRS]
    assert texts(read_dataset(path)) == expected == trained(path)
    turned = texts(read_dataset(path, langs="de-en"))
    assert turned == [("de-en", reference, source) for source, reference in PAIRS]


def test_of_more_languages_one_pair_is_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "en,de,fr\nOne.,Eins.,Un.\nTwo.,Zwei.,Deux.\n")
    assert texts(read_dataset(path, langs="fr-de")) == [("fr-de", "Un.", "Eins."), ("fr-de", "Deux.", "Zwei.")]
    assert "Pass langs" in refused(path)


def test_languages_may_stand_in_columns_of_their_own(tmp_path: Path) -> None:
    path = write(tmp_path / "t.tsv", "id\tsrc_lang\ttgt_lang\tsource\ttarget\n7\teng_Latn\tpor_BR\tOne.\tUm.\n")
    (segment,) = read_dataset(path).segments
    assert (segment.id, segment.langs, segment.source, segment.references) == ("7", "en-pt_BR", "One.", ("Um.",))


def test_further_columns_are_read_or_left_alone(tmp_path: Path) -> None:
    text = (
        ",source,target,langs,domain,doc_id,score,note\n0,One.,Eins.,en-de,news,d1,70.5,x\n1,Two.,Zwei.,en-de,,d2,,\n"
    )
    one, two = read_dataset(write(tmp_path / "t.csv", text)).segments
    assert (one.domain, one.doc_id, one.human_score) == ("news", "d1", 70.5)
    assert (two.domain, two.doc_id, two.human_score) == ("", "d2", None)


@pytest.mark.parametrize("name", ["t.en-de.tsv", "t.en-de.csv", "t.en-de.tsv.gz"])
def test_two_columns_without_names_are_a_pair(tmp_path: Path, name: str) -> None:
    text = as_csv(None, [list(pair) for pair in PLAIN], delimiter="," if "csv" in name else "\t")
    path = write(tmp_path / name, gzip.compress(text.encode()) if name.endswith("gz") else text)
    expected = [("en-de", *pair) for pair in PLAIN]
    assert texts(read_dataset(path)) == expected == trained(path)
    assert texts(read_dataset(path, langs="en-fr"))[0] == ("en-fr", *PLAIN[0])


def test_a_tsv_of_any_name_is_told_by_its_tabs(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.txt", "One.\tEins.\r\nTwo.\tZwei.\r\n")
    assert texts(read_dataset(path, langs="en-de")) == [("en-de", *pair) for pair in PLAIN]
    assert "Pass langs for the whole file" in refused(path)


def test_quotes_of_a_tsv_belong_to_the_text_unless_they_go_around_cells(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw.tsv", 'src\tref\tlangs\n"Stop!"\t„Halt!“\ten-de\n"A" and B\t5" breit\ten-de\n')
    assert texts(read_dataset(raw)) == [("en-de", '"Stop!"', "„Halt!“"), ("en-de", '"A" and B', '5" breit')]
    quoted = write(tmp_path / "quoted.tsv", 'src\tref\tlangs\n"A ""B"""\t"C\nD"\ten-de\nE\tF\ten-de\n')
    assert texts(read_dataset(quoted)) == [("en-de", 'A "B"', "C\nD"), ("en-de", "E", "F")]


def test_excels_first_line_and_a_byte_order_mark_are_no_data(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "\ufeffsep=;\nsrc;ref;langs\nOne.;Eins, zwei.;en-de\n")
    assert texts(read_dataset(path)) == [("en-de", "One.", "Eins, zwei.")]


@pytest.mark.parametrize("cell", ['{"en": "One.", "de": "Eins."}', "{'en': 'One.', 'de': 'Eins.'}"])
def test_a_column_of_mappings_is_read(tmp_path: Path, cell: str) -> None:
    path = write(tmp_path / "t.csv", as_csv(["translation"], [[cell]]))
    assert texts(read_dataset(path, langs="de-en")) == [("de-en", "Eins.", "One.")]


def test_wmt24pp_as_a_table_leaves_out_bad_sources(tmp_path: Path) -> None:
    header = "lp,domain,document_id,segment_id,is_bad_source,source,target\n"
    path = write(tmp_path / "t.csv", header + "en-de_DE,news,d,1,False,One.,Eins.\nen-de_DE,news,d,2,True,Two.,Zwei.\n")
    data = read_dataset(path)
    assert data.format == "wmt24pp" and texts(data) == [("en-de", "One.", "Eins.")]
    assert data.left_out == (("bad source", 1),)


def test_a_bad_row_of_a_table_is_told_by_its_line(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", 'src,ref,langs\n"One\nmore",Eins.,en-de\nTwo.,,en-de\nx,y\nThree.,Drei.,en-de\n')
    assert "line 4: empty reference (`ref`)" in refused(path)
    data = read_dataset(path, skip_bad_rows=True)
    assert [row.line for row in data.bad_rows] == [4, 5] and data.segments[1].source == "Three."
    assert data.bad_rows[1].reason == "a row must have 3 cells, as the table's first has, not 2"
    latin = write(tmp_path / "latin.csv", "src,ref,langs\nOne.,Größe,en-de\n".encode("latin-1"))
    assert "line 2: the text must be UTF-8" in refused(latin)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("t.csv", "a,b,c\nOne.,Eins.,x\n", "line 1: the table's columns can't be told by their first row (3 cells)"),
        ("t.tsv", "text_a\ttext_b\nOne.\tEins.\n", "the table's columns can't be told"),
        ("t.csv", "One.\nTwo.\n", "the table's columns can't be told by their first row (1 cells)"),
        ("t.csv", 'src,ref,langs\n"One.,Eins.,en-de\n', "its quotes are not closed"),
        ("t.csv", "src,ref\nOne.,Eins.\n", "line 2: the field `langs` is missing"),
        ("t.csv", "src,tgt,system\nOne.,Eins.,NLLB\n", "the table's columns can't be told"),
        ("t.csv", "src,langs\nOne.,en-de\n", "the table's columns can't be told"),
    ],
)
def test_a_table_that_cannot_be_told_gets_one_line(tmp_path: Path, name: str, text: str, said: str) -> None:
    assert said in refused(write(tmp_path / name, text))


def table(**columns: list[object]) -> pyarrow.Table:
    return pyarrow.table(columns)


TABLES = {
    "plain": table(src=["One.", "Two."], ref=["Eins.", "Zwei."], langs=["en-de", "en-de"]),
    "named": table(source=["One.", "Two."], target=["Eins.", "Zwei."], lp=["en-de_DE", "eng-deu"]),
    "languages": table(en=["One.", "Two."], de=["Eins.", "Zwei."]),
    "mapping": table(translation=[{"en": "One.", "de": "Eins."}, {"en": "Two.", "de": "Zwei."}]),
}


def saved(folder: Path, whole: pyarrow.Table) -> Path:
    """As `datasets`' save_to_disk writes: two files in Arrow's stream format, and what names them."""
    folder.mkdir()
    names = [f"data-0000{number}-of-00002.arrow" for number in range(2)]
    for number, name in enumerate(names):
        part = whole.slice(number, 1)
        with ipc.new_stream(folder / name, part.schema) as stream:
            stream.write_table(part)
    state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "0", "_format_type": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")
    return folder


@pytest.mark.parametrize("form", ["parquet", "arrow", "arrow stream", "datasets"])
@pytest.mark.parametrize("columns", TABLES)
def test_a_binary_table_is_read_as_its_json_lines(tmp_path: Path, columns: str, form: str) -> None:
    whole = TABLES[columns]
    path = tmp_path / f"pairs.{form.split()[0]}"
    if form == "parquet":
        parquet.write_table(whole, path)
    elif form == "datasets":
        saved(path, whole)
    else:
        with (ipc.new_file if form == "arrow" else ipc.new_stream)(path, whole.schema) as stream:
            stream.write_table(whole)
    expected = as_json(tmp_path / "rows.jsonl", PLAIN)
    assert texts(read_dataset(path, langs="en-de")) == texts(expected) == trained(path)
    if columns != "mapping":
        assert read_dataset(path).digest == expected.digest


def test_binary_tables_that_cannot_be_read_get_one_line(tmp_path: Path) -> None:
    parquet.write_table(TABLES["plain"], tmp_path / "good.parquet")
    cut = write(tmp_path / "cut.parquet", (tmp_path / "good.parquet").read_bytes()[:-40])
    assert "a parquet file that is cut off or damaged" in refused(cut)
    with pytest.raises(DataError, match="cut off or damaged"):
        trained(cut)
    empty = tmp_path / "null.parquet"
    parquet.write_table(table(src=["One."], ref=[None], langs=["en-de"]), empty)
    assert "line 1: `ref` must be a string, not null" in refused(empty)
    splits = tmp_path / "both"
    splits.mkdir()
    (splits / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    saved(splits / "test", TABLES["plain"])
    saved(splits / "train", TABLES["plain"])
    assert "holds several data sets (test, train). Name one of them, such as both/test" in refused(splits)
    assert texts(read_dataset(splits / "test")) == [("en-de", *pair) for pair in PLAIN]
    (splits / "test" / "data-00001-of-00002.arrow").unlink()
    assert "the folder lacks data-00001-of-00002.arrow" in refused(splits / "test")
    old = write(tmp_path / "old.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 99)
    assert "this is an old office file (.xls, .doc)" in refused(old)


def workbook(path: Path) -> Path:
    """The smallest workbook that is one: a sheet with a header and a row."""
    kinds = "http://schemas.openxmlformats.org/"
    office, sheet_kind = f"{kinds}officeDocument/2006/relationships", f"{kinds}spreadsheetml/2006/main"
    types = "application/vnd.openxmlformats-"
    rows = ""
    for number, line in enumerate((("src", "ref", "langs"), ("One.", "Eins.", "en-de")), start=1):
        cells = zip("ABC", line, strict=True)
        rows += f'<row r="{number}">'
        rows += (
            "".join(f'<c r="{one}{number}" t="inlineStr"><is><t>{text}</t></is></c>' for one, text in cells) + "</row>"
        )
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{kinds}package/2006/content-types">'
        f'<Default Extension="rels" ContentType="{types}package.relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{types}officedocument.spreadsheetml.sheet.main+xml"/>'
        f'<Override PartName="/xl/s.xml" ContentType="{types}officedocument.spreadsheetml.worksheet+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{kinds}package/2006/relationships">'
        f'<Relationship Id="a" Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{sheet_kind}" xmlns:r="{office}">'
        '<sheets><sheet name="Pairs" sheetId="1" r:id="b"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{kinds}package/2006/relationships">'
        f'<Relationship Id="b" Type="{office}/worksheet" Target="s.xml"/></Relationships>',
        "xl/s.xml": f'<worksheet xmlns="{sheet_kind}"><sheetData>{rows}</sheetData></worksheet>',
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    return path


def test_an_excel_workbook_is_read_where_openpyxl_is(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    assert texts(read_dataset(workbook(tmp_path / "t.xlsx"))) == [("en-de", "One.", "Eins.")]


def test_an_excel_workbook_asks_for_openpyxl_where_it_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    said = refused(workbook(tmp_path / "t.xlsx"))
    assert "this is an Excel workbook, and openpyxl is not installed. pip install openpyxl, or save it as CSV" in said


# Text beside its translation


def sides(folder: Path, *names: str) -> None:
    for name in names:
        text = f"{name.split('.')[1]} one\n{name.split('.')[1]} two\n".encode()
        write(folder / name, gzip.compress(text) if name.endswith(".gz") else text)


@pytest.mark.parametrize(
    ("names", "given", "langs", "pair"),
    [
        (["t.en", "t.de"], "t.en", None, "en-de"),
        (["t.en", "t.de"], "t.de", None, "de-en"),
        (["t.en", "t.de.gz"], "t.en", None, "en-de"),
        (["t.en.gz", "t.de.txt"], "t.en.gz", None, "en-de"),
        (["t.en", "t.de", "t.fr"], "t.en", "en-fr", "en-fr"),
        (["t.en", "t.de", "t.fr"], "t.fr", "en-fr", "en-fr"),
        (["t.en", "t.de", "t.notes"], "t.en", None, "en-de"),
        (["t.en", "t.de", "other.fr"], "t.en", None, "en-de"),
    ],
)
def test_the_references_lie_beside_the_sources(
    tmp_path: Path, names: list[str], given: str, langs: str | None, pair: str
) -> None:
    sides(tmp_path, *names)
    source, target = pair.split("-")
    found = texts(read_dataset(tmp_path / given, langs=langs))
    assert found == [(pair, f"{source} {number}", f"{target} {number}") for number in ("one", "two")]


def test_references_that_are_not_there_or_could_be_several_are_asked_for(tmp_path: Path) -> None:
    sides(tmp_path, "t.en", "t.de", "t.fr")
    assert "there are references in de, fr beside it" in refused(tmp_path / "t.en")
    assert "Say which with --langs, such as en-de" in refused(tmp_path / "t.en")
    assert "this is text without references" in refused(tmp_path / "t.en", langs="en-cs")


# Rows that say too little, and WMT's own sets


def test_a_row_that_only_lacks_its_reference_is_told_so(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", '{"src": "One.", "langs": "en-de"}\n')
    assert "the row has a source and no reference: `ref` is missing" in refused(path)


@pytest.mark.parametrize("keys", [("source", "target", "lp"), ("src", "tgt", "language_pair"), ("en", "de", "domain")])
def test_json_lines_of_other_names_are_read(tmp_path: Path, keys: tuple[str, str, str]) -> None:
    rows = [json.dumps(dict(zip(keys, (*pair, "en-de"), strict=True))) for pair in PLAIN]
    assert texts(read_dataset(write(tmp_path / "rows.jsonl", "\n".join(rows)))) == [("en-de", *pair) for pair in PLAIN]


def test_the_files_name_says_the_pair_of_rows_that_do_not(tmp_path: Path) -> None:
    path = write(tmp_path / "test.en-pt_BR.jsonl", '{"src": "One.", "ref": "Um."}\n')
    assert texts(read_dataset(path)) == [("en-pt_BR", "One.", "Um.")] == texts(read_dataset(path, langs="en-pt_BR"))


WMT25 = {
    "dataset_id": "set2025", "collection_id": "general", "doc_id": "en-cs_CZ_#_news_#_site_7", "domain": "news",
    "src_lang": "en", "tgt_lang": "cs_CZ", "src_text": "One.\n\nTwo.", "refs": {"refA": {"ref": "Jedna.\n\nDvě."}},
}  # fmt: skip
WMT26 = {
    "doc_id": "WMT26_###_edu_###_zho_Hans_###_arz_Arab_###_edu7", "domain": "edu", "src_lang": "zho_Hans",
    "tgt_lang": "arz_Arab", "src_text": "一。", "refs": {"refA": "واحد.", "refPE": "الأول."}, "video": None,
}  # fmt: skip


def test_wmts_general_test_sets_are_read(tmp_path: Path) -> None:
    without = {**WMT26, "doc_id": "WMT26_###_edu_###_zho_Hans_###_arz_Arab_###_edu8", "refs": {}}
    path = write(tmp_path / "t.jsonl", "\n".join(json.dumps(row) for row in (WMT25, WMT26, without)))
    data = read_dataset(path)
    assert data.format == "wmt_test" and data.without_reference == 1
    older, newer = data.segments
    assert (older.id, older.langs, older.domain, older.doc_id) == ("en-cs:site_7", "en-cs", "news", "site_7")
    assert (older.source, older.references) == ("One.\n\nTwo.", ("Jedna.\n\nDvě.",))
    assert (newer.id, newer.langs, newer.domain) == ("zh-ar_EG:edu7", "zh-ar_EG", "edu")
    assert newer.references == ("واحد.", "الأول.")
    assert [segment.langs for segment in read_dataset(path, langs="en-cs").segments] == ["en-cs"]


def test_wmts_development_files_take_the_pair_of_their_name(tmp_path: Path) -> None:
    rows = [
        {
            "doc_id": "en-cs_CZ_#_news_#_a",
            "paragraph_id": number,
            "src_text": f"P{number}",
            "refs": {"refA": f"O{number}"},
        }
        for number in (1, 2)
    ]
    path = write(tmp_path / "t.jsonl", "\n".join(map(json.dumps, rows)))
    assert [one.id for one in read_dataset(path).segments] == ["en-cs:a:1", "en-cs:a:2"]
    bare = [{**row, "doc_id": "a"} for row in rows]
    path = write(tmp_path / "wmt.en-cs.jsonl", "\n".join(map(json.dumps, bare)))
    assert [(one.id, one.langs) for one in read_dataset(path).segments] == [
        ("en-cs:a:1", "en-cs"),
        ("en-cs:a:2", "en-cs"),
    ]


def test_unified_rows_of_three_parts_and_of_2026_are_read(tmp_path: Path) -> None:
    row = {"src_text": "One.", "tgt_text": {"refA": "Jedna.", "S": "x"}}
    ids = ["en-cs_CZ_#_news_#_d", "WMT26_###_news_###_eng_Latn_###_ces_Latn_###_e_###_3"]
    path = write(tmp_path / "t.jsonl", "\n".join(json.dumps({"doc_id": one, **row}) for one in ids))
    assert [(one.id, one.doc_id, one.domain) for one in read_dataset(path).segments] == [
        ("en-cs:d", "d", "news"), ("en-cs:e:3", "e", "news"),
    ]  # fmt: skip
