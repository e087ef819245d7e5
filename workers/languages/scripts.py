"""What a text is written in: its words, its width, and how much of it is in the script of a language."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from workers.languages.codes import MAIN_SCRIPT
from workers.languages.variants import TRADITIONAL

# ISO 15924 codes by the first word of Unicode's letter names; a language may take its letters from several.
WRITTEN_IN: dict[str, frozenset[str]] = {
    "Arab": frozenset({"ARABIC"}), "Armn": frozenset({"ARMENIAN"}), "Beng": frozenset({"BENGALI"}),
    "Cans": frozenset({"CANADIAN"}), "Cyrl": frozenset({"CYRILLIC"}), "Deva": frozenset({"DEVANAGARI"}),
    "Ethi": frozenset({"ETHIOPIC"}), "Geor": frozenset({"GEORGIAN"}), "Grek": frozenset({"GREEK"}),
    "Gujr": frozenset({"GUJARATI"}), "Guru": frozenset({"GURMUKHI"}), "Hang": frozenset({"HANGUL", "CJK"}),
    "Hans": frozenset({"CJK"}), "Hant": frozenset({"CJK", "BOPOMOFO"}), "Hebr": frozenset({"HEBREW"}),
    "Jpan": frozenset({"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "IDEOGRAPHIC", "HALFWIDTH"}),
    "Hani": frozenset({"CJK"}), "Khmr": frozenset({"KHMER"}), "Knda": frozenset({"KANNADA"}),
    "Laoo": frozenset({"LAO"}), "Latn": frozenset({"LATIN"}), "Mlym": frozenset({"MALAYALAM"}),
    "Mymr": frozenset({"MYANMAR"}), "Nkoo": frozenset({"NKO"}), "Olck": frozenset({"OL"}),
    "Orya": frozenset({"ORIYA"}), "Sinh": frozenset({"SINHALA"}), "Taml": frozenset({"TAMIL"}),
    "Telu": frozenset({"TELUGU"}), "Tfng": frozenset({"TIFINAGH"}), "Thaa": frozenset({"THAANA"}),
    "Thai": frozenset({"THAI"}), "Tibt": frozenset({"TIBETAN"}), "Yiii": frozenset({"YI"}),
}  # fmt: skip

# Han, kana and Hangul: a character holds about what two Latin ones do.
_DENSE_RANGES = (
    r"\u1100-\u11ff\u3005-\u30ff\u3130-\u318f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
    r"\U00020000-\U000323af"
)
# Thai and Lao, Burmese, Khmer: no spaces between words either.
_UNSPACED_RANGES = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
# Scripts (ISO 15924) whose words are not set apart by spaces: Han characters and kana, which sacreBLEU has tokenizers
# for, and the others, South-East Asian ones, Tibetan (Dzongkha too) and Yi.
HAN = frozenset({"Hans", "Hant", "Hani"})
OTHER_UNSPACED = frozenset(
    {
        "Bali",
        "Bopo",
        "Hira",
        "Hrkt",
        "Java",
        "Kana",
        "Khmr",
        "Lana",
        "Laoo",
        "Mymr",
        "Tale",
        "Talu",
        "Tavt",
        "Thai",
        "Tibt",
        "Yiii",
    }
)
UNSPACED = HAN | OTHER_UNSPACED | {"Jpan"}
# Encodings that hold the characters of one Chinese script alone.
_ENCODING = {"Hans": "gb2312", "Hant": "big5"}
_DENSE = re.compile(f"[{_DENSE_RANGES}]")
# Indic vowel signs (0900 to 0dff) are within words, though Python does not count them as letters.
_WORD = re.compile(
    rf"[{_DENSE_RANGES}{_UNSPACED_RANGES}]|(?:(?![{_DENSE_RANGES}{_UNSPACED_RANGES}])(?:[^\W_]|[\u0900-\u0dff]))+"
)
# Addresses, user names and tags are the same in every language.
_SAME_EVERYWHERE = re.compile(r"(?:https?://|www\.)\S+|\S+@\S+|[@#]\w+")


def words(text: str) -> list[str]:
    """The words, case folded; each character is one where no spaces are written, and in Korean."""
    return _WORD.findall(text.casefold())


def width(text: str) -> int:
    """The length in characters, a Han, kana or Hangul one counted twice."""
    return len(text) + len(_DENSE.findall(text))


def prose(text: str) -> str:
    """The text without web addresses, user names and tags."""
    return _SAME_EVERYWHERE.sub(" ", text)


def script_share(text: str, language: str) -> float | None:
    """The share of the words that begin with a letter of the language's script, 0 to 1; None for no letters at all.

    Of Chinese the share of simplified or traditional characters counts too, among those that are one or the other.
    Raises KeyError for a script that is not in WRITTEN_IN.
    """
    script = script_of(language)
    wanted = WRITTEN_IN[script]
    said = words(prose(text))
    letters = [found for found in (_script(word[0]) for word in said) if found]
    if not letters:
        return None
    return sum(found in wanted for found in letters) / len(letters) * _chinese_share(said, script)


def _chinese_share(characters: list[str], script: str) -> float:
    """Of the characters that only one of the Chinese scripts has, the share that is this one's; 1 for any other."""
    if script not in _ENCODING:
        return 1.0
    found = [only for only in (_only_in(word[0]) for word in characters) if only]
    return sum(only == script for only in found) / len(found) if found else 1.0


@lru_cache(maxsize=1 << 16)
def _only_in(character: str) -> str:
    """The one Chinese script that has a character: Hans, Hant, or "" where both have it, or neither."""
    if not _DENSE.match(character):
        return ""
    has = [script for script, encoding in _ENCODING.items() if _encodes(character, encoding)]
    return has[0] if len(has) == 1 else ""


def _encodes(character: str, encoding: str) -> bool:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def script_of(language: str) -> str:
    """The ISO 15924 code of what a language is written in: what its code says ("sr_Latn"), else its main script."""
    base, *subtags = language.split("_")
    named = next((subtag for subtag in subtags if len(subtag) == 4), None)
    traditional = base == "zh" and not TRADITIONAL.isdisjoint(subtags)
    return named or ("Hant" if traditional else MAIN_SCRIPT.get(base, "Latn"))


@lru_cache(maxsize=1 << 16)
def _script(character: str) -> str:
    """The first word of a letter's Unicode name, such as LATIN; empty for what is no letter."""
    if not unicodedata.category(character).startswith("L"):
        return ""
    return unicodedata.name(character, "").removeprefix("FULLWIDTH ").split(" ")[0]
