"""A step that trains, from its parent's folder to its own: data, training, gate, and the way back."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from pathlib import Path

from search_spaces.candidate import refuse_idle_training
from search_spaces.methods.trainers import Trainer
from workers.checkpoints.model_files import TOKENIZER_FILES
from workers.loading.load import load_tokenizer
from workers.plan.compression_context import CompressionContext, Report
from workers.runtime.artefact_store import ENDED
from workers.runtime.gpu_memory import release_memory
from workers.runtime.training_progress import MADE_WORSE, Trained, with_ends_scored
from workers.scoring.metrics import Interval
from workers.training.data.teacher_translations import teacher_translations
from workers.training.data.tokenized_pairs import TokenizedPairs, tokenize_pairs
from workers.training.engines import LayerMap, checkpoints_of, form, train_alone, train_over_processes, with_device
from workers.training.enough import CHANGED_NOTHING, changed_nothing, too_short
from workers.training.held_out_check import changed_interval, enough_to_judge, folder_chrf
from workers.training.losses.vocabularies import refuse_other_vocabulary
from workers.training.model_forms.writing import Written, write_trained
from workers.training.preparing import Preparing
from workers.training.teachers.choose_teacher import training_inputs, translating_teacher


def training_pairs(parent: Path, step: Trainer, context: CompressionContext) -> TokenizedPairs:
    """The pairs that the step trains on, as the parent's tokens; of the teacher's translations where it asks for them.

    Raises StudyError where the study names nothing to train on, and for a divergence from a teacher that lacks some of
    the parent's tokens, CandidateError for one from the parent itself.
    """
    study = training_inputs(step, context)
    if step.has_divergence:
        if parent.samefile(study.teacher):
            refuse_idle_training((step,))
        refuse_other_vocabulary(parent, study.teacher, step, context.trust_remote_code)
    return with_device(context, _pairs, parent, step) if step.has_translated_targets else _pairs(parent, step, context)


def train_step(
    parent: Path,
    out: Path,
    step: Trainer,
    pairs: TokenizedPairs,
    context: CompressionContext,
    layer_map: LayerMap = None,
) -> Report:
    """Train the model of the folder and write it to the empty folder `out`.

    parent: for Distill, the folder of the student that training starts from. layer_map: student layer -> the teacher's,
    for matching hidden states; spread evenly where None. Goes on from the store's checkpoints of the same training, at
    any budget, and says of them when it is over. Raises what `train` and `train_sharded` raise.
    """
    began = time.monotonic()
    ended = checkpoints_of(step, pairs, context) / ENDED
    ended.unlink(missing_ok=True)
    trained = form(parent, step, context)
    run = train_over_processes if context.processes > 1 else train_alone
    done = run(trained, out, step, pairs, context, layer_map=layer_map)
    written = write_trained(trained, out)
    del trained
    release_memory()
    kept = pairs.held_out
    if context.processes > 1 and kept:
        done = replace(done, chrf_after=with_device(context, folder_chrf, out, kept))
    if ended.parent.is_dir():
        ended.touch()
    seconds = time.monotonic() - began
    changed = None
    if done.looks_worse and enough_to_judge(kept):
        changed = with_device(context, changed_interval, parent, out, kept)
    return report_of(written, done, held_out=len(kept), seconds=seconds, changed=changed, step=step)


def report_of(
    written: Written,
    done: Trained,
    held_out: int,
    seconds: float,
    changed: Interval | None = None,
    step: Trainer | None = None,
) -> Report:
    """What the trial's record says of a training. held_out: validation pairs, by which it was judged. changed: the
    interval of what it changed in their chrF, asked for where it looks worse and they are enough to tell. step: what
    was asked for, to say where its steps were too few."""
    since = f", from {done.since:,} on in this attempt" if done.since else ""
    notes = [f"trained on {done.tokens:,} tokens in {done.steps:,} steps{since}", *done.notes]
    if step is not None and (short := too_short(step, done.steps, done.tokens / max(done.steps, 1))) is not None:
        notes.append(short)
    before, after = done.chrf_before, done.chrf_after
    if before is None or after is None:
        notes.append(
            "no pairs were kept from training to judge it by; give more than a few that have references with --training"
        )
    else:
        said = f"validation chrF {before:.2f} → {after:.2f}"
        if changed_nothing(before, after):
            notes.append(f"{CHANGED_NOTHING}: {said} ({held_out} pairs)")
        elif changed is None:
            few = ", too few to tell from chance" if done.looks_worse else ""
            notes.append(f"{said} ({held_out} pairs{few})")
        elif changed.high < 0.0:
            notes.append(f"{MADE_WORSE}: {said} ({held_out} pairs)")
        else:
            interval = f"95 % {changed.low:+.2f} to {changed.high:+.2f}"
            notes.append(f"{said}, a tie ({held_out} pairs, {interval})")
    curve = with_ends_scored(done.curve, before, after)
    return Report(written.targeted, written.changed, tuple(notes), curve, seconds)


def _pairs(parent: Path, step: Trainer, context: CompressionContext) -> TokenizedPairs:
    study = training_inputs(step, context)
    tokenizer = load_tokenizer(parent, context.trust_remote_code)
    key = _tokenizer_key(parent)
    translated = step.has_translated_targets
    # Sources are counted in the teacher's tokens, so that students of all vocabularies share its translations.
    first = (load_tokenizer(study.teacher, context.trust_remote_code), _tokenizer_key(study.teacher))
    pairs = tokenize_pairs(
        study.data,
        *(first if translated else (tokenizer, key)),
        context.prompt,
        study.store,
        seed=context.seed,
        sources_alone=translated,
    )
    if not translated:
        return pairs
    teacher = translating_teacher(step, context)
    told = Preparing(step.name, "teacher's translations", context.report)
    return teacher_translations(
        pairs,
        teacher,
        tokenizer,
        key,
        study.store,
        tokens=step.tokens,
        seed=context.seed,
        batch=step.batch,
        report=told,
    )


def _tokenizer_key(folder: Path) -> str:
    hasher = hashlib.sha256()
    for file in (folder / name for name in TOKENIZER_FILES):
        if file.is_file():
            hasher.update(file.name.encode() + b"\0" + file.read_bytes())
    return hasher.hexdigest()[:16]
