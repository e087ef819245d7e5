"""The speed of a candidate as it ships: its own files, their weights kept packed, on the study's own prompts."""

from __future__ import annotations

from dataclasses import replace

from search_spaces.candidate import Candidate
from search_spaces.methods.timable import why_not_on_cpu
from search_spaces.outcome import Speed
from workers.checkpoints.model_files import context_length, read_config
from workers.evaluation.candidate_folder import build_candidate
from workers.plan.conditions import conditions
from workers.plan.evaluation_plan import RACED_SPLIT, SPEED_TOKENS, EvaluationPlan
from workers.runtime.callbacks import ProgressCallback, ignore_progress
from workers.runtime.gpu_memory import release_memory
from workers.runtime.stages import Stages
from workers.scoring.rungs import race_order

PROMPTS = 64


def shipped_speed(
    candidate: Candidate, plan: EvaluationPlan, stages: Stages, report: ProgressCallback = ignore_progress
) -> Speed:
    """Measure one candidate's speed. Raises what the libraries raise; `stages` then says where.

    report: is told of the progress of steps that train, where the store does not have what they made. What a CPU can't
    time is not made again to find that out.
    """
    from workers.evaluation.speed import measure_speed
    from workers.loading.load import default_device, load_tokenizer
    from workers.packed.load import packed_placement
    from workers.translation.translator import lines_of, prepare

    dataset = plan.data[RACED_SPLIT]
    on_cpu = plan.device_map.startswith("cpu") or default_device().type == "cpu"
    if on_cpu and (reason := why_not_on_cpu(candidate.steps)) is not None:
        return Speed(reason=reason)
    with stages.stage("compress"):
        made = build_candidate(candidate, plan, report)
    with stages.stage("speed"):
        placement = packed_placement(made.folder, plan.device_map)
        tokenizer = load_tokenizer(made.folder, plan.trust_remote_code)
        examples = plan.calibration.segments if plan.calibration else ()
        context = context_length(read_config(made.folder))
        chosen = [dataset.segments[at] for at in race_order(dataset.segments, plan.seed)[:PROMPTS]]
        limited = replace(plan.decoding, max_new_tokens=SPEED_TOKENS)
        asked = [line for one in chosen for line in lines_of(one, made.prompt)][:PROMPTS]
        prompts = [
            prepare(one, tokenizer, prompt=made.prompt, examples=examples, decoding=limited, context=context).ids
            for one in asked
        ]
        speed = measure_speed(made.folder, prompts, placement, trust_remote_code=plan.trust_remote_code)
        release_memory()
    about = conditions(dataset, plan, made.prompt, placement.devices)
    return replace(speed, conditions=about | {"decoding": f"{SPEED_TOKENS} new tokens a segment, stop tokens ignored"})
