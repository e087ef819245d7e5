"""A COMET model at work, in COMET's own environment: loaded from local files, scoring in batches of like length."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence
from pickle import UnpicklingError
from typing import Any

from search_spaces.errors import StudyError

BATCH = 64

Sample = dict[str, str]


def load(checkpoint: str, hparams: dict[str, Any], encoder: str, on_gpu: bool) -> Any:
    """The model in fp32, in evaluation mode, on the GPU that Ray gave this process or on the CPU.

    As `comet.load_from_checkpoint` does it, but with the encoder's config and tokenizer from `encoder`. The checkpoint
    is read with weights_only, so nothing in it is run; one that needs more is refused with a StudyError.
    """
    # torchmetrics 0.10 imports pkg_resources, which says on every import that it will go.
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated", category=UserWarning)
    import torch
    from comet.models import str2model
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    for name in ("pytorch_lightning", "lightning", "lightning_fabric", "comet"):
        logging.getLogger(name).setLevel(logging.ERROR)
    device = torch.device("cuda" if on_gpu else "cpu")
    if not on_gpu:
        # Ray gives a process that asks for no CPUs one thread.
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    # COMET's issue 244: models marked so were trained with softmax.
    changed = {"layer_transformation": "softmax"} if hparams.get("layer_transformation") == "sparsemax_patch" else {}
    try:
        model = str2model[hparams["class_identifier"]].load_from_checkpoint(
            checkpoint,
            load_pretrained_weights=False,
            pretrained_model=encoder,
            local_files_only=True,
            map_location=torch.device("cpu"),
            strict=False,
            weights_only=True,
            **changed,
        )
    except UnpicklingError as error:
        extra = ", ".join(torch.serialization.get_unsafe_globals_in_checkpoint(checkpoint))
        raise StudyError(
            f"{checkpoint} holds more than tensors and plain values ({extra}), which is not unpickled; save a dict of "
            "its state_dict and hyper_parameters alone, and name that"
        ) from error
    return model.float().eval().to(device)


def score(model: Any, samples: Sequence[Sample], batch: int = BATCH) -> list[float]:
    """The segment scores on the model's own scale, in the order of `samples` ({"src", "mt"} and "ref" where needed).

    A batch that the GPU has no room for is halved. Scores depend on their batch by rounding alone (about 1e-6).
    """
    order = sorted(range(len(samples)), key=lambda at: (-sum(map(len, samples[at].values())), at))
    scores = [0.0] * len(samples)
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        for at, value in zip(part, _scored(model, [samples[at] for at in part]), strict=True):
            scores[at] = value
    return scores


def _scored(model: Any, samples: list[Sample]) -> list[float]:
    import torch

    try:
        with torch.inference_mode():
            inputs = model.transfer_batch_to_device(model.prepare_for_inference(samples), model.device, 0)
            return [float(value) for value in model.predict_step(inputs)["scores"].tolist()]
    except torch.OutOfMemoryError:
        if len(samples) == 1:
            raise
    torch.cuda.empty_cache()
    half = len(samples) // 2
    logging.getLogger(__name__).warning("no room for a batch of %d; halved", len(samples))
    return _scored(model, samples[:half]) + _scored(model, samples[half:])
