"""What numbers were taken under: data, decoding, prompt, device and versions."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from workers.plan.evaluation_plan import EvaluationPlan
from workers.reading.segments import DataSet
from workers.translation.decoding import Hypothesis
from workers.translation.prompts import Prompt

DISTRIBUTIONS = ("torch", "transformers", "bitsandbytes", "compressed-tensors", "sacrebleu")


def conditions(
    dataset: DataSet,
    plan: EvaluationPlan,
    prompt: Prompt,
    devices: Sequence[Any],
    hypotheses: Sequence[Hypothesis] = (),
) -> dict[str, str]:
    """What the numbers were taken under. devices: that the model lies on. hypotheses: of how many a block of thinking
    was cut is said where of any."""
    thought = sum(one.thought for one in hypotheses)
    return {
        "data": f"{dataset.name} sha256:{dataset.digest[:16]}",
        "decoding": f"{plan.decoding.search}, at most {plan.decoding.max_new_tokens} new tokens, "
        f"batch {plan.decoding.batch_size}",
        "prompt": prompt.name,
        **({"chat template": prompt.passed} if prompt.passed else {}),
        **({"thinking": f"cut from {thought:,} of {len(hypotheses):,} hypotheses"} if thought else {}),
        "seed": str(plan.seed),
        "device": device_name(*devices),
        "python": platform.python_version(),
        **installed_versions(DISTRIBUTIONS),
    }


def installed_versions(names: Sequence[str]) -> dict[str, str]:
    """The versions of those distributions that are installed here."""
    found: dict[str, str] = {}
    for name in names:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def device_name(*devices: Any) -> str:
    """What the numbers were taken on: the GPUs by name, each kind with its number where there are several, or the CPU's
    thread count."""
    import torch

    names = [torch.cuda.get_device_name(one) for one in devices if str(one).startswith("cuda")]
    if not names:
        return f"cpu ({torch.get_num_threads()} threads)"
    kinds = Counter(names)
    return ", ".join(f"{count} × {name}" if count > 1 else name for name, count in kinds.items())
