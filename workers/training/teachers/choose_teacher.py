"""Which teacher a step asks, and for what: its distribution as training goes or beforehand, or its translations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from search_spaces.errors import StudyError
from search_spaces.methods.trainers import Trainer
from search_spaces.sizes.tensor_table import text_config
from workers.checkpoints.model_files import read_checkpoint, read_config
from workers.plan.compression_context import CompressionContext
from workers.reading.training_data import TrainingData
from workers.runtime.gpu_memory import usable_memory
from workers.training.data.batches import fewest_tokens
from workers.training.data.teacher_translations import TeacherModel
from workers.training.data.tokenized_pairs import TokenizedPairs
from workers.training.preparing import Preparing
from workers.training.teachers.cache import open_cache
from workers.training.teachers.cache_filling import fill_teacher_cache, rows_read
from workers.training.teachers.teacher import CachedTeacher, LiveTeacher, Teacher, live_teacher
from workers.translation.decoding import Decoding

# Padded tokens of a micro-batch to begin with; the training makes do with fewer when memory runs out.
CPU_MICRO_TOKENS = 4096
GPU_MICRO_TOKENS = (1024, 16_384)
# Bytes that a token's activations take in a layer, for each unit of the hidden size (LoRA, H100: 43 at 7 billion
# parameters, 55 at one; 22 to 25 at 7 billion where layers are compiled), and the share of a GPU's memory that is for
# them.
ACTIVATION_BYTES = {False: 56, True: 26}
ACTIVATION_SHARE = 0.6
# What a share of a GPU holds besides: logits and their gradients, and of the rest so much is left free.
LOGITS_BYTES, LEFT_FREE = 6 * 2**30, 0.1
# Sequences that are translated at a time; fewer where a GPU's memory holds fewer.
CPU_TRANSLATING = 128
GPU_TRANSLATING = 256


@dataclass(frozen=True, slots=True)
class TrainingInputs:
    """What a study gives to a step that trains."""

    data: TrainingData
    store: Path
    teacher: Path


def training_inputs(step: Trainer, context: CompressionContext) -> TrainingInputs:
    """The training data, the store and the teacher's folder; StudyError where the study has none."""
    if context.training is None:
        raise StudyError(
            f"{step.name} trains, and there is nothing to train on; name a file of source and reference pairs with "
            "--training FILE"
        )
    if context.store is None or context.teacher is None:
        raise StudyError(f"{step.name} needs an artefact store and the base model's folder")
    return TrainingInputs(context.training, context.store, context.teacher)


def teacher_for(
    step: Trainer, pairs: TokenizedPairs, context: CompressionContext, columns: torch.Tensor | None = None
) -> Teacher | None:
    """Who is asked for a divergence, on the context's device; None for a loss on given translations.

    A cached teacher is asked beforehand for all that the budget reads and the cache lacks, and then let go; one that
    several processes ask at once stays, and each process asks for its own part. columns: of a live one whose student
    has a part of its tokens (`LiveTeacher`).
    """
    if not step.has_divergence:
        return None
    study = training_inputs(step, context)
    if step.teacher == "live":
        return live_teacher(study.teacher, context.device, context.trust_remote_code, columns)
    about = {"teacher": context.teacher_key, "pairs": pairs.digest, "device": context.device.type}
    cache = open_cache(study.store, about, int(text_config(read_config(study.teacher))["vocab_size"]))
    rows = rows_read(pairs, pairs.budget(step.tokens), step.batch, context.seed)

    def load() -> LiveTeacher:
        return live_teacher(study.teacher, context.device, context.trust_remote_code)

    if context.processes > 1:
        return CachedTeacher(cache, load() if cache.missing(rows) else None)
    padded = micro_tokens(study.teacher, context.device.type)
    told = Preparing(step.name, "teacher's cache", context.report)
    return fill_teacher_cache(
        cache, pairs, rows=rows, load=load, device=context.device, micro_tokens=padded, report=told
    )


def micro_tokens(folder: Path, device_type: str, compiled: bool = False, held: int = 0) -> int:
    """Padded tokens of a micro-batch to begin with, for the model of this folder: what a GPU's memory takes, and of a
    small model enough to be worth telling a GPU of. A process without a GPU that asks for others has them begin with
    the most. compiled: whether its layers will be. held: bytes of weights, gradients and moments."""
    if device_type != "cuda":
        return CPU_MICRO_TOKENS
    checkpoint = read_checkpoint(folder)
    return fitting_tokens(
        checkpoint.parameters,
        checkpoint.layers,
        int(text_config(checkpoint.config)["hidden_size"]),
        usable_memory(),
        compiled,
        held,
    )


def fitting_tokens(
    parameters: int, layers: int, width: int, gpu_bytes: float, compiled: bool = False, held: int = 0
) -> int:
    """The same of a model with so many layers of this hidden size, on a GPU of so much memory."""
    least, most = GPU_MICRO_TOKENS
    most = max(most, fewest_tokens(parameters, torch.device("cuda")))
    free = min(ACTIVATION_SHARE * gpu_bytes, (1 - LEFT_FREE) * (gpu_bytes - held - LOGITS_BYTES))
    return int(min(max(free / (ACTIVATION_BYTES[compiled] * layers * width), least), most))


def translating_teacher(step: Trainer, context: CompressionContext) -> TeacherModel:
    """The teacher as one that translates the training sources."""
    few_shot = context.prompt.name == "few-shot"
    together = GPU_TRANSLATING if context.device.type == "cuda" else CPU_TRANSLATING
    return TeacherModel(
        folder=training_inputs(step, context).teacher,
        key=context.teacher_key,
        prompt=context.prompt,
        decoding=Decoding(batch_size=together, beams=max(step.beams, 1)),
        device=context.device,
        examples=tuple(context.calibration) if few_shot else (),
        trust_remote_code=context.trust_remote_code,
    )
