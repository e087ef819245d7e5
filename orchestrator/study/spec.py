"""A study, as asked for: from a YAML file, from flags, or both, checked before anything is started."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from mlflow_tracking.store import is_sqlite, sqlite_file
from orchestrator.study.shipped import SHIPPED_MODEL
from search_spaces.candidate import refuse_senseless_order
from search_spaces.errors import StudyError
from search_spaces.methods.registry import Step, step_from_json, step_to_json
from search_spaces.methods.trainers import Distill
from search_spaces.spaces.registry import SPACES
from workers.languages.codes import UnknownLanguage, name_languages
from workers.plan.evaluation_plan import DEFAULT_CALIBRATION_TOKENS
from workers.translation.decoding import DEFAULT_BATCH_SIZE, DEFAULT_MAX_NEW_TOKENS, Decoding
from workers.translation.prompts import PROMPTS

Keep = Literal["frontier", "all", "none"]
Quality = Literal["chrf", "comet"]
DEFAULT_RUNGS = (64, 256, 1024)
DEFAULT_FLOOR = 0.5
RUNGS_RULE = "a list of ascending whole numbers of at least 1, or [] for no racing"
# What numpy's generators, which the sampler draws from, take.
MOST_SEED = 2**32 - 1
TEXTS = ("out", "data", "space", "model", "device_map", "keep", "quality")
MLFLOW_VARIABLES = {"tracking_uri": "MLFLOW_TRACKING_URI", "experiment": "MLFLOW_EXPERIMENT_NAME"}
OPTIONAL_TEXTS = (
    "revision", "test", "references", "langs", "calibration", "calibration_text", "prompt", "address", "tracking_uri",
    "experiment", "store", "comet_model",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TrainingSource:
    """A file of pairs to train on; weight: how much of the training its pairs are, beside the other files'."""

    file: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        _check(isinstance(self.file, str) and bool(self.file), "training.file", self.file, "a file's name")
        above = _number(self.weight) and 0 < self.weight < math.inf
        _check(above, f"training: the weight of {self.file}", self.weight, "a number above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySpec:
    """What a search was asked to do. Relative paths are taken from the current folder when the spec is made absolute.

    data, test: what the search selects on, and what the frontier is scored on once. references: for a
    parallel text file in `data`. langs: the one pair that is taken from both, or what their pair is where they name
    none. calibration: pairs for methods that look at activations, None is the shipped ones;
    calibration_tokens: how many tokens statistics are taken over; calibration_text: a file of running text to take
    them over instead of the pairs. trials: candidates to measure, the baseline included. anchors: steps to try
    before the space's own. gpus_per_trial, cpus_per_trial, max_concurrent: None fits them to the cluster. address:
    a Ray cluster's; None is RAY_ADDRESS's, or a local one. tracking_uri: None is `mlflow.db` beside the run's
    folder; experiment: MLflow's grouping there, None is `mtpareto`. store: the artefacts', None is inside the run's
    folder. keep: which artefacts stay there when the search ends. retries: attempts more for a trial whose worker was
    lost. quality: the metric that the frontier is of. rungs:
    after how many segments a race looks whether a candidate is beaten; () measures all of every candidate. floor: the
    share of the baseline's quality that a candidate must keep, 0 asks for nothing. margin: the points of quality that a
    recommended candidate must be shown to lose less than; None is the least difference that people notice. comet_model:
    a hub id, a checkpoint or its folder; None is COMET's usual one. beams: 1 decodes greedily. speed: whether the
    frontier's points are timed when the search is over. training: files of pairs for steps that train; none, and the
    search offers no such steps. training_gpus: how many GPUs train one candidate together. languages: code -> the name
    it goes by, for codes that the tables lack or name otherwise. check_languages: whether data that is not in the
    languages that it says is refused.
    """

    out: str
    data: str
    space: str = "joint"
    trials: int = 12
    model: str = str(SHIPPED_MODEL)
    revision: str | None = None
    test: str | None = None
    references: str | None = None
    langs: str | None = None
    calibration: str | None = None
    calibration_tokens: int = DEFAULT_CALIBRATION_TOKENS
    calibration_text: str | None = None
    anchors: tuple[tuple[Step, ...], ...] = ()
    seed: int = 0
    gpus_per_trial: float | None = None
    cpus_per_trial: float | None = None
    max_concurrent: int | None = None
    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS
    batch_size: int = DEFAULT_BATCH_SIZE
    prompt: str | None = None
    device_map: str = "auto"
    address: str | None = None
    tracking_uri: str | None = None
    experiment: str | None = None
    store: str | None = None
    keep: Keep = "frontier"
    retries: int = 3
    skip_bad_rows: bool = False
    trust_remote_code: bool = False
    quality: Quality = "chrf"
    rungs: tuple[int, ...] = DEFAULT_RUNGS
    floor: float = DEFAULT_FLOOR
    margin: float | None = None
    comet_model: str | None = None
    beams: int = 1
    speed: bool = True
    training: tuple[TrainingSource, ...] = ()
    training_gpus: int = 1
    languages: Mapping[str, str] = field(default_factory=dict)
    check_languages: bool = True

    def __post_init__(self) -> None:
        _check(self.space in SPACES, "space", self.space, f"one of {', '.join(SPACES)}")
        _check(self.keep in get_args(Keep), "keep", self.keep, f"one of {', '.join(get_args(Keep))}")
        _check(self.quality in get_args(Quality), "quality", self.quality, f"one of {', '.join(get_args(Quality))}")
        _check(_ascending(self.rungs), "rungs", list(self.rungs), RUNGS_RULE)
        _check(_number(self.floor) and 0 <= self.floor < 1, "floor", self.floor, "a number of at least 0 and below 1")
        limit = self.margin
        _check(limit is None or (_number(limit) and 0 < limit < math.inf), "margin", limit, "a number above 0")
        _check(_whole(self.trials) and self.trials >= 1, "trials", self.trials, "a whole number of at least 1")
        tokens = self.calibration_tokens
        _check(_whole(tokens) and tokens >= 1, "calibration_tokens", tokens, "a whole number of at least 1")
        seeds = _whole(self.seed) and 0 <= self.seed <= MOST_SEED
        _check(seeds, "seed", self.seed, f"a whole number from 0 to {MOST_SEED}")
        _check(_whole(self.retries) and self.retries >= 0, "retries", self.retries, "a whole number of at least 0")
        _check(self.prompt is None or self.prompt in PROMPTS, "prompt", self.prompt, f"one of {', '.join(PROMPTS)}")
        for name in ("gpus_per_trial", "cpus_per_trial"):
            value = getattr(self, name)
            _check(value is None or (_number(value) and value >= 0), name, value, "a number of at least 0")
        for name in ("skip_bad_rows", "trust_remote_code", "speed", "check_languages"):
            _check(isinstance(getattr(self, name), bool), name, getattr(self, name), "true or false")
        gpus = self.training_gpus
        _check(_whole(gpus) and gpus >= 1, "training_gpus", gpus, "a whole number of at least 1")
        for steps in self.anchors:
            refuse_senseless_order(steps)
        self._refuse_training_without_data()
        limit = self.max_concurrent
        _check(limit is None or (_whole(limit) and limit >= 1), "max_concurrent", limit, "a whole number of at least 1")
        Decoding(self.max_new_tokens, self.batch_size, self.prompt, self.beams)

    def _refuse_training_without_data(self) -> None:
        if self.training:
            return
        trained = [step.describe() for steps in self.anchors for step in steps if step.kind == "trainer"]
        what = f"the space {self.space}" if SPACES[self.space].needs_training else next(iter(trained), None)
        if what is not None:
            raise StudyError(
                f"{what} trains, and the study names no training data; name a file of source and reference pairs with "
                "--training FILE (training: [FILE])"
            )

    @property
    def folder(self) -> Path:
        return Path(self.out)

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
            for name in ("out", "data", "test", "references", "calibration", "calibration_text", "store")
            if (value := getattr(self, name)) is not None
        }
        if self.tracking_uri is not None and is_sqlite(self.tracking_uri):
            file = sqlite_file(self.tracking_uri)
            changes["tracking_uri"] = self.tracking_uri.replace(str(file), str(file.absolute()), 1)
        changes["training"] = tuple(
            replace(source, file=str(Path(source.file).expanduser().resolve())) for source in self.training
        )
        changes["anchors"] = tuple(tuple(_absolute(step) for step in steps) for steps in self.anchors)
        if Path(self.model).expanduser().is_dir():
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
        record["anchors"] = [[step_to_json(step) for step in steps] for steps in self.anchors]
        record["rungs"] = list(self.rungs)
        record["training"] = [asdict(source) for source in self.training]
        record["languages"] = dict(self.languages)
        return record


def spec_from_mapping(record: Mapping[str, Any]) -> StudySpec:
    """The study that a mapping spells, such as a parsed YAML file; raises StudyError for what it can't mean."""
    known = {one.name for one in fields(StudySpec)}
    if unknown := sorted(str(key) for key in set(record) - known):
        raise StudyError(f"a study has no key {unknown[0]!r}; it has {', '.join(sorted(known))}")
    for name in ("out", "data"):
        if not record.get(name):
            raise StudyError(f"a study needs `{name}`; give it in the file or as --{name}")
    anchors = record.get("anchors") or []
    if not isinstance(anchors, (list, tuple)) or not all(isinstance(steps, (list, tuple)) for steps in anchors):
        raise StudyError(f"anchors is {anchors!r}; it must be a list of candidates, each a list of steps")
    values = {**record, "anchors": tuple(tuple(step_from_json(step) for step in steps) for steps in anchors)}
    for name in (*TEXTS, *OPTIONAL_TEXTS):
        left_out = name not in values or (values[name] is None and name in OPTIONAL_TEXTS)
        _check(left_out or isinstance(values[name], str), name, values.get(name), "text")
    if "rungs" in values:
        rungs = values["rungs"]
        _check(isinstance(rungs, (list, tuple)), "rungs", rungs, RUNGS_RULE)
        values["rungs"] = tuple(rungs)
    values["training"] = _training_sources(record.get("training") or [])
    values["languages"] = language_names(record.get("languages") or {})
    return StudySpec(**values)


def language_names(found: object) -> dict[str, str]:
    """code -> name, from a mapping, or from `CODE=NAME` as the flag has it; raises StudyError for anything else."""
    rule = "codes with their names, such as {xx: Name} or --language xx=Name"
    if isinstance(found, (list, tuple)):
        parts = [str(item).partition("=") for item in found]
        _check(all(equals for _, equals, _ in parts), "languages", found, rule)
        found = {code.strip(): name.strip() for code, _, name in parts}
    _check(isinstance(found, Mapping), "languages", found, rule)
    named = dict(found) if isinstance(found, Mapping) else {}
    # YAML takes no, Norwegian's code, for false.
    named = {"no" if code is False else code: name for code, name in named.items()}
    _check(all(isinstance(text, str) for item in named.items() for text in item), "languages", found, rule)
    return named


def know_languages(names: Mapping[str, str]) -> None:
    """Have this process know the study's codes, before it reads any data; raises StudyError for what is no code."""
    try:
        name_languages(names)
    except UnknownLanguage as error:
        raise StudyError(f"languages: {error}") from error


def _training_sources(found: object) -> tuple[TrainingSource, ...]:
    """Files by their names, or each with its weight."""
    rule = "a list of files, each a name or such as {file: pairs.jsonl, weight: 2}"
    _check(isinstance(found, (list, tuple)), "training", found, rule)
    sources: list[TrainingSource] = []
    for item in found if isinstance(found, (list, tuple)) else ():
        named = {"file": item} if isinstance(item, str) else item
        _check(
            isinstance(named, Mapping) and "file" in named and set(named) <= {"file", "weight"}, "training", item, rule
        )
        sources.append(TrainingSource(**named))
    return tuple(sources)


def _absolute(step: Step) -> Step:
    """The step with the absolute path of a student's config, where it names one."""
    if isinstance(step, Distill) and step.config:
        return replace(step, config=str(Path(step.config).expanduser().resolve()))
    return step


def _check(holds: bool, name: str, value: object, rule: str) -> None:
    if not holds:
        raise StudyError(f"{name} is {value!r}; it must be {rule}")


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _ascending(rungs: tuple[object, ...]) -> bool:
    sizes = [rung for rung in rungs if isinstance(rung, int) and not isinstance(rung, bool) and rung >= 1]
    return len(sizes) == len(rungs) and sizes == sorted(set(sizes))


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
