"""The two ways a step's model is trained: in this process, or sharded over several; and work for a GPU elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from search_spaces.candidate import digest_of
from search_spaces.methods.registry import step_to_json
from search_spaces.methods.trainers import Distill, Trainer
from search_spaces.sizes.student_shape import read_student_config
from workers.checkpoints.model_files import read_checkpoint
from workers.loading.load import default_device, is_bitsandbytes, load_tokenizer
from workers.plan.code_version import code_version
from workers.plan.compression_context import CompressionContext
from workers.runtime.artefact_store import TRAINING
from workers.runtime.callbacks import ProgressCallback, ignore_progress
from workers.runtime.training_progress import Trained
from workers.training.data.spelling import Speller
from workers.training.data.tokenized_pairs import TokenizedPairs
from workers.training.held_out_check import folder_chrf, held_out_chrf
from workers.training.loop.compiling import worth_compiling
from workers.training.loop.learner import Learner
from workers.training.loop.one_device import Task, train
from workers.training.losses.vocabularies import vocabulary_rows
from workers.training.model_forms.fake_quantization import StoredLinear
from workers.training.model_forms.trainable import Trainable, finetune_form, form_of
from workers.training.teachers.choose_teacher import micro_tokens, teacher_for, training_inputs
from workers.training.teachers.teacher import LiveTeacher

LayerMap = Mapping[int, int] | None
Answer = TypeVar("Answer")


def with_device(context: CompressionContext, work: Callable[..., Answer], *arguments: Any) -> Answer:
    """What the work, a function that its module names, answers to these arguments and a context with a device.

    A trial whose training is sharded holds no GPU itself; the work is then done in a process that does, and what it
    reports is heard here.
    """
    from workers.runtime.ray_process import with_a_gpu

    if context.processes == 1:
        return work(*arguments, context)
    there = replace(context, report=ignore_progress, processes=1)
    answer: Answer = with_a_gpu(_there, work, arguments, there, report=context.report)
    return answer


def train_alone(
    trained: Trainable,
    out: Path,
    step: Trainer,
    pairs: TokenizedPairs,
    context: CompressionContext,
    layer_map: LayerMap,
) -> Trained:
    """In this process, on the context's device."""
    kept = pairs.held_out
    learner = _learner(trained, step, pairs, context, layer_map)
    compile = worth_compiling(learner.decoder_layers, pairs.budget(step.tokens), context.device)
    # Compiled layers read padded batches. A CPU's work is the tokens' in either form.
    packs = context.device.type == "cuda" and not compile and learner.pack()
    task = Task(
        learner=learner,
        pairs=pairs,
        step=step,
        seed=context.seed,
        device=context.device,
        checkpoints=checkpoints_of(step, pairs, context),
        held_out=(lambda: held_out_chrf(trained, kept, context)) if kept else None,
        report=context.report,
        micro_tokens=micro_tokens(trained.parent, context.device.type, compile, held_bytes(learner)),
        compile=compile,
        # Projections of hidden states are made with the learner.
        beginning=None if step.hidden else partial(_beginning, trained.parent, step, context),
        packs=packs,
    )
    return train(task)


def held_bytes(learner: Learner) -> int:
    """Bytes of a training beside its activations: weights, the teacher's too, gradients and AdamW's two moments."""
    own = list(learner.parameters())
    trained = sum(one.nbytes for one in own if one.requires_grad)
    teacher = learner.teacher.readout.model.parameters() if isinstance(learner.teacher, LiveTeacher) else ()
    return sum(one.nbytes for one in (*own, *teacher)) + 3 * trained


def train_over_processes(
    trained: Trainable,
    out: Path,
    step: Trainer,
    pairs: TokenizedPairs,
    context: CompressionContext,
    layer_map: LayerMap,
) -> Trained:
    """In processes of their own, which share the optimizer's state; the model here then has what they trained. What
    was written is judged afterwards."""
    from workers.runtime.ray_process import has_gpus
    from workers.training.zero.launch import ShardedTraining, train_sharded
    from workers.training.zero.weights import load_trained

    study = training_inputs(step, context)
    of_teacher = read_checkpoint(study.teacher).tensors.values() if step.has_divergence else ()
    parameters = list(trained.model.parameters())
    arguments = {
        "parent": trained.parent,
        "step": step,
        "pairs": pairs,
        "context": replace(context, report=ignore_progress),
        "layer_map": layer_map,
    }
    kept = pairs.held_out
    before = with_device(context, folder_chrf, trained.parent, kept) if kept else None
    done = train_sharded(
        ShardedTraining(
            builder=f"{__name__}:{build_learner.__name__}",
            arguments=arguments,
            pairs=pairs,
            step=step,
            seed=context.seed,
            processes=context.processes,
            trained=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
            parameters=sum(one.numel() for one in parameters),
            teacher=sum(tensor.parameters for tensor in of_teacher),
            packed=is_bitsandbytes(trained.parent)
            or any(isinstance(module, StoredLinear) for module in trained.base.modules()),
            checkpoints=checkpoints_of(step, pairs, context),
            out=out / "trained",
            micro_tokens=micro_tokens(trained.parent, "cuda" if has_gpus() else "cpu"),
        ),
        context.report,
    )
    load_trained(trained.model, out / "trained")
    shutil.rmtree(out / "trained")
    return replace(done, chrf_before=before)


def build_learner(
    device: torch.device,
    *,
    parent: Path,
    step: Trainer,
    pairs: TokenizedPairs,
    context: CompressionContext,
    layer_map: LayerMap,
) -> nn.Module:
    """The learner of this training on a device, the same wherever it is built: what each process of a sharded training
    begins with."""
    here = replace(context, device=device)
    return _learner(form(parent, step, here), step, pairs, here, layer_map)


def form(parent: Path, step: Trainer, context: CompressionContext) -> Trainable:
    """The model of the folder in the form that the step trains it in."""
    if isinstance(step, Distill):
        return finetune_form(parent, context.device, context.trust_remote_code)
    return form_of(step, parent, context.device, context.seed, context.trust_remote_code)


def training_key(step: Trainer, pairs: TokenizedPairs, context: CompressionContext) -> str:
    """Names a training at any budget: its parent, step, data, seed, teacher and code."""
    asked = {name: value for name, value in step_to_json(step).items() if name != "tokens"}
    # A file's content, which the step names by its path alone.
    config = {}
    if isinstance(step, Distill) and step.config:
        config = {"config": digest_of(read_student_config(step.config))}
    return digest_of(
        {
            "parent": context.parent_key,
            "step": asked,
            "pairs": pairs.digest,
            "seed": context.seed,
            "teacher": context.teacher_key,
            "code": code_version([__name__]),
            **config,
        }
    )


def _learner(
    trained: Trainable, step: Trainer, pairs: TokenizedPairs, context: CompressionContext, layer_map: LayerMap
) -> Learner:
    speller = _speller(trained.parent, step, pairs, context)
    teacher = teacher_for(step, pairs, context, None if speller is None else speller.columns)
    with torch.random.fork_rng():
        torch.manual_seed(context.seed)
        learner = Learner(trained.model, step, teacher, layer_map)
    learner.speller = speller
    return learner


def _speller(parent: Path, step: Trainer, pairs: TokenizedPairs, context: CompressionContext) -> Speller | None:
    """For a divergence from a teacher that has other tokens (`vocabularies.refuse_other_vocabulary` let it be)."""
    if not step.has_divergence:
        return None
    folders = (parent, training_inputs(step, context).teacher)
    own, teacher = (load_tokenizer(folder, context.trust_remote_code) for folder in folders)
    rows, theirs = map(vocabulary_rows, folders)
    if rows == theirs and own.get_vocab() == teacher.get_vocab():
        return None
    return Speller(pairs, own, teacher, context.prompt, rows)


def _beginning(parent: Path, step: Trainer, context: CompressionContext) -> dict[str, nn.Parameter]:
    """What a learner of this step trains, by its names, as it begins."""
    named = form(parent, step, context).model.named_parameters()
    return {f"model.{name}": parameter for name, parameter in named if parameter.requires_grad}


def _there(
    work: Callable[..., Answer], arguments: tuple[Any, ...], context: CompressionContext, tell: ProgressCallback
) -> Answer:
    return work(*arguments, replace(context, device=default_device(), report=tell))


def checkpoints_of(step: Trainer, pairs: TokenizedPairs, context: CompressionContext) -> Path:
    """Where the checkpoints of this training lie, at any budget; StudyError where the study has no store."""
    return training_inputs(step, context).store / f"{TRAINING}{training_key(step, pairs, context)}"
