"""Distillation into a smaller student, which begins as what is most important of its parent."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from search_spaces.methods.trainers import Distill
from workers.checkpoints.model_files import read_checkpoint
from workers.plan.compression_context import CompressionContext, Report

BEGINNING = "student"


def compress(parent: Path, out: Path, step: Distill, context: CompressionContext) -> Report:
    """Write the trained student to `out`, as transformers loads it.

    Raises StudyError where there is nothing to train on, CandidateError for a shape that can't be.
    """
    from workers.training.engines import with_device
    from workers.training.model_forms.student import write_student
    from workers.training.steps import train_step, training_pairs
    from workers.training.teachers.choose_teacher import training_inputs

    pairs = training_pairs(parent, step, context)
    beginning = out / BEGINNING
    beginning.mkdir()
    student = with_device(context, write_student, parent, beginning, step, pairs)
    as_deep = read_checkpoint(parent).layers == read_checkpoint(training_inputs(step, context).teacher).layers
    report = train_step(
        beginning, out, step=step, pairs=pairs, context=context, layer_map=student.layers if as_deep else None
    )
    shutil.rmtree(beginning)
    return replace(report, notes=(*student.notes, *report.notes))
