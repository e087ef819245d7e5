"""What is made before a search, in the run's folder: its baseline, and pairs that the model writes.

The baseline is a study of two trials, of the model and of what its steps make. So the model is measured before and
after, a training goes on where it was stopped, and what comes out is the model of the search.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from rich.console import Console

from orchestrator.finish.run_folder import reopen
from orchestrator.finish.title import made_baseline
from orchestrator.finish.wrap_up import ARTEFACTS, folders_by_number
from orchestrator.ledger.names import BASELINE, LEDGER
from orchestrator.ledger.records import read_ledger
from orchestrator.number_format import spell_seconds
from orchestrator.progress.training_lines import in_lines
from orchestrator.search.prepared import Study
from orchestrator.study.spec import StudySpec
from orchestrator.study.training import read_training, synthetic_file
from search_spaces.errors import StudyError
from search_spaces.outcome import Failure, Measurement
from workers.runtime.ray_process import with_a_gpu
from workers.training.data.synthetic_pairs import LEAST_SHARE, save_pairs, write_pairs

# Any space does: the study has no trials but its anchor's.
SPACE = "bit-width"


def study_of(spec: StudySpec) -> StudySpec:
    """The study that makes the baseline of a study."""
    return replace(
        spec,
        baseline=(),
        start=(),
        synthetic_pairs=0,
        anchors=(spec.baseline,),
        reference_points=(),
        space=SPACE,
        trials=2,
        out=str(spec.folder / BASELINE),
        keep="all",
        target=None,
        max_bytes=None,
        min_gain=None,
        min_tokens_s=None,
        max_memory=None,
        hours=None,
        gpu_hours=None,
        rungs=(),
        speed=False,
        control_arms=0,
        published=None,
        tracking_uri=spec.mlflow_uri,
        **_alone(spec),
    )


def _alone(spec: StudySpec) -> dict[str, Any]:
    """A training that nothing runs beside has whole GPUs, however many trials of the search share one."""
    return {"max_concurrent": 1, "gpus_per_trial": None if (spec.gpus_per_trial or 0.0) < 1 else spec.gpus_per_trial}


def is_begun(first: StudySpec) -> bool:
    """Whether its folder has the study. Raises StudyError where it has another one."""
    if not (first.folder / LEDGER).is_file():
        return False
    # What other versions begin otherwise, and what changes nothing of what is made.
    alike = {"control_arms": first.control_arms, **_alone(first)}
    if replace(reopen(first.folder)[1], **alike) != first:
        raise StudyError(
            f"{first.folder} has the baseline of another study than this; choose another --out, or remove that folder"
        )
    return True


def with_made(spec: StudySpec) -> StudySpec:
    """The study with its baseline as the model; raises StudyError where the steps did not make one."""
    first = spec.folder / BASELINE
    ended = [record for record in read_ledger(first).on("dev") if record.candidate.steps == spec.baseline]
    for record in ended:
        if isinstance(record.outcome, Failure):
            raise StudyError(
                f"the baseline could not be made: {record.outcome.message} (mtpareto report {first} has all of it); "
                f"mend it, remove {first}, and begin again"
            )
    made = [one for one in ended if isinstance(one.outcome, Measurement)]
    folder = folders_by_number(first / ARTEFACTS).get(made[0].number) if made else None
    if folder is None:
        raise StudyError(f"{first} has no baseline yet; mtpareto resume {first} goes on with it")
    return replace(spec, baseline=(), model=str(folder), revision=None)


def with_synthetic_pairs(study: Study, console: Console) -> Study:
    """The study with the pairs that its model writes among its training data, written now, on the Ray that was joined.

    Where the study made its baseline, the model before that writes, and the baseline translates. Raises StudyError
    where the model writes hardly a pair that can be used.
    """
    spec, training = study.spec, study.training
    if not spec.synthetic_pairs or training is None:
        return study
    made = made_baseline(spec)
    writer = study.base if made is None else made.base

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    say(f"pairs     {spec.synthetic_pairs:,} synthetic ones, written by {writer.name}")
    began, langs = time.monotonic(), training.data.langs
    written = with_a_gpu(
        write_pairs, writer, study.base, study.plan(1.0), langs, spec.synthetic_pairs, report=in_lines(say)
    )
    if len(written.pairs) < LEAST_SHARE * spec.synthetic_pairs:
        raise StudyError(
            f"{writer.name} wrote {len(written.pairs):,} of {spec.synthetic_pairs:,} pairs that can be used: it does "
            f"not write texts in the languages of {', '.join(langs)}; leave synthetic_pairs out"
        )
    fewer = ", ".join(f"{count:,} fewer than asked for in {one}" for one, count in written.missing().items())
    taken = spell_seconds(time.monotonic() - began)
    say(f"pairs     {len(written.pairs):,} written in {taken}{': ' if fewer else ''}{fewer}")
    file = synthetic_file(spec)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_pairs(written.pairs, file)
    return replace(study, training=read_training(spec, study.data))
