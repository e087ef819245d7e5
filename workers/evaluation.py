"""One candidate from end to end: compress, load, translate, score. `main.py` and every trial of a search call this."""

from __future__ import annotations

import functools
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from search_spaces.candidate import Candidate, digest_of
from search_spaces.errors import ModelFilesError
from search_spaces.methods import Step, step_to_json
from search_spaces.outcome import Footprint, Measurement
from workers.artefacts import Artefact, ArtefactStore
from workers.decoding import Decoding, Hypothesis
from workers.model_files import bytes_on_disk, context_length, read_checkpoint, read_config, resolve
from workers.prompts import Prompt, choose_prompt, without_examples
from workers.reading.segments import DataSet, Segment
from workers.scoring import scores_by_pair

DEFAULT_CALIBRATION_TOKENS = 65_536
DISTRIBUTIONS = ("torch", "transformers", "bitsandbytes", "compressed-tensors", "sacrebleu")


class EmptyOutput(RuntimeError):
    """Every hypothesis of a candidate was empty: there is nothing to score."""


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """What every candidate of a study is measured under.

    data: split ("dev", "test") -> its data set. calibration: pairs for methods that look at activations. metrics: keys
    of METRICS. store: the artefact store's folder. device_map: "auto", "cpu", "cuda:N" or what accelerate knows.
    memory_fraction: the share of a GPU's memory this process may take. calibration_tokens: how many tokens calibration
    statistics are taken over. calibration_text: lines of running text to take them over instead of the pairs.
    """

    data: Mapping[str, DataSet]
    calibration: DataSet | None
    metrics: tuple[str, ...]
    decoding: Decoding
    store: Path
    seed: int = 0
    device_map: str = "auto"
    memory_fraction: float | None = None
    trust_remote_code: bool = False
    calibration_tokens: int = DEFAULT_CALIBRATION_TOKENS
    calibration_text: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A measured candidate: its numbers, its hypotheses in the data set's order, and the folder that was scored."""

    measurement: Measurement
    hypotheses: tuple[Hypothesis, ...]
    folder: Path


@dataclass(slots=True)
class Stages:
    """Seconds spent a stage, and the stage under way (for the report of an error)."""

    current: str = "start"
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.current = name
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def evaluate(
    candidate: Candidate,
    split: str,
    plan: EvaluationPlan,
    stages: Stages,
    progress: Callable[[int], None] = lambda done: None,
) -> Evaluated:
    """Measure one candidate on one split. Raises what the libraries raise; `stages` then says where."""
    from workers.models import load_model, load_tokenizer
    from workers.translate import translate

    dataset = plan.data[split]
    with stages.stage("compress"):
        base = base_folder(candidate.base.name, candidate.base.revision)
        tokenizer = load_tokenizer(base, plan.trust_remote_code)
        prompt = _prompt(candidate, base, tokenizer, plan)
        artefact = compressed(candidate, base, prompt, plan)
        folder = artefact.path if artefact else base
    with stages.stage("load"):
        _limit_memory(plan.memory_fraction)
        tokenizer = load_tokenizer(folder, plan.trust_remote_code)
        model = load_model(folder, plan.device_map, plan.trust_remote_code)
    with stages.stage("translate"):
        examples: tuple[Segment, ...] = plan.calibration.segments if plan.calibration else ()
        hypotheses = translate(
            model, tokenizer, prompt, dataset.segments, examples, plan.decoding,
            context_length(read_config(folder)), progress,
        )  # fmt: skip
        device = str(model.device)
        del model
    with stages.stage("score"):
        texts = [hypothesis.text for hypothesis in hypotheses]
        if not any(texts):
            raise EmptyOutput(f"all {len(texts)} hypotheses are empty")
        scores = scores_by_pair(plan.metrics, dataset.segments, texts)
    measurement = Measurement(
        scores=scores,
        footprint=_footprint(folder, base, candidate, artefact),
        seconds=dict(stages.seconds),
        segments=len(texts),
        tokens=sum(hypothesis.tokens for hypothesis in hypotheses),
        truncated=sum(hypothesis.truncated for hypothesis in hypotheses),
        artefact=artefact.path.name if artefact else "",
        notes=_notes(artefact, without_examples(prompt, dataset.segments, examples)),
        conditions=conditions(dataset, plan, prompt, device),
    )
    return Evaluated(measurement, tuple(hypotheses), folder)


@functools.lru_cache(maxsize=4)
def base_folder(name: str, revision: str) -> Path:
    """The base model's folder on this node, its content checked once a process."""
    if not revision.startswith("sha256:"):
        try:
            return resolve(name, revision)[1]
        except ModelFilesError as error:
            # The driver has fetched it, so this is the node's trouble, and may pass.
            raise ConnectionError(str(error)) from error
    base, folder = resolve(name)
    if base.revision != revision:
        raise OSError(f"the model in {folder} is not the one the study began with ({base.revision}, not {revision})")
    return folder


def compressed(candidate: Candidate, base: Path, prompt: Prompt, plan: EvaluationPlan) -> Artefact | None:
    """The candidate's artefact, each prefix of its steps made once and kept in the store; None for the baseline."""
    from workers.compression.context import CompressionContext
    from workers.compression.registry import compress
    from workers.export_readme import write_readme
    from workers.models import default_device

    store = ArtefactStore(plan.store)
    context = CompressionContext(
        calibration=plan.calibration.segments if plan.calibration else (),
        prompt=prompt,
        device=default_device(),
        seed=plan.seed,
        trust_remote_code=plan.trust_remote_code,
        store=plan.store,
        parent_key=candidate.base.identity(),
        calibration_tokens=plan.calibration_tokens,
        calibration_text=plan.calibration_text,
    )
    parent = base
    artefact: Artefact | None = None
    for length, step in enumerate(candidate.steps, start=1):
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
            report = compress(parent, out, step, context)
            write_readme(out, candidate.base.name, steps)
            return {
                "steps": [*earlier.get("steps", []), step_to_json(step)],
                "targeted": earlier["targeted"] + report.targeted,
                "changed": earlier["changed"] + report.changed,
                "notes": [*earlier["notes"], *report.notes],
            }

        artefact = store.get(artefact_key(prefix, prompt, plan), build)
        parent = artefact.path
        context = replace(context, parent_key=artefact.path.name)
    return artefact


def artefact_key(candidate: Candidate, prompt: Prompt, plan: EvaluationPlan) -> str:
    """The store's key: everything that decides the artefact's bytes."""
    from workers.compression.registry import WITHOUT_CALIBRATION, code_version

    data: dict[str, Any] = {}
    if any(type(step) not in WITHOUT_CALIBRATION for step in candidate.steps):
        data = {
            "calibration": plan.calibration.digest if plan.calibration else "",
            "prompt": prompt.name,
            "tokens": plan.calibration_tokens,
            "text": digest_of(list(plan.calibration_text)),
        }
    return digest_of({"candidate": candidate.digest, "data": data, "seed": plan.seed, "code": code_version()})


def conditions(dataset: DataSet, plan: EvaluationPlan, prompt: Prompt, device: str) -> dict[str, str]:
    """What the numbers were taken under."""
    return {
        "data": f"{dataset.name} sha256:{dataset.digest[:16]}",
        "decoding": f"greedy, at most {plan.decoding.max_new_tokens} new tokens, batch {plan.decoding.batch_size}",
        "prompt": prompt.name,
        "seed": str(plan.seed),
        "device": device_name(device),
        "python": platform.python_version(),
        **installed(DISTRIBUTIONS),
    }


def installed(names: Sequence[str]) -> dict[str, str]:
    """The versions of those distributions that are installed here."""
    found: dict[str, str] = {}
    for name in names:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _prompt(candidate: Candidate, base: Path, tokenizer: Any, plan: EvaluationPlan) -> Prompt:
    has_template = getattr(tokenizer, "chat_template", None) is not None
    return choose_prompt(candidate.base.name, read_config(base), has_template, plan.decoding.prompt)


def _footprint(folder: Path, base: Path, candidate: Candidate, artefact: Artefact | None) -> Footprint:
    about = artefact.about if artefact else {"targeted": 0, "changed": 0}
    fraction = about["changed"] / about["targeted"] if about["targeted"] else 1.0
    if candidate.steps and fraction == 0.0:
        raise RuntimeError("compression left every targeted weight unchanged")
    parameters = sum(tensor.parameters for tensor in read_checkpoint(base).tensors.values())
    return Footprint(bytes_on_disk(folder), parameters, fraction)


def _notes(artefact: Artefact | None, zero_shot: Sequence[str]) -> tuple[str, ...]:
    notes = tuple(artefact.about["notes"]) if artefact else ()
    return notes + ((f"no example for {', '.join(zero_shot)}: asked zero-shot",) if zero_shot else ())


def _limit_memory(fraction: float | None) -> None:
    import torch

    if fraction is not None and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(min(fraction, 1.0))


def device_name(device: str) -> str:
    """What the numbers were taken on: the GPU's name, or the CPU's thread count."""
    import torch

    return (
        torch.cuda.get_device_name(device) if device.startswith("cuda") else f"cpu ({torch.get_num_threads()} threads)"
    )
