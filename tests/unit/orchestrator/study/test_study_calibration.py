"""What a study calibrates on: never what it is measured on, the same when it goes on, asked for where it is missing."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from orchestrator import cli
from orchestrator.ledger.records import create_ledger
from orchestrator.search.driver import resume_search
from orchestrator.search.prepared import header, prepare
from orchestrator.study import calibration
from orchestrator.study.calibration import Calibration, read_calibration, read_text, refuse_changed_calibration
from orchestrator.study.shipped import SHIPPED_CALIBRATION
from orchestrator.study.spec import StudySpec
from search_spaces.errors import CandidateError, StudyError
from search_spaces.methods.pruners import RemoveHeads, TrimVocabulary
from search_spaces.methods.registry import Step
from tests.support.examples import dataset, segment
from workers.languages.codes import name_languages
from workers.reading.errors import DataError

QUIET = Console(quiet=True)
DEV = dataset([segment("A dog runs.", "Ein Hund rennt."), segment("Two men.", "Zwei Männer.", "Zwei Leute.")])


def write(path: Path, *rows: tuple[str, str, str]) -> str:
    lines = [json.dumps({"src": source, "ref": reference, "langs": langs}) for source, reference, langs in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


@pytest.fixture
def pairs(tmp_path: Path) -> str:
    return write(tmp_path / "pairs.jsonl", ("A cat sleeps.", "Eine Katze schläft.", "en-de"))


def spec(tmp_path: Path, **fields: Any) -> StudySpec:
    dev = write(tmp_path / "dev.jsonl", ("A dog runs.", "Ein Hund rennt.", "en-de"))
    return StudySpec(**{"out": str(tmp_path / "out"), "data": dev, **fields})


def text(tmp_path: Path, lines: Iterable[str]) -> str:
    (tmp_path / "news.txt").write_text("\n".join(lines), encoding="utf-8")
    return str(tmp_path / "news.txt")


def test_pairs_and_text_are_read_and_reach_every_trial(tmp_path: Path, pairs: str) -> None:
    news = text(tmp_path, ["First line.", "", "  Second\u2028line. "])
    study = prepare(spec(tmp_path, calibration=pairs, calibration_text=news, calibration_tokens=999), QUIET)
    plan = study.plan(gpus=0)
    assert plan.calibration is not None
    assert [pair.source for pair in plan.calibration.segments] == ["A cat sleeps."]
    assert plan.calibration_text == ("First line.", "Second\u2028line.")
    assert plan.calibration_tokens == 999
    assert prepare(spec(tmp_path), QUIET).plan(gpus=0).calibration_tokens == 65_536


@pytest.mark.parametrize("langs", ["en-de", "en-zh"])
@pytest.mark.parametrize("split", ["dev", "test"])
def test_a_pair_whose_source_is_measured_on_is_refused_in_every_language(
    tmp_path: Path, split: str, langs: str
) -> None:
    shared = write(tmp_path / "pairs.jsonl", ("New one.", "Neu.", "en-de"), ("A dog runs.", "X.", langs))
    with pytest.raises(
        StudyError, match=rf"the calibration and the {split} data share 1 source: 'A dog runs.' \({langs}\);"
    ):
        read_calibration(spec(tmp_path, calibration=shared), {split: DEV})


@pytest.mark.parametrize("line", ["A dog runs.", " A dog runs. ", "Ein Hund rennt.", "Zwei Leute."])
def test_a_line_of_text_that_is_measured_on_is_refused(tmp_path: Path, pairs: str, line: str) -> None:
    news = text(tmp_path, ["Something else.", line])
    with pytest.raises(StudyError, match=r"calibration_text and the test data share 1 line: .*\(its line 2\)"):
        read_calibration(spec(tmp_path, calibration=pairs, calibration_text=news), {"test": DEV})


def test_what_is_shipped_is_apart(tmp_path: Path) -> None:
    root = SHIPPED_CALIBRATION.parent
    shipped = StudySpec(out=str(tmp_path), data=str(root / "subset.jsonl"), test=str(root / "test.jsonl"))
    assert len(prepare(shipped, QUIET).calibration.pairs.segments) > 1000


def test_a_study_without_calibration_pairs_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(calibration, "SHIPPED_CALIBRATION", tmp_path / "none.jsonl")
    flags = ["--data", spec(tmp_path).data, "--out", str(tmp_path / "out"), "--space", "sparsity"]
    assert cli.main(["search", *flags]) == 2
    said = capsys.readouterr().err
    assert "the space sparsity has methods that look at activations" in said and "--calibration" in said
    assert not (tmp_path / "out").exists()


def test_a_text_file_may_be_packed(tmp_path: Path) -> None:
    (tmp_path / "news.txt.gz").write_bytes(gzip.compress(b"Eins.\r\n\r\nZwei.\n"))
    assert read_text(tmp_path / "news.txt.gz") == ("Eins.", "Zwei.")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b" \n\n", "the file is empty"),
        (b"good\n\xff\xfe bad\n", r"line 2: .*must be UTF-8"),
    ],
)
def test_a_text_file_that_cannot_be_used_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "news.txt").write_bytes(content)
    with pytest.raises(DataError, match=rf"news\.txt.*{reason}"):
        read_text(tmp_path / "news.txt")


@pytest.mark.parametrize(
    "content", ['{"src": "One.", "ref": "Eins."}\n', '[{"src": "One."}]', "src\tref\nOne.\tEins.\n", "PAR1\0\0\0\0PAR1"]
)
def test_json_and_tables_are_no_running_text(tmp_path: Path, content: str) -> None:
    (tmp_path / "news.txt").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match="running text is one paragraph a line, and this is JSON or a table"):
        read_text(tmp_path / "news.txt")


def test_a_missing_text_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        read_text(tmp_path / "none.txt")


def test_a_study_goes_on_with_the_calibration_it_began_with(tmp_path: Path, pairs: str) -> None:
    study = prepare(spec(tmp_path, calibration=pairs), QUIET)
    began = header(study)
    refuse_changed_calibration(began, study.calibration, tmp_path)
    for other in (
        Calibration(dataset([segment("Another.", "Anders.")])),
        Calibration(study.calibration.pairs, ("A line.",)),
    ):
        with pytest.raises(StudyError, match=r"calibration data of the study in .* has changed since it began"):
            refuse_changed_calibration(began, other, tmp_path)


def test_resume_reads_and_checks_the_calibration_again(tmp_path: Path, pairs: str) -> None:

    study = prepare(spec(tmp_path, calibration=pairs).absolute(), QUIET)
    create_ledger(study.spec.folder, header(study))
    write(Path(pairs), ("A dog runs.", "Ein Hund rennt.", "en-de"))
    with pytest.raises(StudyError, match="the calibration and the dev data share 1 source"):
        resume_search(study.spec.folder, QUIET)
    write(Path(pairs), ("A bird sings.", "Ein Vogel singt.", "en-de"))
    with pytest.raises(StudyError, match=r"calibration data of the study in .* has changed"):
        resume_search(study.spec.folder, QUIET)


def test_an_anchor_that_the_model_cannot_take_is_refused_up_front(tmp_path: Path, pairs: str) -> None:

    impossible: tuple[tuple[Step, ...], ...] = ((RemoveHeads(groups=1),),)
    with pytest.raises(CandidateError, match="leaves 3 heads, which do not divide the hidden size 256"):
        prepare(spec(tmp_path, calibration=pairs, anchors=impossible), QUIET)


def test_only_pairs_in_the_languages_of_the_study_are_calibrated_on(tmp_path: Path) -> None:
    file = write(
        tmp_path / "pairs.jsonl",
        ("A cat sleeps.", "Eine Katze schläft.", "en-de"),
        ("A cat sleeps.", "Un chat dort.", "en-fr"),
    )
    found = read_calibration(spec(tmp_path, calibration=file), {"dev": DEV})
    assert [pair.langs for pair in found.pairs.segments] == ["en-de"]
    whole = read_calibration(spec(tmp_path, calibration=file), {"dev": dataset([segment(langs="en-cs")])})
    assert [pair.langs for pair in whole.pairs.segments] == ["en-de", "en-fr"]
    assert found.identity() != whole.identity()


EN_CS = dataset([segment(langs="en-cs")])


def said(found: Calibration, space: str, tmp_path: Path) -> str:
    return " | ".join(found.told(spec(tmp_path, space=space)))


@pytest.mark.parametrize("space", ["joint", "bit-width", "width"])
def test_pairs_in_no_language_of_the_study_are_named_in_a_warning(tmp_path: Path, pairs: str, space: str) -> None:
    found = read_calibration(spec(tmp_path, calibration=pairs, space=space), {"dev": EN_CS})
    assert (found.missing, found.unseen) == (("en-cs",), ("cs",))
    told = said(found, space, tmp_path)
    assert "warning: no calibration pair is in en-cs (they are in en-de)" in told
    assert ("smaller vocabularies are not tried: the calibration data have no text in cs" in told) == (space == "joint")
    assert all(len(line) < 300 for line in found.told(spec(tmp_path, space=space)))


@pytest.mark.parametrize("how", ["space", "anchor"])
def test_trimming_by_pairs_of_other_languages_is_refused(tmp_path: Path, pairs: str, how: str) -> None:
    fields: dict[str, Any] = (
        {"space": "vocabulary"} if how == "space" else {"anchors": ((TrimVocabulary(tokens=4000),),)}
    )
    with pytest.raises(StudyError, match=r"the calibration pairs \(en-de\) have no text in cs, which the study"):
        read_calibration(spec(tmp_path, calibration=pairs, **fields), {"dev": EN_CS})
    read_calibration(spec(tmp_path, calibration=pairs, **fields), {"dev": dataset([segment(langs="de-en")])})


def test_a_study_of_two_pairs_hears_which_is_not_covered(tmp_path: Path, pairs: str) -> None:
    both = dataset([segment("One.", langs="en-de", id="1"), segment("Two.", langs="en-cs", id="2")])
    found = read_calibration(spec(tmp_path, calibration=pairs), {"dev": both})
    assert (found.missing, found.unseen) == (("en-cs",), ("cs",))
    assert "no calibration pair is in en-cs (they are in en-de)" in said(found, "joint", tmp_path)
    with pytest.raises(StudyError, match="have no text in cs"):
        read_calibration(spec(tmp_path, calibration=pairs, space="vocabulary"), {"dev": both})


def test_the_test_datas_pairs_want_calibration_too(tmp_path: Path, pairs: str) -> None:
    assert read_calibration(spec(tmp_path, calibration=pairs), {"dev": DEV, "test": EN_CS}).missing == ("en-cs",)


def test_languages_that_are_seen_in_other_pairs_let_the_vocabulary_be_trimmed(tmp_path: Path) -> None:
    file = write(tmp_path / "pairs.jsonl", ("A cat.", "Kočka.", "en-cs"), ("A cow.", "Eine Kuh.", "en-de"))
    dev = {"dev": dataset([segment("Pes.", langs="cs-de")])}
    found = read_calibration(spec(tmp_path, calibration=file, space="vocabulary"), dev)
    assert (found.missing, found.unseen) == (("cs-de",), ())


@pytest.mark.parametrize(
    ("have", "want", "covered"),
    [
        ("en-de", "en-de", True), ("de-en", "en-de", True), ("en-pt", "en-pt_BR", True), ("pt_PT-en", "en-pt_BR", True),
        ("en-zh", "en-zh_TW", False), ("en-sr_Latn", "en-sr", False), ("en-zh_HK", "en-zh_TW", True),
        ("en-ar", "en-ar_EG", True), ("en-fr", "en-de", False),
    ],
)  # fmt: skip
def test_a_pair_serves_either_direction_of_its_languages_as_they_are_written(
    tmp_path: Path, have: str, want: str, covered: bool
) -> None:
    file = write(tmp_path / "pairs.jsonl", ("Some source.", "Some target.", have))
    found = read_calibration(spec(tmp_path, calibration=file), {"dev": dataset([segment(langs=want)])})
    assert (not found.missing) == covered and (not found.unseen) == covered
    (pair,) = found.pairs.segments
    assert pair.langs == (want if covered else have)
    turned = covered and have.split("-")[1].startswith("en")
    assert (pair.source, pair.references) == (
        ("Some target.", ("Some source.",)) if turned else ("Some source.", ("Some target.",))
    )


def test_a_pair_that_gives_a_source_away_turned_round_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "pairs.jsonl", ("Ein Hund rennt.", "A dog runs.", "de-en"))
    with pytest.raises(StudyError, match="the calibration and the dev data share 1 source"):
        read_calibration(spec(tmp_path, calibration=file), {"dev": DEV})


def test_shared_sources_are_all_counted_and_left_out_where_bad_rows_are(tmp_path: Path) -> None:
    sources = [f"Sentence {number}." for number in range(7)]
    dev = dataset([segment(source, id=source) for source in sources[:5]])
    file = write(tmp_path / "pairs.jsonl", *((source, "Satz.", "en-de") for source in sources))
    with pytest.raises(StudyError, match=r"share 5 sources: 'Sentence 0\.' .*, 'Sentence 2\.' \(en-de\) and 2 more"):
        read_calibration(spec(tmp_path, calibration=file), {"dev": dev})
    news = text(tmp_path, [*sources, "Satz 9."])
    skipping = spec(tmp_path, calibration=file, calibration_text=news, skip_bad_rows=True)
    found = read_calibration(skipping, {"dev": dev})
    assert [pair.source for pair in found.pairs.segments] == sources[5:]
    assert found.text == (*sources[5:], "Satz 9.")
    told = said(found, "joint", tmp_path)
    assert "5 left out (pairs of sources that are in the study's data)" in told
    assert "calibration_text: 5 lines left out" in told


def test_a_study_that_began_with_fewer_pairs_goes_on_with_them(tmp_path: Path) -> None:
    file = write(tmp_path / "pairs.jsonl", ("A cat.", "Eine Katze.", "en-de"), ("Eine Kuh.", "A cow.", "de-en"))
    both = {"dev": dataset([segment("One.", id="1"), segment("Zwei.", langs="de-en", id="2")])}
    assert len(read_calibration(spec(tmp_path, calibration=file), both).pairs.segments) == 2
    write(Path(file), ("A cat.", "Eine Katze.", "en-de"))
    now = read_calibration(spec(tmp_path, calibration=file), both)
    assert [pair.langs for pair in now.pairs.segments] == ["en-de", "de-en"]
    before = Calibration(now.by_direction or now.pairs)
    assert [pair.langs for pair in before.pairs.segments] == ["en-de"]
    began = {"calibration": before.identity()}
    refuse_changed_calibration(began, now.as_begun(began), tmp_path)
    assert read_calibration(spec(tmp_path, calibration=file), both, began).pairs == before.pairs
    assert now.as_begun({"calibration": now.identity(), "unseen": []}) == now


def test_a_study_that_began_with_blind_trimming_goes_on_with_it(tmp_path: Path, pairs: str) -> None:
    blind = spec(tmp_path, calibration=pairs, space="vocabulary")
    older = {"calibration": Calibration(dataset([])).identity()}
    assert read_calibration(blind, {"dev": EN_CS}, older).unseen == ()
    assert read_calibration(blind, {"dev": EN_CS}, {**older, "unseen": ["cs"]}).unseen == ("cs",)
    joint = prepare(spec(tmp_path, calibration=pairs), QUIET)
    assert header(joint)["unseen"] == []


def test_running_text_is_judged_by_its_languages(tmp_path: Path, pairs: str) -> None:
    lines = [f"The committee met on the {day}th of May and talked about the new bridge." for day in range(5, 25)]
    german = [f"Der Ausschuss hat am {day}. Mai über die neue Brücke beraten und gestimmt." for day in range(5, 25)]
    both = spec(tmp_path, calibration=pairs, calibration_text=text(tmp_path, lines + german), space="vocabulary")
    assert read_calibration(both, {"dev": DEV}).unseen == ()
    alone = spec(tmp_path, calibration=pairs, calibration_text=text(tmp_path, lines))
    found = read_calibration(alone, {"dev": DEV})
    assert found.unseen == ("de",)
    assert "calibration_text has next to nothing in de" in said(found, "joint", tmp_path)
    blind = spec(tmp_path, calibration=pairs, calibration_text=text(tmp_path, lines), space="vocabulary")
    with pytest.raises(StudyError, match="calibration_text have no text in de"):
        read_calibration(blind, {"dev": DEV})


def test_a_code_that_only_the_study_names_is_read_in_data_and_calibration(tmp_path: Path) -> None:
    data = write(tmp_path / "d.jsonl", ("A dog runs.", "Qa'vIn qet.", "en-qaa"))
    asked = {"calibration": write(tmp_path / "c.jsonl", ("One.", "Wa'.", "eng-qaa_Latn")), "data": data}
    with pytest.raises(DataError, match=r"unknown language code 'qaa'.*--language CODE=NAME"):
        prepare(spec(tmp_path, **asked), Console(quiet=True))
    try:
        study = prepare(spec(tmp_path, **asked, languages={"qaa": "Klingon"}), Console(quiet=True))
        assert study.data["dev"].pairs == study.calibration.pairs.pairs == ("en-qaa",)
        assert study.plan(0).languages == header(study)["spec"]["languages"] == {"qaa": "Klingon"}
    finally:
        name_languages({})
