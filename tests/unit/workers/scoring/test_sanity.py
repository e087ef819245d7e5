"""Every sanity check on planted cases in seven target languages, and on the shipped references, which trip none."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.support.examples import segment
from tests.support.paths import DATA
from workers.reading.dataset import read_dataset
from workers.reading.segments import Segment
from workers.scoring.sanity import (
    CHECKS,
    IN_WORDS,
    LIMITS,
    failed_checks,
    over_limits,
    shares,
    spell_failures,
    unchecked_languages,
)

SOURCE = "The old fisherman repairs his net on the pier while two gulls wait for the fish beside him."
REFERENCES = {
    "de": "Der alte Fischer flickt auf dem Steg sein Netz, während neben ihm zwei Möwen auf den Fisch warten.",
    "cs": "Starý rybář opravuje na molu svou síť, zatímco vedle něj čekají na ryby dva racci.",
    "ru": "Старый рыбак чинит на причале свою сеть, а две чайки рядом с ним ждут рыбу.",
    "zh": "老渔夫在码头上修补渔网，两只海鸥在他身旁等着吃鱼，海面上吹来一阵微风。",
    "ja": "年老いた漁師が桟橋で網を繕い、そのそばで二羽のカモメが魚を待っている。",
    "is": "Gamli sjómaðurinn gerir við netið sitt á bryggjunni á meðan tveir mávar bíða eftir fiskinum við hlið hans.",
}
SOUND = {
    "de": "Auf dem Steg repariert der alte Fischer sein Netz; zwei Möwen warten bei ihm auf den Fisch.",
    "cs": "Na molu spravuje starý rybář síť a dva racci u něj čekají na ryby.",
    "ru": "На пирсе старый рыбак латает сеть, рядом две чайки ожидают рыбы.",
    "zh": "一位年老的渔民正在码头补网，旁边有两只海鸥等着鱼，海风轻轻吹来。",
    "ja": "老漁師が桟橋で網を直していて、隣では二羽のカモメが魚を待っています。",
    "is": "Á bryggjunni lagar gamli fiskimaðurinn netið og tveir mávar bíða hjá honum eftir fiski.",
}
GERMAN_SOURCE = REFERENCES["de"]
LOOPS = {
    "de": "Der alte Fischer flickt sein Netz, sein Netz, sein Netz, sein Netz, sein Netz, sein Netz.",
    "cs": "Starý rybář opravuje opravuje opravuje opravuje opravuje opravuje síť na molu.",
    "ru": "Старый рыбак чинит свою сеть, свою сеть, свою сеть, свою сеть, свою сеть.",
    "zh": "老渔夫在码头上修补渔网渔网渔网渔网渔网渔网渔网渔网，两只海鸥。",
    "ja": "年老いた漁師が桟橋で網を繕い、網を繕い、網を繕い、網を繕い、網を繕い、待っている。",
    "is": "Gamli sjómaðurinn gerir við netið sitt sitt sitt sitt sitt sitt sitt á bryggjunni.",
    "en": "The old fisherman repairs his nnnnnnnnnnnnnnnnnnnnnnnnnnnnet on the pier.",
}
LANGUAGES = [*REFERENCES, "en"]


def into(target: str) -> Segment:
    if target == "en":
        return segment(GERMAN_SOURCE, SOURCE, langs="de-en")
    return segment(SOURCE, REFERENCES[target], langs=f"en-{target}")


def sanity(segments: Sequence[Segment], texts: Sequence[str], truncated: Sequence[bool]) -> dict[str, float]:
    return shares(failed_checks(*row) for row in zip(segments, texts, truncated, strict=True))


def sound(target: str) -> str:
    return SOUND.get(target, "On the pier the old fisherman mends his net, and two gulls beside him wait for fish.")


@pytest.mark.parametrize("target", LANGUAGES)
def test_a_reference_and_another_good_translation_pass_every_check(target: str) -> None:
    assert failed_checks(into(target), into(target).references[0], False) == ()
    assert failed_checks(into(target), sound(target), False) == ()


@pytest.mark.parametrize("target", LANGUAGES)
def test_a_source_alone_is_compared_with_itself(target: str) -> None:
    one = into(target)
    alone, good = replace(one, references=("",)), sound(target)
    assert failed_checks(alone, good, False) == failed_checks(alone, one.references[0], False) == ()
    assert failed_checks(alone, one.source, False)[0] == "copied"
    assert failed_checks(alone, LOOPS[target], False) == ("repeated",)
    assert failed_checks(alone, good[: len(good) // 5], False) == ("too_short",)
    assert "too_long" in failed_checks(alone, 5 * good, False)
    foreign = REFERENCES["zh" if target != "zh" else "ru"]
    assert "wrong_script" in failed_checks(alone, foreign, False) or target == "ja"


@pytest.mark.parametrize("target", LANGUAGES)
@pytest.mark.parametrize("text", ["", " \n"])
def test_empty(target: str, text: str) -> None:
    assert failed_checks(into(target), text, False) == ("empty",)


@pytest.mark.parametrize("target", LANGUAGES)
def test_copied_and_so_in_the_source_s_language_or_script(target: str) -> None:
    one = into(target)
    nearly = one.source.replace("alte", "alter").replace("old", "Old") + "!"
    for text in (one.source, nearly):
        failed = failed_checks(one, text, False)
        assert failed[0] == "copied" and "wrong_language" in failed
        assert ("wrong_script" in failed) == (target in ("ru", "zh", "ja"))


@pytest.mark.parametrize("target", LANGUAGES)
def test_too_short_and_too_long(target: str) -> None:
    one = into(target)
    reference = one.references[0]
    assert failed_checks(one, reference[: len(reference) // 4], False) == ("too_short",)
    assert failed_checks(one, f"{sound(target)} {reference} {reference}", False)[0] == "too_long"


@pytest.mark.parametrize("target", LANGUAGES)
def test_repeated_words_and_characters(target: str) -> None:
    assert failed_checks(into(target), LOOPS[target], False) == ("repeated",)


def test_a_phrase_that_comes_back_is_a_repetition_though_it_is_not_on_end() -> None:
    text = "Der Mann auf dem Steg und der Mann auf dem Steg sieht, wie der Mann auf dem Steg ein Netz auf ihm hat."
    assert failed_checks(into("de"), text, False) == ("repeated",)


def test_what_the_source_or_a_reference_repeats_may_be_repeated() -> None:
    chorus = segment("Ha ha ha ha ha ha ha ha ha ha!", "Ha ha ha ha ha ha ha ha ha ha!", langs="en-cs")
    assert failed_checks(chorus, "Ha ha ha ha ha ha ha ha ha ha ha!", False) == ()
    song = "aluminium for our homes, aluminium for our industry, aluminium for our trains, aluminium for our ships"
    said = "hliník pro naše domy, hliník pro naše továrny, hliník pro naše vlaky, hliník pro naše lodě"
    assert failed_checks(segment(song, said, langs="en-cs"), said.replace("hliník", "kov"), False) == ()


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("de", REFERENCES["ru"]),
        ("cs", REFERENCES["zh"]),
        ("is", REFERENCES["ru"]),
        ("en", REFERENCES["zh"]),
        ("ru", REFERENCES["de"]),
        ("zh", REFERENCES["ru"]),
        ("ja", REFERENCES["is"]),
    ],
)
def test_wrong_script(target: str, text: str) -> None:
    assert "wrong_script" in failed_checks(into(target), text, False)


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("de", REFERENCES["cs"]),
        ("de", SOURCE),
        ("cs", REFERENCES["de"]),
        ("ru", SOURCE),
        ("zh", REFERENCES["ja"]),
        ("ja", REFERENCES["zh"]),
        ("is", REFERENCES["de"]),
        ("en", REFERENCES["cs"]),
    ],
)
def test_wrong_language_though_the_script_may_be_right(target: str, text: str) -> None:
    assert "wrong_language" in failed_checks(into(target), text, False)


def test_names_and_tags_in_another_script_are_no_failure() -> None:
    one = segment("Ask @user9 on https://example.org", "@user9 https://example.org に聞いて", langs="en-ja")
    assert failed_checks(one, "https://example.org で @user9 に聞いて", False) == ()
    handle = segment("@user44", "@user44", langs="en-ja")
    assert failed_checks(handle, "@user44", False) == ()
    name = segment("Samsung Galaxy Tab S9 FE", "Samsung Galaxy Tab S9 FE", langs="en-cs")
    assert failed_checks(name, "Samsung Galaxy Tab S9 FE", False) == ()
    assert failed_checks(segment("No comment.", "ノーコメント。", langs="en-ja"), "コメントはありません。", False) == ()


def test_truncated_is_what_the_decoder_said() -> None:
    assert failed_checks(into("de"), sound("de"), True) == ("truncated",)


@pytest.mark.parametrize("target", ["zh_TW", "sr_Latn", "pt_BR"])
def test_regional_codes_are_checked_as_their_language(target: str) -> None:
    texts = {
        "zh_TW": "老漁夫在碼頭上修補漁網，兩隻海鷗在他身旁等著吃魚。",
        "sr_Latn": "Stari ribar na doku krpi svoju mrežu, a dva galeba pored njega čekaju ribu.",
        "pt_BR": "O velho pescador conserta a rede no píer enquanto duas gaivotas esperam o peixe ao seu lado.",
    }
    one = segment(SOURCE, texts[target], langs=f"en-{target}")
    assert failed_checks(one, texts[target], False) == ()
    assert {"wrong_script", "wrong_language"} & set(failed_checks(one, REFERENCES["ru"], False))


@pytest.mark.parametrize(("target", "wanted", "other"), [("zh_TW", "zh_TW", "zh"), ("zh", "zh", "zh_TW")])
@pytest.mark.parametrize("reference", [True, False])
def test_simplified_and_traditional_characters_are_told_apart(
    target: str, wanted: str, other: str, reference: bool
) -> None:
    texts = {"zh": REFERENCES["zh"], "zh_TW": "老漁夫在碼頭上修補漁網，兩隻海鷗在他身旁等著吃魚，海面上吹來一陣微風。"}
    one = segment(SOURCE, texts[wanted] if reference else "", langs=f"en-{target}")
    assert failed_checks(one, texts[wanted], False) == ()
    assert failed_checks(one, texts[other], False) == ("wrong_script",)
    # Characters that both have tell nothing.
    assert "wrong_script" not in failed_checks(one, "你好。", False)


def test_a_language_that_a_check_knows_nothing_of_is_told() -> None:
    assert unchecked_languages([into("de"), into("ja")]) == {}
    assert unchecked_languages([segment(langs="en-liv"), into("de")]) == {"wrong_language": ("liv",)}
    assert unchecked_languages([segment(langs="en-sr_Latn"), segment(langs="en-zh_HK")]) == {
        "wrong_language": ("sr_Latn",)
    }


def test_shares_have_every_check_and_count_lines() -> None:
    segments = [into("de")] * 4
    found = sanity(segments, [sound("de"), "", SOURCE, ""], [False, False, False, True])
    assert list(found) == list(CHECKS) == list(LIMITS) == list(IN_WORDS)
    assert {name: share for name, share in found.items() if share} == {
        "empty": 0.5, "copied": 0.25, "wrong_language": 0.25, "truncated": 0.25,
    }  # fmt: skip
    assert spell_failures(found, 4) == "2 empty, 1 copied, 1 wrong language, 1 truncated"
    assert spell_failures(dict.fromkeys(CHECKS, 0.0), 4) == "every check passed"


def test_a_candidate_is_over_its_limit_only_beyond_its_baseline() -> None:
    nothing = dict.fromkeys(CHECKS, 0.0)
    assert over_limits(nothing | {"repeated": 0.12}, nothing) == (
        "12 % of hypotheses repeat themselves, the baseline 0 %, limit +2 %",
    )
    assert over_limits(nothing | {"repeated": 0.12}, None) == over_limits(nothing | {"repeated": 0.12}, nothing)
    assert over_limits(nothing | {"repeated": 0.12}, nothing | {"repeated": 0.1}) == ()
    assert over_limits(nothing | {"copied": 0.02}, nothing) == ()
    assert len(over_limits(nothing | {"copied": 0.021, "empty": 0.015}, nothing)) == 2


@pytest.mark.parametrize("name", ["subset.jsonl", "test.jsonl", "calibration.jsonl.gz"])
def test_shipped_references_trip_no_check(name: str) -> None:
    segments = read_dataset(DATA / name).segments
    found = sanity(segments, [one.references[0] for one in segments], [False] * len(segments))
    assert {check: share for check, share in found.items() if share} == {}


def test_three_thousand_segments_take_about_a_second() -> None:
    segments = (read_dataset(DATA / "test.jsonl").segments * 12)[:3000]
    failed_checks(segments[0], segments[0].references[0], False)
    start = time.process_time()
    sanity(segments, [one.references[0] for one in segments], [False] * len(segments))
    assert time.process_time() - start < 5.0


def test_the_language_model_is_loaded_at_the_first_check_and_not_before() -> None:
    code = "import sys, workers.scoring.sanity; print('py3langid' in sys.modules, 'torch' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["False", "False"]
