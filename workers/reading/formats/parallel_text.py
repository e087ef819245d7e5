"""Read parallel text: a file of source lines and a file of as many reference lines."""

from __future__ import annotations

from collections.abc import Collection
from glob import escape
from pathlib import Path

from workers.languages.codes import UnknownLanguage, normalise_language, split_pair
from workers.reading.errors import DataError, RowFault
from workers.reading.files import decode, split_lines
from workers.reading.segments import Segment
from workers.reading.tally import ReadRequest, Tally

KEY = "parallel_text"


def read(sources: bytes, references: bytes, reference_path: Path, request: ReadRequest, tally: Tally) -> list[Segment]:
    """One segment a line, in the files' order; ids are the pair and the line's number (1-based).

    The pair is the caller's langs, where that is one, or else the files' suffixes (x.en with x.de, .gz may follow).
    Raises DataError when neither tells it, when they contradict each other, and when the files' numbers of lines
    differ.
    """
    langs = _langs(request, reference_path)
    source_lines, reference_lines = split_lines(sources), split_lines(references)
    if len(source_lines) != len(reference_lines):
        rule = "the source and the reference file must have the same number of lines"
        value = f"{len(source_lines)} in {request.path.name}, {len(reference_lines)} in {reference_path}"
        raise DataError(request.path, None, value, rule, "Pass two files whose lines translate each other.")
    segments: list[Segment] = []
    for line, (source, reference) in enumerate(zip(source_lines, reference_lines, strict=True), start=1):
        try:
            texts = _text(source, "source", None), _text(reference, "reference", reference_path)
        except RowFault as fault:
            tally.refuse(line, fault)
            continue
        identity = f"{langs}:{line}"
        segments.append(Segment(identity, langs, texts[0], (texts[1],), doc_id=identity, domain=""))
    return segments


def suffix_language(path: Path) -> str | None:
    """The language that a file's suffix names: "de" for train.de.gz; None if it names none."""
    name = _bare(path)
    try:
        return normalise_language(name.rpartition(".")[2]) if "." in name else None
    except UnknownLanguage:
        return None


def sides(path: Path, languages: Collection[str] | None = None) -> dict[str, Path]:
    """The files of a parallel text by language, the one that is given first: those beside it of the same name.

    languages: which others are looked for, None: any. Empty where the file's own name says no language.
    """
    stem, own = _stem(path), suffix_language(path)
    found = {} if own is None else {own: path}
    for other in sorted(path.parent.glob(f"{escape(stem)}.*")) if found else ():
        language = suffix_language(other)
        wanted = language is not None and (languages is None or language in languages)
        if wanted and language not in found and _stem(other) == stem and other.is_file():
            found[str(language)] = other
    return found


def beside(path: Path, langs: str | None) -> tuple[Path, Path] | None:
    """The files of sources and of references, where one of them is given and the other lies beside it; None where none
    does. langs: the pair; without one the given file has the sources. Raises DataError where it could be several."""
    found = sides(path)
    if langs is not None:
        source, target = split_pair(langs)
        return (found[source], found[target]) if {source, target} <= found.keys() else None
    own, *others = found or ("",)
    if len(others) > 1:
        rule = f"there are references in {', '.join(others)} beside it"
        raise DataError(path, None, path.name, rule, f"Say which with --langs, such as {own}-{others[0]}.")
    return (path, found[others[0]]) if others else None


def _stem(path: Path) -> str:
    """The name without the language, .txt and .gz: "train" for train.de.gz."""
    return _bare(path).rpartition(".")[0]


def _bare(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".txt")


def _langs(request: ReadRequest, reference_path: Path) -> str:
    named = suffix_language(request.path), suffix_language(reference_path)
    value = f"{request.path.name} and {reference_path.name}"
    if request.langs is None:
        pair = f"{named[0]}-{named[1]}"
        if named[0] is None or named[1] is None or named[0] == named[1]:
            rule = "the two files' suffixes do not name two languages (x.en with x.de)"
            way_out = "Pass langs, such as en-de, source first."
            raise DataError(request.path, None, value, rule, way_out)
        if request.asked and pair not in request.asked:
            rule = f"the two files' suffixes name other languages than langs, {', '.join(request.asked)}"
            raise DataError(request.path, None, value, rule, f"Add {pair} to langs, or name other files.")
        return pair
    asked = split_pair(request.langs)
    if None not in named and any(
        suffix is not None and suffix.split("_")[0] != code.split("_")[0]
        for suffix, code in zip(named, asked, strict=True)
    ):
        rule = f"the two files' suffixes name other languages than langs, {request.langs}"
        way_out = "Swap the two files, correct langs, or rename the files if their suffixes are wrong."
        raise DataError(request.path, None, value, rule, way_out)
    return request.langs


def _text(raw: bytes, what: str, file: Path | None) -> str:
    try:
        text = decode(raw).strip()
    except RowFault as fault:
        raise RowFault(fault.rule, fault.value, fault.way_out, file) from None
    if not text:
        raise RowFault(f"empty {what}", text, file=file)
    return text
