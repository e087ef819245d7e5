"""What a study calibrates on: read, kept apart from what selects and what judges, and known again on resume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.ledger.lines import StudyHeader
from orchestrator.study.coverage import coverage, in_directions, serving
from orchestrator.study.shipped import SHIPPED_CALIBRATION
from orchestrator.study.spec import StudySpec
from orchestrator.study.splits import SHOWN, more, quote_sources, shorten, spell_left_out, without
from search_spaces.candidate import digest_of
from search_spaces.errors import StudyError
from search_spaces.methods.pruners import TrimVocabulary
from search_spaces.spaces.registry import SPACES
from search_spaces.wording import pluralize
from workers.languages.codes import split_pair
from workers.languages.detection import languages_without_text
from workers.reading.binary_tables import table_kind
from workers.reading.dataset import read_datasets
from workers.reading.errors import DataError, RowFault
from workers.reading.files import decode, read_content, split_lines
from workers.reading.rows import is_array, starts_with_object
from workers.reading.segments import DataSet
from workers.reading.text_tables import layout_of

# Language pairs that one line names.
MOST_NAMED = 6


@dataclass(frozen=True, slots=True)
class Calibration:
    """A study's calibration data, and what it lacks."""

    pairs: DataSet
    """Pairs for methods that look at activations."""
    text: tuple[str, ...] = ()
    """Lines to take statistics over instead, often none."""
    missing: tuple[str, ...] = ()
    """Directions of the study that no pair serves."""
    unseen: tuple[str, ...] = ()
    """Languages of the study that are missing from what tokens are counted in: the text, or else the pairs."""
    lines_left_out: int = 0
    """How many lines of the text were left out because the study measures on them."""
    by_direction: DataSet | None = None
    """The pairs that a study took before pairs of the other direction served too."""

    def identity(self) -> dict[str, str]:
        """What decides the artefacts: the content of both."""
        return {"pairs": self.pairs.digest, "text": digest_of(list(self.text))}

    def as_begun(self, header: StudyHeader) -> Calibration:
        """The same as a study began with it: with the pairs that were taken then, and, where nobody asked yet what
        these lack, as if they lacked nothing, for what it has tried of vocabularies."""
        before = self.by_direction
        begun = before is not None and header.get("calibration", {}).get("pairs") == before.digest
        pairs = before if begun and before is not None else self.pairs
        return replace(self, pairs=pairs, unseen=self.unseen if "unseen" in header else ())

    def told(self, spec: StudySpec) -> list[str]:
        """What a person should know of it before the search, a line each."""
        lines = spell_left_out(self.pairs)
        if self.lines_left_out:
            lines.append(
                f"calibration_text: {pluralize(self.lines_left_out, 'line')} left out that the study measures on"
            )
        there, unseen = list_pairs(self.pairs.pairs), ", ".join(self.unseen)
        if self.missing and not self.text:
            lines.append(
                f"warning: no calibration pair is in {list_pairs(self.missing)} (they are in {there}): there, "
                "statistics of activations come from other languages; name pairs of these with --calibration"
            )
        if self.unseen and self.text:
            lines.append(f"warning: calibration_text has next to nothing in {unseen}: what methods take from it is not")
        if self.unseen and SPACES[spec.space].trims_vocabulary:
            lines.append(
                f"smaller vocabularies are not tried: the calibration data have no text in {unseen}, so they can't "
                "tell which of its tokens may go"
            )
        return lines


def read_calibration(spec: StudySpec, data: Mapping[str, DataSet], begun: StudyHeader | None = None) -> Calibration:
    """The study's calibration pairs and text. begun: the header of the ledger of a study that goes on, which is refused
    no more for what its data lack.

    Pairs that serve the directions of the study's data are taken (`coverage.serving`), all of them where none does.
    Raises DataError for a bad file; StudyError where there are no pairs, where one of them is in the study's data
    (unless bad rows are skipped: then these are left out), and where the vocabulary is to be trimmed by pairs or text
    that lack a language of the study.
    """
    files = spec.calibration_files or ((str(SHIPPED_CALIBRATION),) if SHIPPED_CALIBRATION.is_file() else ())
    if not files:
        raise StudyError(
            f"the space {spec.space} has methods that look at activations, and there are no calibration pairs; name a "
            "file of source and reference pairs in the study's languages with --calibration"
        )
    wanted = {segment.langs for dataset in data.values() for segment in dataset.segments}
    whole = _apart(read_datasets(files, skip_bad_rows=spec.skip_bad_rows), wanted, data, spec.skip_bad_rows)
    lines = read_text(Path(spec.calibration_text)) if spec.calibration_text else ()
    text = _text_apart(lines, data, spec.skip_bad_rows)
    covered = coverage(whole.segments, wanted)
    languages = {language for langs in wanted for language in split_pair(langs)}
    found = Calibration(
        pairs=serving(whole, wanted),
        text=text,
        missing=covered.missing,
        unseen=tuple(languages_without_text(text, languages)) if text else covered.unseen,
        lines_left_out=len(lines) - len(text),
        by_direction=in_directions(whole, wanted),
    )
    if begun is not None:
        return found.as_begun(begun)
    _refuse_blind_trimming(spec, found)
    return found


def list_pairs(pairs: Sequence[str]) -> str:
    """`en-de, en-cs`, the first few where there are many."""
    return ", ".join(pairs[:MOST_NAMED]) + (f" and {len(pairs) - MOST_NAMED} more" if len(pairs) > MOST_NAMED else "")


def _refuse_blind_trimming(spec: StudySpec, found: Calibration) -> None:
    asked = any(isinstance(step, TrimVocabulary) for steps in spec.given for step in steps)
    if not found.unseen or not (asked or SPACES[spec.space].needs_vocabulary):
        return
    what = "an anchor with trim_vocabulary" if asked else f"the space {spec.space}"
    where = "calibration_text" if found.text else f"the calibration pairs ({list_pairs(found.pairs.pairs)})"
    instead = "such text with --calibration-text" if found.text else "pairs of these languages with --calibration"
    raise StudyError(
        f"{what} keeps the tokens that calibration data use, and {where} have no text in {', '.join(found.unseen)}, "
        f"which the study translates; name {instead}"
    )


def read_text(path: Path) -> tuple[str, ...]:
    """The lines of a UTF-8 text file, plain or gzip, without blank ones; raises DataError for a bad file."""
    lines: list[str] = []
    content = b"" if table_kind(path) is not None else read_content(path)
    if not content or is_array(content) or starts_with_object(content) or layout_of(content, path, named_only=True):
        rule = "running text is one paragraph a line, and this is JSON or a table"
        raise DataError(path, 1, None, rule, "Give pairs with --calibration, or write the texts alone, one a line.")
    for number, raw in enumerate(split_lines(content), start=1):
        try:
            line = decode(raw).strip()
        except RowFault as fault:
            raise DataError(path, number, fault.value, fault.rule, "Save the file as UTF-8.") from None
        if line:
            lines.append(line)
    return tuple(lines)


def refuse_changed_calibration(header: StudyHeader, now: Calibration, folder: Path) -> None:
    """Raise StudyError when a study goes on with another calibration than it began with."""
    if header.get("calibration", now.identity()) != now.identity():
        raise StudyError(
            f"the calibration data of the study in {folder} has changed since it began; put it back, or begin a new "
            "study"
        )


def _apart(pairs: DataSet, wanted: set[str], data: Mapping[str, DataSet], leave_out: bool) -> DataSet:
    """The pairs without those whose source is measured on, whatever the language pair: a translation of it into another
    language gives its content away. So does the reference of a pair that may serve turned round."""
    sources = {segment.source: split for split, dataset in data.items() for segment in dataset.segments}
    shared = [
        pair
        for pair in pairs.segments
        if pair.source in sources or (pair.langs not in wanted and pair.references[0] in sources)
    ]
    if not shared:
        return pairs
    if leave_out and len(shared) < len(pairs.segments):
        return without(pairs, shared, "pairs of sources that are in the study's data")
    splits = list_pairs(sorted({sources.get(pair.source, sources.get(pair.references[0], "")) for pair in shared}))
    raise StudyError(
        f"the calibration and the {splits} data share {pluralize(len(shared), 'source')}: {quote_sources(shared)}; "
        "what a model is calibrated on must not be what it is measured on: take "
        "them out of one, or leave them out with --skip-bad-rows"
    )


def _text_apart(lines: tuple[str, ...], data: Mapping[str, DataSet], leave_out: bool) -> tuple[str, ...]:
    texts = {
        text.strip(): split
        for split, dataset in data.items()
        for segment in dataset.segments
        for text in (segment.source, *segment.references)
    }
    shared = [(number, line) for number, line in enumerate(lines, start=1) if line in texts]
    if not shared or (leave_out and len(shared) < len(lines)):
        return tuple(line for line in lines if line not in texts)
    shown = ", ".join(f"{shorten(line)!r} (its line {number})" for number, line in shared[:SHOWN])
    splits = list_pairs(sorted({texts[line] for _, line in shared}))
    raise StudyError(
        f"calibration_text and the {splits} data share {pluralize(len(shared), 'line')}: {shown}{more(len(shared))}, "
        f"blank lines not counted; what a model is calibrated on must not be what it is measured "
        "on: take them out, or leave them out with --skip-bad-rows"
    )
