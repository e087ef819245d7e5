"""Tell by their names which columns of a table, or keys of a row, hold a pair, and bring them into a plain row."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from workers.languages.codes import LANGUAGE_NAMES, UnknownLanguage, normalise_language, split_pair

# Compared in lower case, with _ for spaces and hyphens; the first of a list that is there counts.
SOURCES = ("src", "source", "source_text", "src_text", "source_sentence", "source_segment", "original")
REFERENCES = (
    "ref",
    "reference",
    "ref_text",
    "reference_text",
    "target",
    "tgt",
    "trg",
    "target_text",
    "tgt_text",
    "trg_text",
    "target_sentence",
    "target_segment",
    "translation",
)
PAIRS = ("langs", "lp", "language_pair", "lang_pair", "langpair", "direction")
SIDES = (
    ("src_lang", "tgt_lang"),
    ("source_lang", "target_lang"),
    ("source_language", "target_language"),
    ("src_lang", "trg_lang"),
    ("sl", "tl"),
)
KEPT = {"id": "id", "doc_id": "doc_id", "document_id": "doc_id", "domain": "domain"}
SCORES = ("difficulty", "score")
# Where one of these is, `tgt` may be a system's output, which is no reference.
OF_SYSTEMS = frozenset({"system", "esa_score", "esa_spans", "annotator", "line_id", "mt", "hypothesis", "hyp", "pred"})
OUTPUTS = frozenset({"target", "tgt", "trg", "target_text", "tgt_text", "trg_text", "translation"})


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column is what."""

    source: str | None
    """Column of the source text."""
    reference: str | None
    """Column of the reference text."""
    langs: str | None
    """Column of the language pair, or None."""
    sides: tuple[str, str] | None
    """The two columns that name the languages, or None."""
    texts: dict[str, str]
    """Code -> column, where columns are named by their languages; the source's first."""
    further: dict[str, str]
    """What else a plain row may have: its key there -> column."""

    def says_no_direction(self, asked: Collection[str]) -> bool:
        """Whether rows are read as ALMA's are: more than two columns are named by languages, or two where several
        pairs are asked for, which may be of both directions."""
        return len(self.texts) > (1 if len(asked) > 1 else 2)

    def plain(self, fields: dict[str, object], asked: Collection[str] = ()) -> dict[str, object]:
        """A row of the table as a plain row, or as ALMA's where it says no direction."""
        if self.texts:
            return self._by_language(fields, asked)
        row: dict[str, object] = {
            key: fields[name] for key, name in (("src", self.source), ("ref", self.reference)) if name in fields
        }
        if self.langs is not None:
            row["langs"] = fields.get(self.langs)
        elif self.sides is not None:
            row["langs"] = "-".join(str(fields.get(side) or "").replace("-", "_") for side in self.sides)
        return row | self._further(fields)

    def _by_language(self, fields: dict[str, object], asked: Collection[str]) -> dict[str, object]:
        there = {code: fields[name] for code, name in self.texts.items() if name in fields}
        if self.says_no_direction(asked):
            return {"translation": there}
        one, other = self.texts
        if (other, one) in map(split_pair, asked):
            one, other = other, one
        row = {key: there[code] for key, code in (("src", one), ("ref", other)) if code in there}
        return {**row, "langs": f"{one}-{other}", **self._further(fields)}

    def _further(self, fields: dict[str, object]) -> dict[str, object]:
        return {key: fields[name] for key, name in self.further.items() if fields.get(name) not in (None, "")}


def columns_of(names: Sequence[str]) -> Columns | None:
    """Which columns of these names hold a pair; None where that can't be told."""
    by_name = {_plain_name(name): name for name in reversed(names)}
    source = _first(by_name, SOURCES)
    wanted = tuple(name for name in REFERENCES if not (OF_SYSTEMS & by_name.keys() and name in OUTPUTS))
    reference = _first(by_name, wanted)
    further = {key: by_name[name] for name, key in KEPT.items() if name in by_name}
    score = _first(by_name, SCORES)
    further |= {_plain_name(score): score} if score is not None else {}
    if source is not None and reference is not None:
        sides = next(((by_name[one], by_name[other]) for one, other in SIDES if {one, other} <= by_name.keys()), None)
        return Columns(
            source=source, reference=reference, langs=_first(by_name, PAIRS), sides=sides, texts={}, further=further
        )
    texts = {code: name for name in names if (code := _language(name)) is not None}
    if len(texts) > 2 and texts.get("id", "").lower() == "id":
        del texts["id"]
    further = {key: name for key, name in further.items() if name not in texts.values()}
    return (
        Columns(source=None, reference=None, langs=None, sides=None, texts=texts, further=further)
        if len(texts) >= 2
        else None
    )


def text_columns(columns: Columns) -> frozenset[str]:
    """The columns that hold texts, which may not be empty."""
    named = (columns.source, columns.reference, *columns.texts.values())
    return frozenset(name for name in named if name is not None)


def looks_like_names(cells: Sequence[str]) -> bool:
    """Whether a table's first row seems to name columns, though not in a way that tells what they are."""
    words = {word for cell in cells for word in _plain_name(cell).split("_")}
    return all(cell and len(cell.split()) < 4 for cell in cells) and bool(words & _NAMING)


_NAMING = frozenset(
    {
        "src",
        "source",
        "tgt",
        "trg",
        "target",
        "ref",
        "reference",
        "text",
        "sentence",
        "lang",
        "language",
        "translation",
        "translated",
        "original",
        "segment",
        "column",
        "col",
        "input",
        "output",
        "mt",
    }
)


def _plain_name(name: str) -> str:
    return "_".join(name.strip().lower().replace("-", " ").replace("_", " ").split())


def _first(by_name: dict[str, str], wanted: Sequence[str]) -> str | None:
    return next((by_name[name] for name in wanted if name in by_name), None)


def _language(name: str) -> str | None:
    """The code of a column that is named by a language: "en", "pt_BR", "deu_Latn", "German"."""
    try:
        return normalise_language(name)
    except UnknownLanguage:
        return next((code for code, spelt in LANGUAGE_NAMES.items() if spelt.lower() == name.strip().lower()), None)
