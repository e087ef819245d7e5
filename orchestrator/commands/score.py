"""`mtpareto score`: sacreBLEU's scores of files of translations, and a paired test when there are several systems."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.commands.score_files import Role, ScoreError, TextFile, read_lines, refuse_unequal
from search_spaces.wording import pluralize
from workers.languages.codes import UnknownLanguage, normalise_language
from workers.scoring.metrics import METRICS, known_metrics

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric

RESAMPLES = 1000
NAMES = {"bleu": "BLEU", "chrf": "chrF", "chrf++": "chrF++", "ter": "TER"}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric's paired test: the first system's score, another's, the p-value of their difference, and how."""

    metric: str
    first: float
    other: float
    p_value: float
    signature: str


def run_score(
    hypotheses: list[Path],
    references: list[Path],
    target: str,
    sources: Path | None,
    metrics: tuple[str, ...] = ("bleu", "chrf", "chrf++", "ter"),
    echo: Callable[[str], None] = print,
) -> None:
    """Print each system's scores with their signatures; with several systems, test each against the first.

    hypotheses: a file a system, a segment a line as text or in JSON. references: a file a reference, all line by line
    with the hypotheses. target: the
    language that decides BLEU's tokenizer. sources: to count hypotheses that only repeat their source. Raises
    ScoreError for files that can't be scored, StudyError for a metric that does not exist.
    """
    language = _known_language(target)
    names = known_metrics(metrics)
    systems, streams = _read_all(hypotheses, "hypotheses"), _read_all(references, "references")
    source = read_lines(sources, "sources") if sources is not None else None
    refuse_unequal([*systems, *streams, *([source] if source else [])])
    echo(
        f"target {language}, {pluralize(len(systems[0].lines), 'segment')}, {pluralize(len(streams), 'reference')} each"
    )
    _warn_of_empty_references(streams, echo)
    for system in systems:
        echo("")
        _print_scores(system, streams, language, names, echo)
        _print_shares(system, source, echo)
    for other in systems[1:]:
        echo("")
        _print_comparison(systems[0], other, compare(systems[0], other, streams, language, names), echo)


def compare(
    first: TextFile, other: TextFile, references: Sequence[TextFile], language: str, names: Sequence[str]
) -> list[Comparison]:
    """sacreBLEU's paired bootstrap test over segments, a metric at a time.

    Koehn 2004, https://aclanthology.org/W04-3250. The seed is sacreBLEU's: 12345, or what the environment's
    SACREBLEU_SEED says; the signature names it.
    """
    from sacrebleu.significance import PairedTest, Result

    comparisons = []
    for name in names:
        test = PairedTest(
            [("first", first.lines), ("other", other.lines)],
            {name: metric_for(name, language)},
            [reference.lines for reference in references],
            test_type="bs",
            n_samples=RESAMPLES,
        )
        signatures, scores = test()
        (key, signature), *_ = signatures.items()
        baseline, result = scores[key]
        if not isinstance(baseline, Result) or not isinstance(result, Result) or result.p_value is None:
            raise TypeError(f"sacreBLEU's paired test gave {baseline!r} and {result!r}; two results were expected")
        comparisons.append(Comparison(name, baseline.score, result.score, result.p_value, signature.format()))
    return comparisons


def metric_for(name: str, language: str) -> Metric:
    """The metric for a target language; raises ScoreError when the language's tokenizer is not installed."""
    try:
        return METRICS[name](language)
    except (ImportError, RuntimeError) as error:
        extra = language.split("_")[0]
        raise ScoreError(
            f"{NAMES[name]} for target {language} needs a tokenizer that can't be loaded "
            f"({' '.join(str(error).split())}). Install it: pip install 'sacrebleu[{extra}]'; or leave the metric out."
        ) from error


def _known_language(target: str) -> str:
    try:
        return normalise_language(target)
    except UnknownLanguage as error:
        raise ScoreError(
            f"--target: {error}; it decides how BLEU cuts words, so give the language code, such as de, ja or zh_TW"
        ) from error


def _read_all(paths: Sequence[Path], role: Role) -> list[TextFile]:
    if not paths:
        raise ScoreError(f"--{role} names no file; give at least one text file, one segment a line")
    return [read_lines(path, role) for path in paths]


def _warn_of_empty_references(streams: Sequence[TextFile], echo: Callable[[str], None]) -> None:
    for stream in streams:
        empty = [number for number, line in enumerate(stream.lines, start=1) if not line]
        if empty:
            echo(
                f"warning: {stream.path} has {pluralize(len(empty), 'empty line')} (the first is line {empty[0]}); "
                "sacreBLEU scores against them as they are"
            )


def _print_scores(
    system: TextFile, streams: Sequence[TextFile], language: str, names: Sequence[str], echo: Callable[[str], None]
) -> None:
    echo(str(system.path))
    for name in names:
        metric = metric_for(name, language)
        score = metric.corpus_score(system.lines, [stream.lines for stream in streams]).score
        echo(f"  {NAMES[name]:<7} {score:6.2f}  {metric.get_signature().format()}")


def _print_shares(system: TextFile, source: TextFile | None, echo: Callable[[str], None]) -> None:
    if source is None:
        return
    copied = sum(
        bool(line) and line.strip() == given.strip() for line, given in zip(system.lines, source.lines, strict=True)
    )
    empty = sum(not line for line in system.lines)
    for name, count in (("copied", copied), ("empty", empty)):
        echo(f"  {name:<7} {100 * count / len(system.lines):6.2f} %  ({count:,} of {len(system.lines):,} hypotheses)")


def _print_comparison(
    first: TextFile, other: TextFile, comparisons: Sequence[Comparison], echo: Callable[[str], None]
) -> None:
    echo(f"{other.path} against {first.path}: paired bootstrap over segments, {RESAMPLES:,} resamples")
    echo(f"  {'':<7} {'first':>6}  {'second':>6}  {'difference':>10}  {'p-value':>7}")
    for row in comparisons:
        difference = f"{row.other - row.first:+.2f}"
        echo(f"  {NAMES[row.metric]:<7} {row.first:6.2f}  {row.other:6.2f}  {difference:>10}  {row.p_value:7.4f}")
    for row in comparisons:
        echo(f"  {NAMES[row.metric]:<7} {row.signature}")
