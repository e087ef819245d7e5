"""Data in other languages than it says is refused before anything is translated; what can't be told is not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from main import main
from orchestrator.search.prepared import header, prepare
from orchestrator.study.spec import StudySpec
from search_spaces.errors import StudyError
from tests.support.examples import segment
from tests.support.paths import DATA
from workers.reading.dataset import read_dataset
from workers.reading.segments import Segment
from workers.scoring.direction_check import refuse_wrong_direction

SHIPPED = read_dataset(DATA / "subset.jsonl").segments
# fmt: off
RUSSIAN = ["Старый рыбак чинит на причале свою сеть.", "Две чайки рядом с ним ждут рыбу.", "Собака бежит по лугу."]
ENGLISH = ["The old fisherman mends his net on the pier.", "Two gulls wait beside him for the fish.", "A dog runs."]
CHINESE = [
    "老渔夫在码头上修补渔网。",
    "两只海鸥在他身旁等着吃鱼，海面上吹来一阵微风。",
    "一只狗跑过草地，孩子们在后面追。",
]
JAPANESE = [
    "年老いた漁師が桟橋で網を繕っている。",
    "そのそばで二羽のカモメが魚を待っている。",
    "犬が芝生を走っている。",
]


def pair(langs: str, sources: Sequence[str], references: Sequence[str]) -> list[Segment]:
    return [
        segment(*texts, langs=langs, id=str(line)) for line, texts in enumerate(zip(sources, references, strict=True))
    ]


def swapped(segments: Sequence[Segment]) -> list[Segment]:
    """What the rows say stays, and their texts change sides."""
    return [replace(one, source=one.references[0], references=(one.source,)) for one in segments]


def check(segments: Sequence[Segment]) -> None:
    refuse_wrong_direction("dev.jsonl", segments, "--no-language-check")


@pytest.mark.parametrize("name", ["subset.jsonl", "test.jsonl", "calibration.jsonl.gz"])
@pytest.mark.parametrize("every", [1, 7, 50])
def test_shipped_data_is_in_its_languages_and_seen_where_it_is_swapped(name: str, every: int) -> None:
    segments = read_dataset(DATA / name).segments[::every]
    check(segments)
    with pytest.raises(
        StudyError,
        match=r"dev.jsonl: the sources of en-cs are in Czech \(\d+ of \d+ pieces of text\) and "
        r"the references in English \(.*\): swap the two files, or name the pair as cs-en .* say --no-language-check",
    ):
        check(swapped(segments))


@pytest.mark.parametrize(
    ("langs", "sources", "references"),
    [
        ("en-ru", ENGLISH, RUSSIAN),
        ("en-zh", ENGLISH, CHINESE),
        ("ja-zh", JAPANESE, CHINESE),
        ("ru-ja", RUSSIAN, JAPANESE),
    ],
)
def test_three_short_lines_of_other_scripts_are_enough(langs: str, sources: list[str], references: list[str]) -> None:
    check(pair(langs, sources, references))
    source, target = langs.split("-")
    with pytest.raises(StudyError, match=f"swap the two files, or name the pair as {target}-{source}"):
        check(pair(langs, references, sources))


def test_the_wrong_pair_is_named_by_what_the_texts_are_in() -> None:
    german = [one for one in SHIPPED if one.langs == "en-de"]
    with pytest.raises(StudyError, match=r"the references of en-fr are in German .*, not in French: give the file"):
        check([replace(one, langs="en-fr") for one in german])
    with pytest.raises(StudyError, match=r"the references of en-de are in English .*, not in German"):
        check([replace(one, references=(one.source,)) for one in german])
    with pytest.raises(StudyError, match=r"the sources of de-en are in English .*, not in German"):
        check([replace(one, langs="de-en", references=(one.source,)) for one in german])
    with pytest.raises(StudyError, match=r"the references of ru-fr are in English .*, not in French"):
        check(pair("ru-fr", RUSSIAN, ENGLISH))


def test_one_bad_pair_among_good_ones_is_seen() -> None:
    czech = [one for one in SHIPPED if one.langs == "en-cs"]
    with pytest.raises(StudyError, match="sources of en-cs"):
        check([*(one for one in SHIPPED if one.langs != "en-cs"), *swapped(czech)])


@pytest.mark.parametrize(
    ("langs", "source", "reference"),
    [
        ("en-de", "Hi.", "Hallo."),
        ("en-de", "12 345", "12 345"),
        ("en-liv", SHIPPED[0].source, SHIPPED[0].source),
        ("en-de", "The dog runs over the meadow while its owner looks for it everywhere.", ""),
        ("hr-sr_Latn", "Stari ribar na doku krpi svoju mrežu, a dva galeba pored njega čekaju ribu.",
         "Stari ribar na molu krpa svoju mrežu, a dva galeba kraj njega čekaju ribu."),
        ("sk-cs", "Starý rybář opravuje na molu svou síť, zatímco vedle něj čekají na ryby dva racci.",
         "Starý rybář opravuje na molu svou síť, zatímco vedle něj čekají na ryby dva racci."),
        ("zh-zh_TW", "".join(CHINESE), "老漁夫在碼頭上修補漁網。"),
    ],
)  # fmt: skip
def test_what_can_not_be_told_or_is_written_almost_alike_passes(langs: str, source: str, reference: str) -> None:
    check([segment(source, reference, langs=langs)] * 3)


def test_swapped_files_are_refused_by_both_commands_and_taken_where_the_user_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    german = [one for one in SHIPPED if one.langs == "en-de"][:20]
    german_side, english_side, out = tmp_path / "a.txt", tmp_path / "b.txt", tmp_path / "out"
    german_side.write_text("".join(one.references[0] + "\n" for one in german), encoding="utf-8")
    english_side.write_text("".join(one.source + "\n" for one in german), encoding="utf-8")
    asked = ["--data", str(german_side), "--references", str(english_side), "--outdir", str(out), "--langs", "en-de"]
    assert main(asked) == 2
    assert "a.txt: the sources of en-de are in German" in capsys.readouterr().err and not out.exists()
    rows = [{"src": one.references[0], "ref": one.source, "langs": "en-de"} for one in german]
    (tmp_path / "dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    spec = StudySpec(data=str(tmp_path / "dev.jsonl"), out=str(out))
    with pytest.raises(StudyError, match=r"swap the two files.*--no-language-check \(check_languages: false\)"):
        prepare(spec, Console(quiet=True))
    study = prepare(replace(spec, check_languages=False), Console(quiet=True))
    prepare(spec, Console(quiet=True), begun=header(study))
