"""`mtpareto search --dry-run`: what a study would try and take, from headers alone; nothing is started or written."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic

from rich.console import Console
from rich.table import Table

from orchestrator.cluster.sharing import USABLE, gpu_memory
from orchestrator.ledger.records import refuse_taken
from orchestrator.number_format import spell_bytes, spell_seconds
from orchestrator.results.labels import REFERENCE
from orchestrator.results.step_labels import short_label
from orchestrator.search.estimates import (
    CHARACTERS,
    ENDS_WITH,
    REQUEST,
    START,
    TIMING,
    expected_tokens,
    running_bytes,
    translating_seconds,
)
from orchestrator.search.loop import foreseen_seconds, proposer_of, store_limit
from orchestrator.search.prepared import Study, prepare
from orchestrator.study.preflight import refuse_small_disk
from orchestrator.study.spec import StudySpec
from search_spaces.errors import StudyError
from search_spaces.spaces.choices import every_choice
from search_spaces.spaces.offers import Offer, offer_for
from search_spaces.spaces.registry import SPACES
from workers.plan.evaluation_plan import PROFILE_SPLIT, SPEED_SPLIT

# Counting goes on for so long at most.
COUNT_SECONDS = 2.0
# What the first column says of trials that score nothing.
PARTS = {PROFILE_SPLIT: "profile", SPEED_SPLIT: "timing"}


@dataclass(frozen=True, slots=True)
class PlannedTrial:
    """A trial that is known before anything is measured."""

    label: str
    bytes: int
    """Predicted size on disk."""
    memory: int
    """Bytes of a GPU's memory that it takes to translate."""
    seconds: float
    """On the GPU that the estimates come from."""
    part: str = ""
    """Of what it is a part where it scores nothing: the profile, or the timing of an objective."""


def dry_run(spec: StudySpec, console: Console) -> None:
    """Print what the study would do; raises UserError where it would be refused, or no GPU here could hold a trial."""
    spec = spec.absolute()
    refuse_taken(spec.folder)
    study = prepare(spec, console, dry=True)
    planned, refused = plan_trials(study)
    first = next((one.bytes for one in planned[1:]), 0)
    refuse_small_disk(spec.store_folder, study.checkpoint.bytes, first, spec.store_limit)
    memory = gpu_memory() if spec.address is None and spec.device_map != "cpu" else None
    console.print(_table(planned, study.checkpoint.bytes))
    for name, line in _lines(study, planned, memory):
        console.print(f"{name:<9} {line}", markup=False, highlight=False, soft_wrap=True)
    for steps, why in refused:
        console.print(f"refused   {steps}: {why}", markup=False, highlight=False, soft_wrap=True)
    console.print("dry run   nothing was started or written")
    if memory is not None:
        refuse_small_gpu(study, planned, memory)


def plan_trials(study: Study) -> tuple[list[PlannedTrial], list[tuple[str, str]]]:
    """The trials that come before the sampler's, and what the model can't take of them, with the reason."""
    proposer = proposer_of(study)
    batch, tokens = study.spec.batch_size, request_tokens(study)
    planned = [
        PlannedTrial(
            label=short_label(proposal.candidate) + (REFERENCE if proposal.reference else ""),
            bytes=proposal.predicted_bytes,
            memory=running_bytes(study.checkpoint, proposal.candidate.steps, batch, tokens),
            seconds=seconds,
            part=PARTS.get(proposal.split, ""),
        )
        for proposal, seconds in foreseen_seconds(study, proposer)
    ]
    return planned, proposer.refused


def request_tokens(study: Study) -> int:
    """Tokens of the longest request with its answer, by the characters of its source."""
    longest = max(len(segment.source) for dataset in study.data.values() for segment in dataset.segments)
    return longest // CHARACTERS + REQUEST + study.spec.max_new_tokens


def count_candidates(study: Study, seconds: float = COUNT_SECONDS) -> tuple[int, bool]:
    """How many candidates the space holds for the model, and whether these are all: counting ends in time."""
    ends = monotonic() + seconds
    count = 0
    for _ in every_choice(SPACES[study.spec.space], _offer(study)):
        count += 1
        if monotonic() > ends:
            return count, False
    return count, True


def refuse_small_gpu(study: Study, planned: list[PlannedTrial], memory: int) -> None:
    """Raise StudyError where a trial can't fit, with what would: a smaller batch, or more than one GPU."""
    spec, share = study.spec, study.spec.gpus_per_trial or 1.0
    room = int(USABLE * memory * share)
    most = max(planned, key=lambda one: one.memory)
    if most.memory <= room:
        return
    said = f"{most.label} takes about {spell_bytes(most.memory)} of GPU memory, and a trial has {spell_bytes(room)}"
    batch = spec.batch_size
    while batch > 1 and running_bytes(study.checkpoint, (), batch, request_tokens(study)) > room:
        batch //= 2
    if running_bytes(study.checkpoint, (), batch, request_tokens(study)) <= room:
        raise StudyError(f"{said}; with --batch-size {batch} it fits")
    gpus = -(-most.memory // int(USABLE * memory))
    raise StudyError(f"{said}, at any batch size; with --gpus-per-trial {gpus} its layers are spread")


def _offer(study: Study) -> Offer:
    return offer_for(study.checkpoint, study.training is not None, not study.calibration.unseen)


def _table(planned: list[PlannedTrial], base: int) -> Table:
    table = Table("trial", "candidate", "size", "ratio", "GPU memory", box=None, header_style="dim")
    for number, one in enumerate(planned):
        table.add_row(
            one.part or str(number),
            one.label,
            spell_bytes(one.bytes),
            f"{base / one.bytes:.2f}x",
            spell_bytes(one.memory),
        )
    return table


def _lines(study: Study, planned: list[PlannedTrial], memory: int | None) -> list[tuple[str, str]]:
    spec, checkpoint = study.spec, study.checkpoint
    steps = " + ".join(step.short_label() for step in spec.baseline)
    count, all_of_them = count_candidates(study)
    limit = store_limit(spec)
    store = f"at most {spell_bytes(limit)} in {spec.store_folder}" if limit else f"shared, in {spec.store_folder}"
    own = sum(not one.part for one in planned)
    seconds = _search_seconds(study, planned)
    largest = max(one.memory for one in planned)
    there = f", of {spell_bytes(memory)} here" if memory else ""
    chosen = spec.trials - own
    by = "the profile and the sampler choose" if own < len(planned) else "the sampler chooses"
    return [
        (
            "model",
            f"{spell_bytes(checkpoint.bytes)}, {checkpoint.parameters / 1e6:,.0f} M parameters, "
            f"{checkpoint.layers} layers" + (f"; made a baseline first by {steps}, not counted here" if steps else ""),
        ),
        ("space", f"{spec.space}: {'' if all_of_them else 'more than '}{count:,} candidates"),
        (
            "trials",
            f"{spec.trials}: {own} listed above" + (f", {chosen} that {by}" if chosen else ""),
        ),
        ("memory", f"about {spell_bytes(largest)} of a GPU to translate, {spec.batch_size} segments at a time{there}"),
        ("disk", f"{store}; the models that stay take what the table says of them"),
        (
            "time",
            f"about {spell_seconds(seconds)} on one H200, training not counted"
            + (" and no trial ended by a race" if spec.rungs else "")
            + "; other devices differ",
        ),
    ]


def _search_seconds(study: Study, planned: list[PlannedTrial]) -> float:
    """The whole search on one GPU: trials that are not known yet take as long as those that are."""
    spec, trials = study.spec, [one.seconds for one in planned if not one.part]
    chosen = (spec.trials - len(trials)) * sum(trials) / max(len(trials), 1)
    points = min(spec.trials, ENDS_WITH + len(spec.marks))
    held_out = expected_tokens(study.data["test"].segments, spec.max_new_tokens) if "test" in study.data else ()
    scored = points * translating_seconds(study.checkpoint, (), held_out, spec.batch_size)
    timed = TIMING * points if spec.speed else 0.0
    return START + sum(one.seconds for one in planned) + chosen + scored + timed
