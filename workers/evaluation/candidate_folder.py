"""A candidate's folder: the base model's own, or its artefact, each prefix of the steps made once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search_spaces.candidate import BaseModel, Candidate, digest_of
from search_spaces.errors import CandidateError
from search_spaces.methods.registry import Step, step_to_json
from search_spaces.methods.trainers import Distill
from search_spaces.outcome import Footprint
from search_spaces.sizes.student_shape import read_student_config
from workers.checkpoints.adapters import has_adapter
from workers.checkpoints.model_files import bytes_on_disk, read_checkpoint, read_config
from workers.evaluation.curves import kept_curve
from workers.failures.blame import CarryingOut
from workers.languages.codes import name_languages
from workers.loading.placing import AUTO, BALANCED
from workers.loading.plain_folder import base_folder
from workers.plan.code_version import code_version
from workers.plan.evaluation_plan import EvaluationPlan
from workers.runtime.artefact_store import Artefact, ArtefactStore
from workers.runtime.callbacks import ProgressCallback, ignore_progress
from workers.runtime.gpu_memory import limit_memory
from workers.runtime.warned import Warnings, heard_by
from workers.translation.chat_template import template_of
from workers.translation.prompts import Prompt, choose_prompt, request_identity

if TYPE_CHECKING:
    from workers.plan.compression_context import CompressionContext


@dataclass(frozen=True, slots=True)
class Built:
    """A candidate's files. artefact: None for the baseline."""

    base: Path
    prompt: Prompt
    artefact: Artefact | None

    @property
    def folder(self) -> Path:
        return self.artefact.path if self.artefact else self.base


def build_candidate(candidate: Candidate, plan: EvaluationPlan, report: ProgressCallback = ignore_progress) -> Built:
    """The candidate's files, compressed now where the store does not have them, and its prompt. From here on this
    process takes no more of a GPU's memory than the plan's share.

    report: is told of the progress of steps that train.
    """
    from workers.loading.load import load_tokenizer

    limit_memory(plan.memory_fraction)
    name_languages(plan.languages)
    name = candidate.base.name
    base = base_folder(name, candidate.base.revision, plan.store, plan.trust_remote_code)
    template = template_of(load_tokenizer(base, plan.trust_remote_code))
    prompt = choose_prompt(name, read_config(base), template, plan.decoding.prompt)
    return Built(base, prompt, compress_candidate(candidate, base, prompt, plan, report))


def compress_candidate(
    candidate: Candidate, base: Path, prompt: Prompt, plan: EvaluationPlan, report: ProgressCallback = ignore_progress
) -> Artefact | None:
    """The candidate's artefact, each prefix of its steps made once and kept in the store; None for the baseline. What
    the store has is made no second time, nor what led to it.

    report: is told of the progress of steps that train. Raises CandidateError for a base with an adapter beside it.
    """
    from workers.evaluation.methods import compress
    from workers.loading.readme import write_readme

    if candidate.steps and has_adapter(base):
        raise CandidateError(f"{base} keeps an adapter apart, which compression would lose; merge it with peft first")
    store = ArtefactStore(plan.store)
    context = replace(base_context(candidate.base, base, prompt, plan), report=report)
    # Trials of another search in this store may hold the GPUs that a sharded training waits for.
    queue = "-sharded" if plan.training_processes > 1 else ""
    parent, there = base, 0
    artefact: Artefact | None = None
    for length in range(len(candidate.steps), 0, -1):
        # The store may have let go of what it was made from.
        if (artefact := store.find(artefact_key(candidate.prefix(length), prompt, plan))) is not None:
            parent, there = artefact.path, length
            context = replace(context, parent_key=artefact.path.name)
            break
    if there < len(candidate.steps):
        teacher = begun_by(candidate, base, prompt, plan, report)
        context = replace(context, teacher=teacher.folder, teacher_key=teacher.key)
    for length, step in enumerate(candidate.steps[there:], start=there + 1):
        prefix = candidate.prefix(length)
        earlier = artefact.about if artefact else {"targeted": 0, "changed": 0, "notes": []}

        def build(
            out: Path,
            parent: Path = parent,
            step: Any = step,
            steps: tuple[Step, ...] = prefix.steps,
            earlier: dict[str, Any] = earlier,
            context: CompressionContext = context,
        ) -> dict[str, Any]:
            warnings = Warnings()
            with heard_by(warnings), CarryingOut(steps):
                made = compress(parent, out, step, context)
            write_readme(out, candidate.base.name, steps)
            took = [f"trained for {made.seconds:.0f} s"] if made.seconds else []
            curves = [kept_curve(step.describe(), made.curve).to_json()] if made.curve else []
            return {
                "steps": [*earlier.get("steps", []), step_to_json(step)],
                "targeted": earlier["targeted"] + made.targeted,
                "changed": earlier["changed"] + made.changed,
                "notes": [*earlier["notes"], *made.notes, *warnings.texts, *took],
                "curves": [*earlier.get("curves", []), *curves],
            }

        artefact = store.get(artefact_key(prefix, prompt, plan), build, queue)
        parent = artefact.path
        context = replace(context, parent_key=artefact.path.name)
    return artefact


@dataclass(frozen=True, slots=True)
class Begun:
    """The model that a candidate is measured and taught by, uncompressed: its folder, and what names its bytes."""

    folder: Path
    key: str


def begun_by(
    candidate: Candidate, base: Path, prompt: Prompt, plan: EvaluationPlan, report: ProgressCallback = ignore_progress
) -> Begun:
    """What the plan's `start` makes of the base model, made now where the store does not have it; the base model itself
    for a candidate that does not begin so, or is no more than that."""
    if not _goes_on(candidate, plan):
        return Begun(base, candidate.base.identity())
    made = compress_candidate(candidate.prefix(len(plan.start)), base, prompt, plan, report)
    if made is None:
        raise RuntimeError(f"{candidate.prefix(len(plan.start)).describe()} has no artefact")
    return Begun(made.path, made.path.name)


def _goes_on(candidate: Candidate, plan: EvaluationPlan) -> bool:
    """Whether the candidate begins with the plan's `start`, and has more steps."""
    length = len(plan.start)
    return 0 < length < len(candidate.steps) and candidate.steps[:length] == plan.start


def base_context(base: BaseModel, folder: Path, prompt: Prompt, plan: EvaluationPlan) -> CompressionContext:
    """What a method is given whose parent is the base model, in this folder."""
    from workers.loading.load import default_device
    from workers.plan.compression_context import CompressionContext

    return CompressionContext(
        calibration=plan.calibration.segments if plan.calibration else (),
        prompt=prompt,
        device=default_device(),
        seed=plan.seed,
        device_map=plan.device_map if plan.device_map in (AUTO, BALANCED) else "",
        trust_remote_code=plan.trust_remote_code,
        store=plan.store,
        parent_key=base.identity(),
        calibration_tokens=plan.calibration_tokens,
        calibration_text=plan.calibration_text,
        training=plan.training,
        teacher=folder,
        teacher_key=base.identity(),
        processes=plan.training_processes,
    )


def artefact_key(candidate: Candidate, prompt: Prompt, plan: EvaluationPlan) -> str:
    """The store's key: everything that decides the artefact's bytes."""
    from workers.evaluation.methods import modules_of

    data: dict[str, Any] = {}
    # The language pairs whose texts the model is shown.
    read: set[str] = set()
    if any(step.is_calibrated for step in candidate.steps):
        read |= set(plan.calibration.pairs) if plan.calibration else set()
        data = {
            "calibration": plan.calibration.digest if plan.calibration else "",
            "tokens": plan.calibration_tokens,
            "text": digest_of(list(plan.calibration_text)),
        }
    if any(step.reads_training for step in candidate.steps):
        read |= set(plan.training.langs) if plan.training else set()
        data |= {"training": plan.training.digest if plan.training else ""}
        if _goes_on(candidate, plan):
            # Who teaches the others.
            data["start"] = len(plan.start)
    if prompt.name == "few-shot" and any(getattr(step, "has_translated_targets", False) for step in candidate.steps):
        # The teacher's examples.
        data["shots"] = plan.calibration.digest if plan.calibration else ""
    if data:
        data |= request_identity(prompt, read)
    if configs := [step.config for step in candidate.steps if isinstance(step, Distill) and step.config]:
        data["configs"] = [digest_of(read_student_config(path)) for path in configs]
    code = code_version(modules_of(candidate.steps))
    return digest_of({"candidate": candidate.digest, "data": data, "seed": plan.seed, "code": code})


def footprint(candidate: Candidate, base: Path, artefact: Artefact | None) -> Footprint:
    """The bytes and parameters of what runs; raises RuntimeError when compression changed none of its targets."""
    about = artefact.about if artefact else {"targeted": 0, "changed": 0}
    fraction = about["changed"] / about["targeted"] if about["targeted"] else 1.0
    if candidate.steps and fraction == 0.0:
        raise RuntimeError("compression left every targeted weight unchanged")
    parameters = read_checkpoint(base).parameters
    return Footprint(bytes_on_disk(artefact.path if artefact else base), parameters, fraction)
