"""Which metrics a study measures: its quality first, then the others that are always shown beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orchestrator.study.spec import StudySpec
from search_spaces.errors import StudyError, UserError
from workers.comet.environment import comet_python
from workers.comet.files import CHECKPOINT, MODELS, models_folder, refuse_unreachable

ALWAYS = ("chrf", "bleu")


def metrics_of(spec: StudySpec, say: Callable[[str], None], earlier: Sequence[str] | None = None) -> tuple[str, ...]:
    """The study's metrics, the first being its quality. earlier: those that a study which goes on began with.

    COMET as the quality, or by a model that is named, raises UserError where it can't be had. Beside chrF it is
    measured where its usual model is on this machine already; else `say` is told why it is not.
    """
    first = dict.fromkeys((spec.quality, *ALWAYS))
    if spec.quality == "comet" or spec.comet_model is not None:
        refuse_unreachable(spec.comet_model or "comet")
        comet_python()
        return tuple({**first, "comet": None})
    if earlier is not None and "comet" not in earlier:
        return tuple(first)
    try:
        _refuse_absent()
        refuse_unreachable("comet")
        comet_python()
    except UserError as error:
        say(f"COMET is not shown beside chrF: {error}")
        return tuple(first)
    return (*first, "comet")


def _refuse_absent() -> None:
    """Gigabytes are not fetched for a metric that nobody asked for."""
    from huggingface_hub import try_to_load_from_cache

    name = MODELS["comet"]
    cached = try_to_load_from_cache(name, CHECKPOINT)
    if not isinstance(cached, str) and not (models_folder() / name).is_dir():
        raise StudyError(f"{name} is not on this machine; --comet-model {name} fetches it")
