"""What a study trains on: read once and checked before anything starts, and known again on resume."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator.ledger.lines import StudyHeader
from orchestrator.ledger.names import SYNTHETIC
from orchestrator.study.spec import StudySpec
from search_spaces.candidate import digest_of
from search_spaces.errors import StudyError
from search_spaces.methods.trainers import Distill, Trainer
from search_spaces.sizes.student_shape import read_student_config
from search_spaces.wording import pluralize
from workers.reading.segments import DataSet
from workers.reading.training_data import TrainingData, examples, training_data
from workers.training.data.overlap import refuse_overlap
from workers.training.enough import too_short

TOKENIZER = "tokenizer.json"
# By which the length of a pair is told before anything is tokenized.
COUNTED_PAIRS = 200


@dataclass(frozen=True, slots=True)
class Training:
    """What steps that train read."""

    data: TrainingData
    """What is trained on."""
    missing: tuple[str, ...]
    """The directions of the study's data that it has no pair for."""
    configs: Mapping[str, str]
    """Path -> digest of each student's config.json that an anchor names."""
    to_write: int = 0
    """How many pairs the model is to write before the search."""

    def identity(self) -> dict[str, Any]:
        """What decides the artefacts: the content of all of it."""
        return {"pairs": self.data.digest, "configs": dict(self.configs)}

    def told(self) -> list[str]:
        """What a person should know of it before the search, a line each."""
        files, langs = pluralize(len(self.data.files), "file"), ", ".join(self.data.langs)
        more = f" and {self.to_write:,} pairs that the model writes" if self.to_write else ""
        lines = [f"trained on {files} of pairs{more}, in the directions {langs}"]
        if self.data.measured:
            texts = pluralize(len(self.data.measured), "text")
            lines.append(f"left out of the training data: {texts} that the study measures on")
        if self.missing:
            lines.append(
                f"the training data has no pairs for {', '.join(self.missing)}: these directions are not trained"
            )
        return lines


def read_training(spec: StudySpec, data: Mapping[str, DataSet]) -> Training | None:
    """The study's training data in the directions of its dev and test data; None where it names none.

    A pair serves both directions of its languages. What the model wrote is among them, once it is there. Raises
    DataError for a bad file, or a line with a source that the study measures on (with skip_bad_rows such lines are left
    out), and StudyError where there are no pairs in the study's directions.
    """
    if not spec.training:
        return None
    wanted = sorted({langs for dataset in data.values() for langs in dataset.pairs})
    files = [(source.file, source.weight) for source in spec.training]
    written = synthetic_file(spec)
    has_written = spec.synthetic_pairs > 0 and written.is_file()
    if has_written:
        files.append((str(written), 1.0))
    found = training_data(files, wanted, spec.skip_bad_rows)
    there = _directions(found)
    if not there:
        names = ", ".join(file for file, _ in files)
        raise StudyError(
            f"the training data ({names}) has no pair in the directions of the study's data ({', '.join(wanted)}); "
            "name a file that has some with --training"
        )
    missing = tuple(langs for langs in wanted if langs not in there)
    trained = refuse_overlap(replace(found, langs=tuple(langs for langs in found.langs if langs in there)), data)
    configs = {
        step.config: digest_of(read_student_config(step.config))
        for steps in spec.given
        for step in steps
        if isinstance(step, Distill) and step.config
    }
    return Training(trained, missing, configs, 0 if has_written else spec.synthetic_pairs)


def synthetic_file(spec: StudySpec) -> Path:
    """Where the pairs are that the study's model wrote."""
    return spec.folder / SYNTHETIC


def short_trainings(spec: StudySpec, training: Training, model: Path) -> list[str]:
    """A line for each training that the study names itself whose budget is too small to learn anything.

    model: its folder, by whose tokenizer the first pairs are counted; prompts are left out, so there are no more steps
    than said.
    """
    steps = {step: None for steps in spec.given for step in steps if isinstance(step, Trainer) and step.tokens}
    if not steps or not (model / TOKENIZER).is_file():
        return []
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / TOKENIZER))
    sample = list(itertools.islice(examples(training.data, Counter(), sources_alone=True), COUNTED_PAIRS))
    texts = [text for example in sample for text in (example.source, example.reference or example.source)]
    mean = sum(len(encoded.ids) for encoded in tokenizer.encode_batch(texts)) / len(sample)
    lines = [
        (step, too_short(step, step.tokens / (step.batch * mean), step.batch * mean, about="at most "))
        for step in steps
    ]
    return [f"{step.describe()}: {said}" for step, said in lines if said is not None]


def refuse_changed_training(header: StudyHeader, now: Training | None, folder: Path) -> None:
    """Raise StudyError when a study goes on with other training data than it began with."""
    if header.get("training") != (now.identity() if now else None):
        raise StudyError(
            f"the training data of the study in {folder} has changed since it began; put it back, or begin a new study"
        )


def _directions(data: TrainingData) -> set[str]:
    """Those of the data's directions that a pair, or a source, has been found for; reads no further than it must."""
    found: set[str] = set()
    for example in examples(data, Counter(), sources_alone=True):
        found.add(example.langs)
        if len(found) == len(data.langs):
            break
    return found
