"""A study with everything that its spec names read and checked, before anything of it is written."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich.console import Console

from orchestrator.finish.run_folder import read_data
from orchestrator.ledger.lines import StudyHeader
from orchestrator.report.published.points_file import read_published_points
from orchestrator.study.base_model import describe_base, refuse_candidates, refuse_unaskable
from orchestrator.study.calibration import Calibration, read_calibration
from orchestrator.study.metrics import metrics_of
from orchestrator.study.preflight import refuse_missing_packages, worker_packages
from orchestrator.study.spec import NO_LANGUAGE_CHECK, StudySpec
from orchestrator.study.splits import spell_left_out
from orchestrator.study.training import Training, read_training, short_trainings
from search_spaces.candidate import BaseModel, is_of_content
from search_spaces.errors import StudyError
from search_spaces.sizes.tensor_table import Checkpoint
from search_spaces.spaces.registry import SPACES
from workers.calibration.pair_parts import MEASURING_SHARE, parts
from workers.loading.opening import open_model, origin_of, refuse_model_early
from workers.loading.placing import AUTO, BALANCED
from workers.plan.conditions import installed_versions
from workers.plan.evaluation_plan import EvaluationPlan
from workers.reading.segments import DataSet
from workers.scoring.direction_check import refuse_wrong_direction

# The search's own trials from which on a profile is measured: it takes about as long as half a dozen of them.
GUIDED_FROM = 12
DRIVER_DISTRIBUTIONS = ("mtpareto", "ray", "optuna", "mlflow", "sacrebleu")


@dataclass(frozen=True, slots=True)
class Study:
    """A spec with everything it names read and checked."""

    spec: StudySpec
    """What was asked."""
    base: BaseModel
    """The model that is compressed."""
    checkpoint: Checkpoint
    """Its tensor table and the bytes of its other files."""
    data: Mapping[str, DataSet]
    """Split -> its data set."""
    calibration: Calibration
    """What statistics of activations are taken over."""
    metrics: tuple[str, ...]
    """What is measured; the first metric is the quality."""
    training: Training | None = None
    """What steps that train read; None where the study names no training data."""
    packages: tuple[str, ...] = ()
    """What every worker must be able to import."""

    @property
    def is_guided(self) -> bool:
        """Whether a profile says which candidates to try: the space is known whole, there are enough trials after it,
        and calibration pairs to measure divergence on."""
        own = self.spec.trials - len(self.spec.given)
        if SPACES[self.spec.space].axes is None or own < GUIDED_FROM:
            return False
        return bool(parts(self.calibration.pairs.segments, self.spec.seed)[1])

    @property
    def measures_comet(self) -> bool:
        return "comet" in self.metrics

    def plan(self, gpus: float) -> EvaluationPlan:
        """What every trial is measured under. gpus: a trial's; a share of one limits the memory that it may take."""
        spec = self.spec
        return EvaluationPlan(
            data=self.data,
            calibration=self.calibration.pairs,
            metrics=self.metrics,
            decoding=spec.decoding,
            store=spec.store_folder,
            seed=spec.seed,
            # A trial that was given several GPUs uses them all.
            device_map=BALANCED if spec.device_map == AUTO and gpus > 1 else spec.device_map,
            memory_fraction=gpus if 0 < gpus < 1 else None,
            trust_remote_code=spec.trust_remote_code,
            calibration_tokens=spec.calibration_tokens,
            calibration_text=self.calibration.text,
            rungs=spec.rungs,
            divergence=True,
            comet_model=spec.comet_model,
            training=self.training.data if self.training else None,
            training_processes=spec.training_gpus,
            start=spec.start,
            languages=spec.languages,
        )


def prepare(spec: StudySpec, console: Console, begun: StudyHeader | None = None, dry: bool = False) -> Study:
    """Read and check everything the spec names; of a GGUF file, write the folder into the store, and nothing else.

    begun: the ledger's header of a study that goes on. dry: whether not even that folder is written.
    """
    if spec.published is not None and begun is None:
        read_published_points(Path(spec.published))
    data = read_data(spec)
    for dataset in data.values():
        for line in spell_left_out(dataset):
            console.print(line, markup=False, highlight=False)
    check = partial(refuse_candidates, steps=spec.spelt)
    # Before what may take long: data to train on, and weights to download.
    refuse_model_early(spec.model, spec.revision, spec.trust_remote_code, check)
    calibration = read_calibration(spec, data, begun)
    if spec.check_languages and begun is None:
        for dataset in (*data.values(), *([calibration.pairs] if spec.calibration else [])):
            refuse_wrong_direction(dataset.name, dataset.segments, f"{NO_LANGUAGE_CHECK} (check_languages: false)")
    training = read_training(spec, data)
    for line in (*calibration.told(spec), *(training.told() if training else ())):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    opened = open_model(
        spec.model,
        spec.revision or _known_by(begun),
        spec.trust_remote_code,
        check,
        store=None if dry else spec.store_folder,
        say=lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True),
    )
    refuse_unaskable(opened, spec.prompt, data.values(), spec.trust_remote_code)
    short = short_trainings(spec, training, opened.tokenizer_folder) if training else []
    for line in (*describe_base(opened, spec.store_folder), *short):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    earlier = None if begun is None else begun.get("metrics", ())
    metrics = metrics_of(spec, lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True), earlier)
    packages = worker_packages(spec, data, metrics, training is not None)
    refuse_missing_packages(packages, spec.address)
    study = Study(
        spec=spec,
        base=opened.base,
        checkpoint=opened.checkpoint,
        data=data,
        calibration=calibration,
        metrics=metrics,
        training=training,
        packages=packages,
    )
    _refuse_unguided(study)
    return study


def _refuse_unguided(study: Study) -> None:
    """A target, a largest size, a least gain and a third objective are for a search that a profile guides."""
    asked = study.spec.needing_profile
    if asked and not study.is_guided:
        raise StudyError(
            f"{asked[0]} needs at least {GUIDED_FROM} trials besides the study's anchors and reference points, and "
            f"calibration pairs of at least {MEASURING_SHARE} sources; the study has {study.spec.trials} trials, "
            f"{len(study.spec.given)} anchors and reference points, and {len(study.calibration.pairs.segments)} pairs"
        )


def _known_by(begun: StudyHeader | None) -> str | None:
    """What the ledger knows a local model by; None for a new study and for a hub model."""
    revision = begun["base"]["revision"] if begun else ""
    return revision if is_of_content(revision) else None


def header(study: Study) -> StudyHeader:
    """The ledger's first line: what was asked, and what everything is measured under."""
    origin = origin_of(study.spec.model)
    return {
        "spec": study.spec.to_json(),
        "base": {"name": study.base.name, "revision": study.base.revision, "bytes": study.checkpoint.bytes},
        "data": {split: dataset.digest for split, dataset in study.data.items()},
        "calibration": study.calibration.identity(),
        "unseen": list(study.calibration.unseen),
        "training": study.training.identity() if study.training else None,
        "metrics": list(study.metrics),
        "conditions": {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            **({"base model": origin} if origin else {}),
            "python": platform.python_version(),
            **installed_versions(DRIVER_DISTRIBUTIONS),
        },
    }
