"""The card of a kept model, in Markdown: what it is, what it costs in quality, on what data, and how to load it."""

from __future__ import annotations

from pathlib import Path

from orchestrator.number_format import interval_text, metric_name, ratio_text, spell_bytes
from orchestrator.results.points import Dropped, Point
from orchestrator.results.step_labels import short_label
from search_spaces.candidate import Candidate


def model_card(found: Point | Dropped, baseline: Point | None, folder: Path, origin: str | None = None) -> str:
    """The card of a trial's model. baseline: the uncompressed model. folder: where the model lies. origin: what the
    study's model was before it was read, such as a GGUF file.

    Scores are of the data that the search selected on, and of the held-out data where it was scored there too.
    """
    candidate = found.record.candidate
    lines = [
        # A list of versions shows the first words alone.
        f"Trial {found.record.number}, {spell_bytes(found.bytes)}: {short_label(candidate)}",
        "",
        f"Of {candidate.base.name} ({candidate.base.revision}), {ratio_text(found.ratio)} smaller, all files counted."
        + (f" That model was read from {origin}." if origin else ""),
        "",
        *_scores(found, baseline),
        *_standing(found),
        "",
        "Made in this order:",
        "",
        *listed_steps(candidate),
        "",
        f"The weights are in `{folder}`, and no copy is in MLflow. Its README.md says what loads it without mtpareto; "
        "after `mtpareto mirror RUN` `mlflow.pyfunc.load_model` takes it too.",
        "",
        "```python",
        "from mtpareto import load_model, load_tokenizer",
        "",
        f"folder = {str(folder)!r}",
        "model, tokenizer = load_model(folder), load_tokenizer(folder)",
        "```",
    ]
    return "\n".join(lines)


def _scores(found: Point | Dropped, baseline: Point | None) -> list[str]:
    if isinstance(found, Dropped):
        return [f"It was not measured on all segments: {found.why}."]
    metric = metric_name(found.metric)
    rows = [f"| Data | {metric} | Uncompressed | Difference, 95 % |", "|---|---|---|---|"]
    on_test = baseline.held_out if baseline is not None else None
    for split, point, usual in (("dev", found, baseline), ("test, held out", found.held_out, on_test)):
        if point is None:
            continue
        data = point.measurement.conditions.get("data", split)
        other = "" if usual is None else f"{usual.quality:.2f}"
        rows.append(f"| {split}: {data} | {point.quality:.2f} | {other} | {interval_text(point.interval)} |")
    return rows


def _standing(found: Point | Dropped) -> list[str]:
    if isinstance(found, Dropped):
        return []
    if found.kept_off:
        return ["", f"It may not stand on the frontier: {'; '.join(found.kept_off)}."]
    if found.tie is not None:
        return ["", f"It is not told apart from trial {found.tie.number}, which is no larger."]
    return ["", "It is on the frontier."] if found.on_frontier else []


def listed_steps(candidate: Candidate) -> list[str]:
    """The steps as a numbered list in Markdown."""
    return [f"{number}. `{step.describe()}`" for number, step in enumerate(candidate.steps, start=1)]
