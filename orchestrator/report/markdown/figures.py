"""The figures of a page by name, with what each means, and for one that was not measured the reason."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from orchestrator.report.markdown.content import PageContent, training_tokens
from orchestrator.report.markdown.figure import Figure, of
from orchestrator.report.markdown.references import above_uniform
from orchestrator.report.markdown.speeds import packed_speed, structured_speed
from orchestrator.report.markdown.syntax import percent
from orchestrator.results.answers import Kept
from orchestrator.results.points import Point
from orchestrator.results.step_labels import short_label
from workers.plan.evaluation_plan import RACED_SPLIT
from workers.scoring.metrics import worst

# Share of the baseline's quality on the mean -> what the pair that keeps least must keep.
LEVELS: dict[int, float | None] = {99: 0.98, 98: 0.96, 95: None}
GAP_FROM, GAP_TO = 2.0, 10.0
CHRF = "chrf"
ESTIMATES = (
    "Shares count as measured; their 95 % paired intervals stand in the table, and the figures that end in `_low` ask "
    "the same of the intervals' lower ends. Only models that may stand on the frontier count."
)


def figures(content: PageContent) -> dict[str, Figure]:
    """Every figure by its name."""
    return {
        "trials": of(
            len(content.ledger.on(RACED_SPLIT)), "candidates that the search tried on dev, the baseline included", ""
        ),
        "gpu_minutes": _gpu_minutes(content),
        **_baselines(content),
        **_smallest(content),
        "largest_gap_factor_2_to_10": _gap(content),
        "points_above_uniform_share": _above_uniform(content),
        "control_arm_chrf_mean": _control_arm(content),
        "packed_speed_ratio_b64_at_3x": packed_speed(content),
        "structured_speed_ratio_at_98": structured_speed(content),
    }


def points_json(content: PageContent) -> list[dict[str, object]]:
    """The points that are shown, from the largest, with their figures."""
    return [_point_json(content, point) for point in content.shown]


def controls_json(content: PageContent) -> list[dict[str, object]]:
    """The control arms that were tried, and what trained points keep of each."""
    return [
        {
            "trial": arm.record.number,
            "steps": arm.record.candidate.describe(),
            "judged_on": arm.split,
            "score_mean": None if arm.tuned is None else arm.tuned.quality,
            "of_untouched": None if arm.of_untouched is None else _kept_json(arm.of_untouched),
            "failure": None if arm.failure is None else arm.failure.message,
            "points": [
                {
                    "trial": one.number,
                    "of_untouched": _kept_json(one.of_untouched),
                    "of_tuned": _kept_json(one.of_tuned),
                    "worst_pair_of_tuned": _kept_json(one.worst_of_tuned),
                }
                for one in arm.compared
            ],
        }
        for arm in content.controls.arms
    ]


def _point_json(content: PageContent, point: Point) -> dict[str, object]:
    there, kept = content.on_judged(point), content.kept(point)
    scores = {} if there is None else there.measurement.scores
    return {
        "trial": point.record.number,
        "candidate": short_label(point.record.candidate),
        "steps": point.steps,
        "on_frontier": point.on_frontier,
        "ratio": point.ratio,
        "bytes": point.bytes,
        "predicted_bytes": point.record.predicted_bytes,
        "scores": {name: {pair: one.value for pair, one in by_pair.items()} for name, by_pair in scores.items()},
        "scores_mean": {} if there is None else {name: there.measurement.overall(name) for name in scores},
        "kept_mean": _kept_json(kept[0]) if kept else None,
        "kept_worst_pair": _kept_json(kept[1]) if kept else None,
        "training_tokens": training_tokens(point),
        f"{content.clock.lower()}_minutes": content.minutes(point),
        "expected": dict(point.record.why) or None,
        "tokens_s": dict(point.speed.tokens_s) if point.speed else None,
    }


def _kept_json(kept: Kept) -> dict[str, object]:
    found: dict[str, object] = {"share": kept.share}
    if kept.interval is not None:
        found |= {"low": kept.interval.low, "high": kept.interval.high}
    return found | ({"pair": kept.pair} if kept.pair else {})


def _gpu_minutes(content: PageContent) -> Figure:
    minutes = content.minutes_of(content.ledger.of_all_splits)
    about = "GPU-minutes of all trials: profile, search, control arms, held-out test and timing"
    on_gpu = bool(content.cost.gpu_hours)
    return of(minutes if on_gpu else None, about, f"no trial held a GPU; workers took {minutes:.1f} minutes")


def _baselines(content: PageContent) -> dict[str, Figure]:
    baseline, zero, where = content.judged.baseline, content.zero_shot, content.where
    by_pair = {}
    if baseline is not None:
        by_pair = {pair: one.value for pair, one in baseline.measurement.scores.get(CHRF, {}).items()}
    why = f"the baseline has no chrF on {where}"
    return {
        "baseline_chrf_mean": of(
            sum(by_pair.values()) / len(by_pair) if by_pair else None,
            f"the baseline's chrF on {where}, the mean over language pairs",
            why,
        ),
        "baseline_chrf_worst": of(
            by_pair[worst(CHRF, by_pair)] if by_pair else None,
            f"the baseline's chrF on {where}, of its worst language pair",
            why,
        ),
        "zero_shot_chrf_mean": of(
            None if zero is None else zero.scores.get(CHRF),
            f"chrF on {where} of the model that the baseline was made of, before that",
            "the study made no baseline of another model" if zero is None else "that model was not measured there",
        ),
    }


def _smallest(content: PageContent) -> dict[str, Figure]:
    found: dict[str, Figure] = {}
    for level, of_worst in LEVELS.items():
        share, least = level / 100, of_worst or 0.0
        asked = f"at least {level} % of the baseline's quality on the mean over language pairs"
        asked += f", and at least {percent(least, 0)} on the pair of which it keeps least" if of_worst else ""
        name, head = f"smallest_ratio_at_{level}", f"the ratio of the smallest model that keeps, on {content.where},"
        found |= {
            name: _best(content, _at_least(share, least), f"{head} {asked}"),
            f"{name}_worst": _best(
                content, _at_least(0.0, share), f"{head} at least {level} % on the pair of which it keeps least"
            ),
            f"{name}_low": _best(
                content, _at_least(share, least, _low), f"{head} {asked}: by the lower ends of the 95 % intervals"
            ),
        }
    return found


def _at_least(
    mean: float, pair: float, value: Callable[[Kept], float] = lambda kept: kept.share
) -> Callable[[Kept, Kept], bool]:
    return lambda on_mean, on_pair: value(on_mean) >= mean and value(on_pair) >= pair


def _low(kept: Kept) -> float:
    return kept.interval.low if kept.interval is not None else 0.0


def _best(content: PageContent, keeps: Callable[[Kept, Kept], bool], about: str) -> Figure:
    ratios = [mean.point.ratio for mean, pair in content.standing if keeps(mean, pair)]
    return of(max(ratios, default=None), about, "no compressed model keeps so much")


def _gap(content: PageContent) -> Figure:
    ratios = sorted(point.ratio for point in content.dev.frontier if point.steps and GAP_FROM <= point.ratio <= GAP_TO)
    between = f"{GAP_FROM:g} to {GAP_TO:g} times smaller than the baseline"
    span = f"; they span {ratios[0]:.2f} to {ratios[-1]:.2f}" if ratios else ""
    return of(
        max((after / before for before, after in pairwise(ratios)), default=None),
        f"the largest factor between the sizes of neighbours on the frontier, of points {between}{span}",
        f"fewer than two points of the frontier are {between}",
    )


def _above_uniform(content: PageContent) -> Figure:
    above = above_uniform(content)
    found = "" if above is None else f"; {above.above} of {above.of} points, on {above.split}"
    return of(
        None if above is None else above.above / above.of,
        "share of the frontier's compressed points above the line, in log bytes and quality, through uniform rounding "
        "alone (rtn, bitsandbytes) and the baseline; a point that is smaller than all of these, and not better, can't "
        f"be compared and does not count{found}",
        "no uniform rounding alone was measured in full, or no point of the frontier can be compared with it",
    )


def _control_arm(content: PageContent) -> Figure:
    controls = content.controls
    arm = next((arm for arm in controls.arms if arm.tuned is not None), None)
    where = "" if arm is None else f", on {'the held-out test' if arm.split == 'test' else 'dev'}"
    return of(
        None if arm is None or arm.tuned is None else arm.tuned.measurement.overall(CHRF),
        f"chrF of the uncompressed model after the training of the best trained point{where}",
        controls.why or ("the control arm failed" if controls.arms else "no point that stands was trained"),
    )
