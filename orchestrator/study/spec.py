"""A study: each key with its description, its rule, its default and its flag, checked before anything is started.

The flags and their help (`flags`), the JSON Schema and the table of docs/study-file.md (`schema`) are made from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from mlflow_tracking.store import is_sqlite, sqlite_file
from orchestrator.results.limits import Limits, Third
from orchestrator.study.keys import Flag, OneOf, ValueRule, refuses
from orchestrator.study.shipped import SHIPPED_MODEL
from orchestrator.study.values import (
    OBJECTIVES,
    QUALITY_AND_BYTES,
    Above0,
    Amount,
    Anchors,
    Count,
    Files,
    Languages,
    ObjectiveNames,
    Pairs,
    Positive,
    ReferencePoints,
    Rungs,
    Size,
    Steps,
    Switch,
    Target,
    Text,
    Training,
    all_of,
    rungs_of_text,
    target_of,
)
from search_spaces.errors import StudyError
from search_spaces.methods.reference_points import REFERENCE_POINTS
from search_spaces.methods.registry import Step, step_to_json
from search_spaces.methods.trainers import Distill, Finetune
from search_spaces.parameters import DEFAULT_CALIBRATION_TOKENS
from search_spaces.spaces.registry import SPACES
from workers.languages.codes import UnknownLanguage, name_languages
from workers.reading.segments import name_files
from workers.translation.decoding import DEFAULT_BATCH_SIZE, DEFAULT_MAX_NEW_TOKENS, Decoding
from workers.translation.prompts import PROMPTS

Keep = Literal["frontier", "all", "none"]
Quality = Literal["chrf", "comet"]
DEFAULT_RUNGS = (64, 256, 1024)
DEFAULT_FLOOR = 0.5
# What numpy's generators, which the sampler draws from, take.
MOST_SEED = 2**32 - 1
MLFLOW_VARIABLES = {"tracking_uri": "MLFLOW_TRACKING_URI", "experiment": "MLFLOW_EXPERIMENT_NAME"}

MODEL = "what is compressed"
DATA = "data"
LEARNING = "calibration and training"
TRANSLATION = "translation"
QUALITY = "quality"
RESOURCES = "resources"
RESULTS = "results"
GROUPS = {
    MODEL: "The model, and what may be tried on it.",
    DATA: "What it is measured on.",
    LEARNING: "What methods look at and train on.",
    TRANSLATION: "How every candidate translates.",
    QUALITY: "What counts as good, and when a trial ends early.",
    RESOURCES: "Where trials run, and how many at a time.",
    RESULTS: "Where everything is written, and what stays.",
}

NO_LANGUAGE_CHECK = "--no-language-check"


@refuses
@dataclass(
    frozen=True,
    slots=True,
    kw_only=True,
    config=ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True),
)
class StudySpec:
    """What a search was asked to do. Relative paths are taken from the current folder when the spec is made absolute.

    Raises StudyError for a value that can't be meant, and CandidateError for an anchor that makes no sense.
    """

    model: Annotated[Text, Flag(MODEL, default="the shipped caption model")] = str(SHIPPED_MODEL)
    """Hub id, local folder or GGUF file."""
    revision: Annotated[Text | None, Flag(MODEL)] = None
    """Revision of a hub model."""
    space: Annotated[str, OneOf(tuple(SPACES)), Flag(MODEL)] = "joint"
    """What may be tried."""
    trials: Annotated[Positive, Flag(MODEL)] = 12
    """Candidates to measure, the baseline included."""
    baseline: Annotated[Steps, Flag(MODEL, only_file=True)] = ()
    """Steps that make the baseline out of the model before the search, such as a fine-tuning; by method or recipe."""
    start: Annotated[Steps, Flag(MODEL, only_file=True)] = ()
    """Trainings of all weights with which every candidate of the space begins, and not the baseline, anchors and
    reference points; what they make is one of the latter."""
    anchors: Annotated[Anchors, Flag(MODEL, only_file=True)] = ()
    """Candidates to try before the space's own: each a list of steps, by method or by recipe."""
    reference_points: Annotated[ReferencePoints, Flag(MODEL, metavar="NAME", repeated=True, default="none")] = ()
    """Candidates to measure whole on dev and on test, whatever the search finds: by name, or each a list of steps."""
    seed: Annotated[int, Field(ge=0, le=MOST_SEED), ValueRule(f"a whole number from 0 to {MOST_SEED}"), Flag(MODEL)] = 0
    """Of the sampler and the bootstrap."""
    trust_remote_code: Annotated[Switch, Flag(MODEL)] = False
    """Run code that comes with the model."""

    data: Annotated[Files, Flag(DATA, metavar="FILE", repeated=True)]
    """The segments that the search selects on: JSON lines, a table, or text beside its translation."""
    test: Annotated[Files | None, Flag(DATA, metavar="FILE", repeated=True)] = None
    """Held-out segments on which the frontier is scored once."""
    references: Annotated[Text | None, Flag(DATA, default="those beside --data, x.de for x.en")] = None
    """The target lines of parallel text."""
    langs: Annotated[Pairs | None, Flag(DATA, read=str)] = None
    """Take these pairs' rows, such as en-cs,cs-en; where a file names no pair, what its pair is."""
    languages: Annotated[Languages, Flag(DATA, name="--language", metavar="CODE=NAME", repeated=True)] = field(
        default_factory=dict
    )
    """What a language code stands for, where it is not known."""
    skip_bad_rows: Annotated[Switch, Flag(DATA)] = False
    """Leave bad rows out, and sources of the test data out of --data, and say how many."""
    check_languages: Annotated[
        Switch, Flag(DATA, name=NO_LANGUAGE_CHECK, off="take data that seems to be in other languages than it says")
    ] = True
    """Refuse data that seems to be in other languages than it says."""

    calibration: Annotated[Files | None, Flag(LEARNING, metavar="FILE", repeated=True, default="the shipped ones")] = (
        None
    )
    """Pairs for methods that look at activations."""
    calibration_tokens: Annotated[Positive, Flag(LEARNING)] = DEFAULT_CALIBRATION_TOKENS
    """Tokens that calibration statistics are taken over."""
    calibration_text: Annotated[Text | None, Flag(LEARNING)] = None
    """A file of running text to take them over instead of the pairs."""
    training: Annotated[Training, Flag(LEARNING, metavar="FILE", repeated=True, default="none")] = ()
    """Pairs for steps that train; without them the search offers no such steps."""
    synthetic_pairs: Annotated[Count, Flag(LEARNING)] = 0
    """Pairs that the model writes itself before the search, for the same steps: sources where its prompt has one, in
    the trained languages, and the baseline's translations; 0 is none."""
    training_gpus: Annotated[Positive, Flag(LEARNING)] = 1
    """GPUs that train one candidate together."""
    control_arms: Annotated[Count, Flag(LEARNING)] = 1
    """Of how many of the best trained points the training is given to the uncompressed model too, to be told apart from
    the compression; 0 is none."""

    prompt: Annotated[
        Annotated[str, OneOf(tuple(PROMPTS))] | None, Flag(TRANSLATION, default="by the model's own files")
    ] = None
    """How the model is asked."""
    max_new_tokens: Annotated[Positive, Flag(TRANSLATION)] = DEFAULT_MAX_NEW_TOKENS
    """Length limit of a translation."""
    batch_size: Annotated[Positive, Flag(TRANSLATION)] = DEFAULT_BATCH_SIZE
    """Segments translated at a time."""
    beams: Annotated[Positive, Flag(TRANSLATION)] = 1
    """Of beam search; 1 is greedy."""
    device_map: Annotated[Text, Flag(TRANSLATION)] = "auto"
    """Where a model goes: auto (as few GPUs as hold it), balanced (all that a trial has), cpu or cuda:N."""

    quality: Annotated[Quality, OneOf(get_args(Quality)), Flag(QUALITY)] = "chrf"
    """The metric of the frontier."""
    objectives: Annotated[ObjectiveNames, Flag(QUALITY, metavar="NAMES", read=str)] = QUALITY_AND_BYTES
    """What the frontier is of. A third objective, tokens a second or GPU memory of the model as it ships, keeps a point
    that is larger and no better where it is faster, or takes less memory."""
    floor: Annotated[float, Field(ge=0, lt=1), ValueRule("a number of at least 0 and below 1"), Flag(QUALITY)] = (
        DEFAULT_FLOOR
    )
    """Share of the baseline's quality that a candidate must keep, or 0."""
    rungs: Annotated[Rungs, Flag(QUALITY, read=rungs_of_text)] = DEFAULT_RUNGS
    """Segments after which a race looks whether a candidate is beaten, or none."""
    margin: Annotated[Above0 | None, Flag(QUALITY, default="the least people notice")] = None
    """Points that a recommended candidate is shown to lose less than."""
    target: Annotated[Text | None, Flag(QUALITY, metavar="TARGET", default="the whole frontier")] = None
    """What the smallest model that is sought keeps of the baseline's quality: chrf>=99%, or worst_pair>=98%."""
    max_bytes: Annotated[Size, Flag(QUALITY, metavar="SIZE", read=str, default="the model's own")] = None
    """The largest model that the search chooses, such as 2GB."""
    min_tokens_s: Annotated[Above0 | None, Flag(QUALITY, metavar="N", default="no limit")] = None
    """Tokens a second that a model of the frontier makes as it ships, where it could be timed."""
    max_memory: Annotated[Size, Flag(QUALITY, metavar="SIZE", read=str, default="no limit")] = None
    """GPU memory that a model of the frontier takes at most as it ships, such as 6GB."""
    comet_model: Annotated[Text | None, Flag(QUALITY, default="Unbabel/wmt22-comet-da")] = None
    """COMET's hub id, checkpoint or folder."""

    address: Annotated[Text | None, Flag(RESOURCES, default="RAY_ADDRESS, else a local Ray")] = None
    """A Ray cluster's address."""
    gpus_per_trial: Annotated[Amount | None, Flag(RESOURCES, default="as its own Ray's GPUs hold trials")] = None
    """GPUs a trial takes, such as 0.5; several share a model's layers. Where a study says none and the search has a Ray
    of its own, up to four trials share a GPU that holds them; on a cluster each has one, where there are any."""
    cpus_per_trial: Annotated[Amount | None, Flag(RESOURCES, default="a node's, shared among its GPUs")] = None
    """CPUs a trial takes."""
    hours: Annotated[Above0 | None, Flag(RESOURCES, default="no limit")] = None
    """Hours after which a search begins no further candidate; what runs may end, and the frontier is still scored. What
    the control arm is expected to take is kept free, and the profile chooses no training that is expected to outlast
    it."""
    gpu_hours: Annotated[Above0 | None, Flag(RESOURCES, default="no limit")] = None
    """The same by the hours of GPUs that trials hold, those before a resume included."""
    min_gain: Annotated[Above0 | None, Flag(RESOURCES, metavar="PERCENT", default="no limit")] = None
    """A search ends where measuring no candidate is expected to add so many percent to what the frontier dominates (log
    bytes, kept share) in a GPU-hour; after 12 trials at the earliest."""
    max_concurrent: Annotated[Positive | None, Flag(RESOURCES, default="as many as fit")] = None
    """Trials side by side."""
    retries: Annotated[Count, Flag(RESOURCES)] = 3
    """Further attempts after a lost worker."""

    out: Annotated[Text, Field(min_length=1), Flag(RESULTS)]
    """The run's folder, such as runs/NAME."""
    store: Annotated[Text | None, Flag(RESULTS, default="inside the run's folder")] = None
    """The artefact store, on storage every node reaches."""
    store_limit: Annotated[
        Size, Flag(RESULTS, metavar="SIZE", read=str, default="half of what is free when the search starts")
    ] = None
    """Bytes that the store inside the run's folder holds at most, such as 20GB."""
    keep: Annotated[Keep, OneOf(get_args(Keep)), Flag(RESULTS)] = "frontier"
    """Artefacts that stay when the search is over."""
    published: Annotated[Text | None, Flag(RESULTS, metavar="FILE", default="none")] = None
    """A CSV of other models' published points, to be marked in the report and its picture."""
    tracking_uri: Annotated[
        Text | None, Flag(RESULTS, default="MLFLOW_TRACKING_URI, else mlflow.db beside the folder")
    ] = None
    """An MLflow server or sqlite:///FILE."""
    experiment: Annotated[Text | None, Flag(RESULTS, default="MLFLOW_EXPERIMENT_NAME, else mtpareto")] = None
    """MLflow's grouping there."""
    speed: Annotated[
        Switch, Flag(RESULTS, name="--no-speed", off="do not time the frontier's points when the search is over")
    ] = True
    """Time the frontier's points when the search is over."""

    def __post_init__(self) -> None:
        self._refuse_training_without_data()
        self._refuse_start()
        self._refuse_aimless()
        self._refuse_few_trials()
        limited = self._asked("min_tokens_s", "max_memory")
        if limited and not self.speed:
            raise StudyError(f"{limited[0]} needs models to be timed; leave out --no-speed (speed: false)")
        if self.store is not None and self.store_limit is not None:
            raise StudyError(
                f"store_limit is for the store inside the run's folder, and {self.store} is shared: the artefacts of "
                "other studies are not this one's to remove; leave out one of --store and --store-limit"
            )

    def _refuse_training_without_data(self) -> None:
        if self.training:
            return
        if self.synthetic_pairs:
            raise StudyError(
                "synthetic_pairs are trained on beside pairs of people; name a file of those with --training "
                "(training: [FILE])"
            )
        asked = (self.baseline, *self.given)
        trained = [step.describe() for steps in asked for step in steps if step.kind == "trainer"]
        what = f"the space {self.space}" if SPACES[self.space].needs_training else next(iter(trained), None)
        if what is not None:
            raise StudyError(
                f"{what} trains, and the study names no training data; name a file of source and reference pairs with "
                "--training FILE (training: [FILE])"
            )

    def _refuse_start(self) -> None:
        if not self.start:
            return
        for step in self.start:
            if not isinstance(step, Finetune):
                raise StudyError(
                    f"start has {step.describe()}, and what every candidate begins with leaves the model's layout as "
                    "it is: trainings of all weights (method: finetune)"
                )
        if SPACES[self.space].axes is None:
            raise StudyError(f"start is followed by what a space compresses, and {self.space} trains; leave it out")
        if self.third:
            raise StudyError(
                f"start goes with quality and bytes alone, and the study has {self.third} for an objective"
            )

    def _refuse_aimless(self) -> None:
        """A target, a largest size, a least gain and a third objective are for a search that knows its space whole."""
        asked = self.needing_profile
        if not asked:
            return
        if self.target is not None:
            target_of(self.target, self.quality)
            if self.third:
                raise StudyError(
                    f"a target's model is the smallest that meets it, and the study has {self.third} for an objective "
                    "too; give one of both"
                )
            if self.min_gain is not None:
                raise StudyError("min_gain is of the whole frontier, and a target stops by itself; give one of both")
        if SPACES[self.space].axes is None:
            *others, last = (name for name, space in SPACES.items() if space.axes is not None)
            known = f"{', '.join(others)} or {last}"
            raise StudyError(f"{asked[0]} needs a space that is known whole, and {self.space} is not; use {known}")

    def _refuse_few_trials(self) -> None:
        needed = 1 + len(self.marks)
        if self.marks and self.trials < needed:
            raise StudyError(
                f"trials is {self.trials}, and the baseline and the {len(self.marks)} reference points take "
                f"{needed}; give --trials {needed} or more, or fewer reference_points"
            )

    @property
    def marks(self) -> tuple[tuple[Step, ...], ...]:
        """The reference points, what the space's candidates begin with before the others."""
        return tuple(dict.fromkeys((*((self.start,) if self.start else ()), *self.reference_points)))

    @property
    def given(self) -> tuple[tuple[Step, ...], ...]:
        """The candidates that the study names: its reference points, then its anchors."""
        return tuple(dict.fromkeys((*self.marks, *self.anchors)))

    @property
    def spelt(self) -> tuple[tuple[Step, ...], ...]:
        """Those of them that must fit the model: of published practice what it can't take is left out, and told."""
        return tuple(steps for steps in self.given if steps in self.anchors or steps not in REFERENCE_POINTS.values())

    @property
    def aim(self) -> Target | None:
        return None if self.target is None else target_of(self.target, self.quality)

    @property
    def needing_profile(self) -> list[str]:
        """What the study asks for that takes a search which knows its space whole."""
        return self._asked("target", "max_bytes", "min_gain")

    def _asked(self, *keys: str) -> list[str]:
        """Those of the keys that are given, and the objectives where there are three."""
        three = [f"objectives {self.objectives}"] if self.third else []
        return [*(key for key in keys if getattr(self, key) is not None), *three]

    @property
    def third(self) -> Third | None:
        """The objective beside quality and bytes."""
        return OBJECTIVES[self.objectives]

    @property
    def limits(self) -> Limits:
        return Limits(self.min_tokens_s, self.max_memory, self.batch_size, self.third)

    @property
    def folder(self) -> Path:
        return Path(self.out)

    @property
    def data_files(self) -> tuple[str, ...]:
        return all_of(self.data)

    @property
    def data_name(self) -> str:
        """What `data` is called on a line."""
        return name_files(self.data_files)

    @property
    def test_files(self) -> tuple[str, ...]:
        return all_of(self.test)

    @property
    def calibration_files(self) -> tuple[str, ...]:
        return all_of(self.calibration)

    @property
    def title(self) -> str:
        """What a run's pages are headed with."""
        return f"{Path(self.model).name}, space {self.space}"

    @property
    def decoding(self) -> Decoding:
        return Decoding(self.max_new_tokens, self.batch_size, self.prompt, self.beams)

    @property
    def store_folder(self) -> Path:
        return Path(self.store) if self.store else self.folder / "store"

    @property
    def mlflow_uri(self) -> str:
        return self.tracking_uri or f"sqlite:///{self.folder.parent / 'mlflow.db'}"

    def absolute(self) -> StudySpec:
        """The same with absolute paths, so that it means the same from any folder; a hub id stays as it is."""
        changes: dict[str, Any] = {
            name: str(Path(value).expanduser().resolve())
            for name in ("out", "references", "calibration_text", "store")
            if (value := getattr(self, name)) is not None
        }
        for name in ("data", "test", "calibration"):
            files = [str(Path(file).expanduser().resolve()) for file in all_of(getattr(self, name))]
            changes[name] = files or None
        if self.published is not None:
            changes["published"] = str(Path(self.published).expanduser().resolve())
        if self.tracking_uri is not None and is_sqlite(self.tracking_uri):
            file = sqlite_file(self.tracking_uri)
            changes["tracking_uri"] = self.tracking_uri.replace(str(file), str(file.absolute()), 1)
        changes["training"] = tuple(
            replace(source, file=str(Path(source.file).expanduser().resolve())) for source in self.training
        )
        for name in ("baseline", "start"):
            changes[name] = tuple(_absolute(step) for step in getattr(self, name))
        for name in ("anchors", "reference_points"):
            changes[name] = tuple(tuple(_absolute(step) for step in steps) for steps in getattr(self, name))
        # A folder, or a GGUF file.
        if Path(self.model).expanduser().exists():
            changes["model"] = str(Path(self.model).expanduser().resolve())
        if self.comet_model is not None and Path(self.comet_model).expanduser().exists():
            changes["comet_model"] = str(Path(self.comet_model).expanduser().resolve())
        return replace(self, **changes)

    def told_by(self, environ: Mapping[str, str]) -> StudySpec:
        """The same with what MLflow's own variables say where the study says nothing."""
        found: dict[str, Any] = {
            key: getattr(self, key) or environ.get(variable) or None for key, variable in MLFLOW_VARIABLES.items()
        }
        return replace(self, **found)

    def to_json(self) -> dict[str, Any]:
        """The spec as a JSON object that `spec_from_mapping` reads back."""
        record = asdict(self)
        for name in ("baseline", "start"):
            record[name] = [step_to_json(step) for step in getattr(self, name)]
        for name in ("anchors", "reference_points"):
            record[name] = [[step_to_json(step) for step in steps] for steps in getattr(self, name)]
        record["rungs"] = list(self.rungs)
        record["training"] = [asdict(source) for source in self.training]
        record["languages"] = dict(self.languages)
        for name in ("data", "test", "calibration", "langs"):
            value = getattr(self, name)
            record[name] = value if value is None or isinstance(value, str) else list(value)
        return record


def spec_from_mapping(record: Mapping[str, Any]) -> StudySpec:
    """The study that a mapping spells, such as a parsed YAML file; raises StudyError for what it can't mean."""
    return StudySpec(**{str(key): value for key, value in record.items()})


def know_languages(names: Mapping[str, str]) -> None:
    """Have this process know the study's codes, before it reads any data; raises StudyError for what is no code."""
    try:
        name_languages(names)
    except UnknownLanguage as error:
        raise StudyError(f"languages: {error}") from error


def _absolute(step: Step) -> Step:
    """The step with the absolute path of a student's config, where it names one."""
    if isinstance(step, Distill) and step.config:
        return replace(step, config=str(Path(step.config).expanduser().resolve()))
    return step
