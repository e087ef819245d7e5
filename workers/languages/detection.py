"""Whether a text is in another language than it should be, by py3langid (naive Bayes over byte n-grams, offline).

Lui and Baldwin 2012, https://aclanthology.org/P12-3005; https://github.com/adbar/py3langid. It decides between few
languages: the target, the source, and those that a damaged model falls into most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from workers.languages.scripts import prose, script_of, width

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

RIVALS = ("cs", "de", "en", "es", "fr", "ja", "ru", "zh")
# Shorter texts hold too little to tell by: names, numbers, a word that two languages share.
SHORTEST = 25
SURE = 0.9
# So many texts, spread over all of them, tell which languages they are in.
MOST_TEXTS = 1000


def other_language(text: str, source: str, target: str) -> str | None:
    """The language that a text is in for sure, where that is not `target`; None where it is, or can't be told."""
    told = prose(text)
    if width(told) < SHORTEST or not is_known(target):
        return None
    wanted = _base(target)
    language, probability = classify(told, {wanted, _base(source), *RIVALS})
    return language if language != wanted and probability >= SURE else None


def is_likeliest(text: str, language: str, other: str) -> bool:
    """Whether a text, however short, is likelier in that language than in the other and in what a damaged model falls
    into; True of a language that is not known."""
    if not is_known(language):
        return True
    return classify(prose(text), {_base(language), _base(other), *RIVALS})[0] == _base(language)


def classify(text: str, languages: Collection[str]) -> tuple[str, float]:
    """The likeliest of these languages that the library knows, and its probability."""
    language, probability = _identifier(tuple(sorted(known_languages() & set(languages)))).classify(text)
    return str(language), float(probability)


def is_known(language: str) -> bool:
    """Whether the library can tell a language: it knows it in its main script alone."""
    base = _base(language)
    return base in known_languages() and script_of(language) in (script_of(base), "Hant")


def languages_without_text(texts: Sequence[str], languages: Iterable[str]) -> list[str]:
    """Those of the languages that hardly one of these texts (1 in 100) is in for sure; one that the library does not
    know is not among them."""
    asked = {language: _base(language) for language in languages}
    judged = {base for language, base in asked.items() if is_known(language)}
    candidates = tuple(sorted(judged | set(RIVALS) & known_languages()))
    told = [line for text in texts[:: -(-len(texts) // MOST_TEXTS) or 1] if width(line := prose(text)) >= SHORTEST]
    counts: Counter[str] = Counter()
    for line in told:
        language, probability = _identifier(candidates).classify(line)
        counts[language] += probability >= SURE
    least = max(len(told) // 100, 1)
    return sorted(language for language, base in asked.items() if is_known(language) and counts[base] < least)


@lru_cache(maxsize=1)
def known_languages() -> frozenset[str]:
    """The codes that the library can tell apart (about a hundred)."""
    return frozenset(_identifier(()).labels)


@lru_cache(maxsize=64)
def _identifier(languages: tuple[str, ...]) -> LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    if not languages:
        return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    every = _identifier(())
    few = LanguageIdentifier(
        every.nb_ptc, every.nb_pc, every.nb_classes, every.tk_nextmove, every.tk_output, True, tk_row=every.tk_row
    )
    few.set_languages(languages)
    return few


def _base(language: str) -> str:
    return language.split("_")[0]
