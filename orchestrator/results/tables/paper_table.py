"""A run's points as a table for a paper or a pull request: LaTeX, Markdown, CSV or JSON, the same numbers in all."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.number_format import NONE, Unit, interval_text, metric_name, ratio_text
from orchestrator.results.answers import Kept
from orchestrator.results.control import ControlArms
from orchestrator.results.labels import score_of, signatures_of, unit_for
from orchestrator.results.points import Point, Results
from orchestrator.results.step_labels import short_label
from search_spaces.errors import StudyError

FRONTIER, ALL = "frontier", "all"
DEV, TEST = "dev", "test"
SIGNATURES = "signatures"
# What pdflatex would take for a command, or has no glyph for in text.
LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"{\char34}",
    "`": r"\textasciigrave{}",
    "\N{MINUS SIGN}": "$-$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{EM DASH}": "---",
    "\N{RIGHTWARDS ARROW}": r"$\rightarrow$",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A point of the table. judged: the same candidate on the data that the table is of; None where it was not scored
    there. baseline: the uncompressed model on the same data. of_tuned: what it keeps of its control arm, which is that
    model trained as the point was."""

    point: Point
    judged: Point | None
    baseline: Point | None
    unit: Unit
    of_tuned: Kept | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """heading: for a metric and a unit. values: name -> value, for programs; several where one cell shows several.
    shown: for people."""

    heading: Callable[[str, Unit], str]
    values: Callable[[Row], Mapping[str, object]]
    shown: Callable[[Row], str]
    is_text: bool = False


def _kept(row: Row) -> float | None:
    if row.judged is None or row.baseline is None or row.baseline.quality <= 0:
        return None
    return row.judged.quality / row.baseline.quality


def _bound(row: Row, end: str) -> float | None:
    interval = row.judged.interval if row.judged is not None and row.judged.steps else None
    return None if interval is None else float(getattr(interval, end))


def _worst(row: Row) -> tuple[str, float] | None:
    return None if row.judged is None else row.judged.measurement.worst_pair(row.judged.metric)


def _tokens_s(row: Row) -> Mapping[int, float]:
    return row.point.speed.tokens_s if row.point.speed else {}


def _shown(value: float | None, form: str) -> str:
    return NONE if value is None else form.format(value)


COLUMNS: dict[str, Column] = {
    "trial": Column(
        lambda metric, unit: "Trial",
        lambda row: {"trial": row.point.record.number},
        lambda row: str(row.point.record.number),
    ),
    "label": Column(
        lambda metric, unit: "Candidate",
        lambda row: {"label": short_label(row.point.record.candidate)},
        lambda row: short_label(row.point.record.candidate),
        is_text=True,
    ),
    "steps": Column(
        lambda metric, unit: "Steps",
        lambda row: {"steps": row.point.steps},
        lambda row: row.point.label,
        is_text=True,
    ),
    "bytes": Column(
        lambda metric, unit: unit.name,
        lambda row: {"bytes": row.point.bytes},
        lambda row: f"{row.unit.of(row.point.bytes):,.2f}",
    ),
    "ratio": Column(
        lambda metric, unit: "Ratio",
        lambda row: {"ratio": row.point.ratio if math.isfinite(row.point.ratio) else None},
        lambda row: ratio_text(row.point.ratio),
    ),
    "quality": Column(
        lambda metric, unit: metric,
        lambda row: {"quality": None if row.judged is None else row.judged.quality},
        lambda row: _shown(None if row.judged is None else row.judged.quality, "{:.2f}"),
    ),
    "kept": Column(
        lambda metric, unit: "Kept",
        lambda row: {"kept": _kept(row)},
        lambda row: _shown(_kept(row), "{:.1%}"),
    ),
    "kept_of_tuned": Column(
        lambda metric, unit: "Kept of the tuned",
        lambda row: {"kept_of_tuned": None if row.of_tuned is None else row.of_tuned.share},
        lambda row: _shown(None if row.of_tuned is None else row.of_tuned.share, "{:.1%}"),
    ),
    "interval": Column(
        lambda metric, unit: "95 % interval",
        lambda row: {"low": _bound(row, "low"), "high": _bound(row, "high")},
        lambda row: NONE if _bound(row, "low") is None or row.judged is None else interval_text(row.judged.interval),
    ),
    "worst_pair": Column(
        lambda metric, unit: "Worst pair",
        lambda row: dict(zip(("worst_pair_name", "worst_pair"), _worst(row) or (None, None), strict=True)),
        lambda row: NONE if (worst := _worst(row)) is None else f"{worst[0]} {worst[1]:.2f}",
    ),
    "tokens_s": Column(
        lambda metric, unit: "Tokens/s",
        lambda row: {"tokens_s": max(_tokens_s(row).items())[1] if _tokens_s(row) else None},
        lambda row: _shown(max(_tokens_s(row).items())[1] if _tokens_s(row) else None, "{:,.0f}"),
    ),
    "on_frontier": Column(
        lambda metric, unit: "Frontier",
        lambda row: {"on_frontier": row.point.on_frontier},
        lambda row: "yes" if row.point.on_frontier else "no",
    ),
    "reference": Column(
        lambda metric, unit: "Reference",
        lambda row: {"reference": row.point.is_reference},
        lambda row: "yes" if row.point.is_reference else "no",
    ),
}
USUAL = ("label", "bytes", "ratio", "quality", "kept", "kept_of_tuned", "interval", "worst_pair", "tokens_s")
# Left out of them where no row has it.
WHERE_MEASURED: dict[str, Callable[[Row], bool]] = {
    "tokens_s": lambda row: bool(_tokens_s(row)),
    "kept_of_tuned": lambda row: row.of_tuned is not None,
}


def column_of(name: str) -> Column:
    """A column by its name; any other name is a metric."""
    if name in COLUMNS:
        return COLUMNS[name]

    def score(row: Row) -> float | None:
        return None if row.judged is None else score_of(row.judged, name)

    return Column(
        lambda metric, unit: metric_name(name), lambda row: {name: score(row)}, lambda row: _shown(score(row), "{:.2f}")
    )


@dataclass(frozen=True, slots=True)
class PaperTable:
    """What a table is made of. of: "dev" or "test", the data that its scores are of."""

    rows: tuple[Row, ...]
    columns: Mapping[str, Column]
    metric: str
    of: str
    unit: Unit
    title: str
    signatures: tuple[tuple[str, str, str], ...]
    """(metric, pairs, signature)."""

    @property
    def headings(self) -> list[str]:
        return [column.heading(metric_name(self.metric), self.unit) for column in self.columns.values()]

    @property
    def caption(self) -> str:
        """What the numbers are, and of which data."""
        data = "the held-out test" if self.of == TEST else "dev, on which the search selected"
        said = f"{self.title}: {metric_name(self.metric)} on {data}, the mean over language pairs"
        if "interval" in self.columns:
            said += "; the interval is of the difference from the baseline (paired bootstrap over documents)"
        if "kept_of_tuned" in self.columns:
            said += "; the tuned is the uncompressed model after the point's own training"
        if "tokens_s" in self.columns:
            batches = {max(_tokens_s(row)) for row in self.rows if _tokens_s(row)}
            said += f"; tokens a second at a batch of {', '.join(map(str, sorted(batches)))}" if batches else ""
        return f"{said}."

    @property
    def signature_lines(self) -> list[str]:
        return [f"{metric_name(metric)} ({pairs}): {signature}" for metric, pairs, signature in self.signatures]


def paper_table(
    title: str,
    dev: Results,
    test: Results | None,
    pick: str = FRONTIER,
    columns: Sequence[str] = (),
    of: str | None = None,
    controls: ControlArms | None = None,
) -> PaperTable:
    """The table of some points of a run.

    pick: "frontier" (the baseline and the frontier), "all", or trial numbers with commas. columns: names of `COLUMNS`,
    or metrics; none is `USUAL`, without what nobody measured. of: "dev" or "test"; None is the test where there is one.
    controls: the run's control arms.
    Raises StudyError for what the run does not have.
    """
    if of == TEST and test is None:
        raise StudyError("this run has no held-out scores; say --split dev")
    results = dev if test is None or of == DEV else test
    judged = {point.record.candidate.digest: point for point in results.points}
    unit = unit_for(dev.points)
    of = DEV if results is dev else TEST
    of_tuned = {
        one.number: one.of_tuned
        for arm in (controls.arms if controls else ())
        if arm.split == of
        for one in arm.compared
    }
    rows = tuple(
        Row(
            point,
            judged.get(point.record.candidate.digest),
            results.baseline,
            unit,
            of_tuned.get(point.record.number),
        )
        for point in picked(dev, pick)
    )
    names = list(columns) or [
        name for name in USUAL if name not in WHERE_MEASURED or any(map(WHERE_MEASURED[name], rows))
    ]
    if unknown := [name for name in names if name not in COLUMNS and name not in results.metrics]:
        raise StudyError(f"there is no column {unknown[0]!r}; there are {', '.join([*COLUMNS, *results.metrics])}")
    shown = {results.metric, *(name for name in names if name in results.metrics)}
    scored = [Results(tuple(row.judged for row in rows if row.judged), (), metric=results.metric)]
    return PaperTable(
        rows=rows,
        columns={name: column_of(name) for name in names},
        metric=results.metric,
        of=of,
        unit=unit,
        title=title,
        signatures=tuple(one for one in signatures_of(scored) if one[0] in shown),
    )


def picked(dev: Results, pick: str) -> list[Point]:
    """The points that a pick names; raises StudyError for a trial that was not measured in full."""
    if pick == ALL:
        return dev.best_first
    if pick == FRONTIER:
        return [point for point in dev.best_first if point.on_frontier or not point.steps]
    there = {point.record.number: point for point in dev.points}
    found = []
    for word in pick.split(","):
        number = int(word) if word.strip().isdecimal() else None
        if number not in there:
            numbers = ", ".join(map(str, sorted(there))) or "none"
            raise StudyError(
                f"--pick {word.strip()}: no such trial was measured in full; it takes {FRONTIER}, {ALL}, or trials "
                f"with commas, of {numbers}"
            )
        found.append(there[number])
    return found


def as_markdown(table: PaperTable) -> str:
    """A table as GitHub reads it, the caption and the signatures below it."""

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    rule = ["---" if column.is_text else "---:" for column in table.columns.values()]
    body = [[escape_markdown(column.shown(row)) for column in table.columns.values()] for row in table.rows]
    lines = [line([escape_markdown(one) for one in table.headings]), line(rule), *map(line, body), ""]
    lines += [escape_markdown(table.caption), "", *(f"`{signature}`  " for signature in table.signature_lines)]
    return "\n".join(lines).rstrip() + "\n"


def as_latex(table: PaperTable) -> str:
    """A table for a document that loads booktabs; every text is escaped, so that it compiles."""
    kinds = "".join("l" if column.is_text else "r" for column in table.columns.values())
    caption = escape_latex(table.caption)
    bar = LATEX["|"]
    signatures = "; ".join(escape_latex(line) for line in table.signature_lines).replace(bar, rf"{bar}\allowbreak{{}}")

    def line(cells: Sequence[str]) -> str:
        return f"{' & '.join(map(escape_latex, cells))} \\\\"

    body = [line([column.shown(row) for column in table.columns.values()]) for row in table.rows]
    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption}{f' {signatures}.' if signatures else ''}}}",
            rf"\begin{{tabular}}{{{kinds}}}",
            r"\toprule",
            line(table.headings),
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def as_csv(table: PaperTable) -> str:
    """A row a point; one cell of people's tables is several columns where it shows several numbers. The last column is
    the signatures."""
    signatures = "; ".join(table.signature_lines)
    rows = [{**_values(table, row), SIGNATURES: signatures} for row in table.rows]
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _for_csv(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def as_json(table: PaperTable) -> str:
    """An object of `metric`, `split`, `caption`, `signatures` and `rows`."""
    record = {
        "metric": table.metric,
        "split": table.of,
        "caption": table.caption,
        SIGNATURES: [dict(zip(("metric", "pairs", "signature"), one, strict=True)) for one in table.signatures],
        "rows": [_values(table, row) for row in table.rows],
    }
    return json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


FORMATS: dict[str, Callable[[PaperTable], str]] = {
    "markdown": as_markdown,
    "latex": as_latex,
    "csv": as_csv,
    "json": as_json,
}


def escape_latex(text: str) -> str:
    """The text as LaTeX sets it: no character is a command, and none that can be printed is lost."""
    printed = "".join(character for character in " ".join(text.split()) if character.isprintable())
    return "".join(LATEX.get(character, character) for character in printed)


def _values(table: PaperTable, row: Row) -> dict[str, object]:
    return {name: value for column in table.columns.values() for name, value in column.values(row).items()}


def _for_csv(value: object) -> object:
    """As `frontier.csv` writes it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return int(value)
    return f"{value:.6f}" if isinstance(value, float) else value


def escape_markdown(text: str) -> str:
    """The text, in one line, without what Markdown, its mathematics or HTML would take for its own."""
    escaped = "".join(f"\\{character}" if character in "\\`*_[]<>|#~$&" else character for character in text)
    return " ".join(escaped.split())
