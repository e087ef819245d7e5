"""Smaller translation models from Python: search for a frontier, read what a search found, load what it kept.

    import mtpareto

    run = mtpareto.search(mtpareto.Study(data="dev.jsonl", model="haoranxu/ALMA-7B", out="runs/alma"))
    print(run.to_frame())
    folder = run.artefacts[run.frontier[-1].record.number]
    model, tokenizer = mtpareto.load_model(folder), mtpareto.load_tokenizer(folder)

Each name is imported when it is first used, so that `import mtpareto` loads no torch, no Ray and no MLflow.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtpareto.evaluating import evaluate
    from mtpareto.runs import Run, load_run
    from mtpareto.searching import resume, search
    from orchestrator.study.shipped import SHIPPED_MODEL, SHIPPED_SEGMENTS
    from orchestrator.study.spec import StudySpec as Study
    from search_spaces.candidate import BaseModel, Candidate
    from search_spaces.errors import CandidateError, ModelFilesError, StudyError, UserError
    from search_spaces.methods.pruners import (
        Magnitude,
        RemoveChannels,
        RemoveHeads,
        RemoveLayers,
        SparseGPT,
        TrimVocabulary,
        Wanda,
    )
    from search_spaces.methods.quantizers import (
        AWQ,
        FP8,
        GPTQ,
        HQQ,
        RTN,
        W8A8,
        BitsAndBytes,
        MixedWidths,
        QuantizeEmbeddings,
    )
    from search_spaces.methods.trainers import Distill, Finetune, Recover
    from search_spaces.outcome import Failure, Measurement, Speed
    from workers.failures.table import MachineError
    from workers.loading.load import load_model, load_tokenizer
    from workers.reading.errors import DataError

__all__ = [
    "AWQ",
    "FP8",
    "GPTQ",
    "HQQ",
    "RTN",
    "SHIPPED_MODEL",
    "SHIPPED_SEGMENTS",
    "W8A8",
    "BaseModel",
    "BitsAndBytes",
    "Candidate",
    "CandidateError",
    "DataError",
    "Distill",
    "Failure",
    "Finetune",
    "MachineError",
    "Magnitude",
    "Measurement",
    "MixedWidths",
    "ModelFilesError",
    "QuantizeEmbeddings",
    "Recover",
    "RemoveChannels",
    "RemoveHeads",
    "RemoveLayers",
    "Run",
    "SparseGPT",
    "Speed",
    "Study",
    "StudyError",
    "TrimVocabulary",
    "UserError",
    "Wanda",
    "__version__",
    "evaluate",
    "load_model",
    "load_run",
    "load_tokenizer",
    "resume",
    "search",
]

_MODULES = {
    "mtpareto.evaluating": ("evaluate",),
    "mtpareto.runs": ("Run", "load_run"),
    "mtpareto.searching": ("resume", "search"),
    "orchestrator.study.shipped": ("SHIPPED_MODEL", "SHIPPED_SEGMENTS"),
    "search_spaces.candidate": ("BaseModel", "Candidate"),
    "search_spaces.errors": ("CandidateError", "ModelFilesError", "StudyError", "UserError"),
    "search_spaces.methods.pruners": (
        "Magnitude",
        "RemoveChannels",
        "RemoveHeads",
        "RemoveLayers",
        "SparseGPT",
        "TrimVocabulary",
        "Wanda",
    ),
    "search_spaces.methods.quantizers": (
        "AWQ",
        "FP8",
        "GPTQ",
        "HQQ",
        "RTN",
        "W8A8",
        "BitsAndBytes",
        "MixedWidths",
        "QuantizeEmbeddings",
    ),
    "search_spaces.methods.trainers": ("Distill", "Finetune", "Recover"),
    "search_spaces.outcome": ("Failure", "Measurement", "Speed"),
    "workers.failures.table": ("MachineError",),
    "workers.loading.load": ("load_model", "load_tokenizer"),
    "workers.reading.errors": ("DataError",),
}
_WHERE = {name: (module, name) for module, names in _MODULES.items() for name in names}
_WHERE["Study"] = ("orchestrator.study.spec", "StudySpec")


def __getattr__(name: str) -> Any:
    """Import a name of `__all__` when it is first used (PEP 562)."""
    if name == "__version__":
        return version("mtpareto")
    if name not in _WHERE:
        raise AttributeError(f"module 'mtpareto' has no attribute {name!r}")
    module, attribute = _WHERE[name]
    globals()[name] = getattr(importlib.import_module(module), attribute)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted(__all__)
