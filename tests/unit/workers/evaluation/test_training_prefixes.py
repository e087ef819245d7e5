"""Candidates that train, from a study file to a folder: what two of them share is trained once."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from orchestrator.search.prepared import Study, prepare
from orchestrator.study.spec import spec_from_mapping
from orchestrator.study.yaml_file import read_study
from search_spaces.candidate import Candidate
from search_spaces.methods.quantizers import GPTQ, RTN, QuantizeEmbeddings
from search_spaces.methods.registry import Step
from search_spaces.methods.trainers import Finetune, Recover
from workers.evaluation.candidate_folder import Built, build_candidate
from workers.evaluation.probe import probe
from workers.loading.load import load_model
from workers.plan.evaluation_plan import EvaluationPlan
from workers.runtime.artefact_store import ENDED, MANIFEST, TRAINING
from workers.runtime.stages import Stages
from workers.runtime.training_progress import Trained
from workers.training import engines, held_out_check
from workers.training.loop.one_device import Task, train
from workers.training.teachers import choose_teacher
from workers.training.teachers.teacher import LiveTeacher, live_teacher

STUDY = """
model: {model}
data: {folder}/dev.jsonl
training: [{folder}/pairs.jsonl]
out: {folder}/run
space: joint
prompt: alma
max_new_tokens: 4
calibration_tokens: 2048
anchors:
  - - {{method: remove_layers, count: 1}}
    - {{recipe: alma-lora, merged: true, tokens: 400, batch: 8, rate: 0.01}}
    - {{method: gptq, bits: 4, group_size: 32}}
    - {{recipe: heal, tokens: 400, batch: 8, rate: 0.01, warm_up: 1}}
"""


class Trials:
    """Builds candidates on one store; `trained`: the steps that a training was run for, in order."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.plan: EvaluationPlan = study.plan(0.0)
        self.trained: list[Step] = []

    def train(self, task: Task) -> Trained:
        """As the engines train, and counted."""
        self.trained.append(task.step)
        return train(task)

    def built(self, *steps: Step) -> Built:
        return build_candidate(Candidate(self.study.base, steps), self.plan)


@pytest.fixture
def trials(save_llama: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trials:
    """The study of STUDY: a random model of three layers, 40 pairs to train on, and one to measure."""
    rows = [
        {"langs": "en-de", "src": f"{number} dogs run", "ref": f"{number} Hunde rennen {number % 7}"}
        for number in range(41)
    ]
    for name, some in (("dev.jsonl", rows[:1]), ("pairs.jsonl", rows[1:])):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in some), encoding="utf-8")
    file = tmp_path / "study.yaml"
    file.write_text(STUDY.format(model=save_llama(initializer_range=0.2), folder=tmp_path), encoding="utf-8")
    study = prepare(spec_from_mapping(read_study(file)).absolute(), Console(quiet=True))
    found = Trials(study)
    monkeypatch.setattr(held_out_check, "DEFAULT_MAX_NEW_TOKENS", 4)
    monkeypatch.setattr(engines, "train", found.train)
    return found


def test_an_anchor_that_prunes_recovers_quantizes_and_recovers_again(trials: Trials) -> None:
    (steps,) = trials.study.spec.anchors
    assert [step.name for step in steps] == ["remove_layers", "recover", "gptq", "recover"]
    artefact = trials.built(*steps).artefact
    assert artefact is not None
    assert trials.trained == [steps[1], steps[3]]
    # What checkpoints there are say that their trainings are over.
    assert all((folder / ENDED).is_file() for folder in trials.plan.store.glob(f"{TRAINING}*"))
    assert len(list(trials.plan.store.glob(f"{TRAINING}*"))) == 2
    assert len(artefact.about["curves"]) == 2
    assert sum("validation chrF" in note for note in artefact.about["notes"]) == 2
    assert torch.isfinite(load_model(artefact.path, "cpu")(torch.tensor([[1, 40, 7]])).logits).all()


def written(store: Path) -> dict[Path, int]:
    """When each artefact of the store was finished, in nanoseconds."""
    return {file: file.stat().st_mtime_ns for file in store.glob(f"*/{MANIFEST}")}


def test_trials_that_share_a_prefix_train_it_once(trials: Trials) -> None:
    (steps,) = trials.study.spec.anchors
    first = trials.built(*steps)
    before = written(trials.plan.store)
    trials.trained.clear()

    assert trials.built(*steps) == first
    assert trials.built(*steps[:2]).artefact != first.artefact
    assert trials.built(*steps[:2], RTN(bits=8)).artefact != first.artefact
    assert trials.trained == []

    assert isinstance(steps[3], Recover)
    again = replace(steps[3], tokens=800)
    more = trials.built(*steps[:3], again)
    assert more.artefact != first.artefact
    assert trials.trained == [again]
    assert before.items() <= written(trials.plan.store).items()


def test_what_the_store_has_is_made_no_second_time_when_what_it_was_made_from_is_gone(trials: Trials) -> None:
    (steps,) = trials.study.spec.anchors
    first = trials.built(*steps)
    assert first.artefact is not None
    for file in list(written(trials.plan.store)):
        if file.parent != first.artefact.path and "steps" in json.loads(file.read_text(encoding="utf-8"))["about"]:
            shutil.rmtree(file.parent)
    before = written(trials.plan.store)
    trials.trained.clear()
    assert trials.built(*steps) == first
    assert written(trials.plan.store) == before and trials.trained == []
    more = trials.built(*steps, QuantizeEmbeddings(bits=8, group_size=32))
    assert more.artefact is not None and trials.trained == []
    assert len(written(trials.plan.store)) == len(before) + 1
    assert len(more.artefact.about["steps"]) == 5 and len(more.artefact.about["curves"]) == 2


def test_what_a_study_begins_with_teaches_and_is_what_divergences_are_from(
    trials: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = Finetune(loss="references", tokens=400, batch=8, rate=0.01)
    healed = Recover(adapter="scales", tokens=400, batch=8, rate=0.01, warm_up=1)
    steps = (begun, GPTQ(bits=4, group_size=32), healed)
    taught: list[Path] = []

    def teacher(folder: Path, *rest: Any) -> LiveTeacher:
        taught.append(folder)
        return live_teacher(folder, *rest)

    monkeypatch.setattr(choose_teacher, "live_teacher", teacher)
    plain = trials.plan
    from_base, other = nats_of(trials, begun, RTN(bits=8)), trials.built(*steps)
    trials.plan = replace(plain, start=(begun,))
    made = trials.built(begun)
    assert made.artefact is not None and trials.built(begun) == made
    from_begun, again = nats_of(trials, begun, RTN(bits=8)), trials.built(*steps)
    assert taught == [other.base, made.artefact.path]
    assert again.artefact is not None and other.artefact is not None
    assert again.artefact.path != other.artefact.path, "another teacher made it"
    # 8 bits do little beside what the training did.
    assert from_begun < 0.2 * from_base
    # The start itself, and what begins otherwise, are compared with the base model as before.
    assert nats_of(trials, begun) > from_begun
    assert nats_of(trials, RTN(bits=8)) < 0.2 * from_base
    assert trials.trained.count(begun) == 1


def nats_of(trials: Trials, *steps: Step) -> float:
    found = probe(Candidate(trials.study.base, steps), trials.plan, Stages())
    return sum(found.divergence.values()) / len(found.divergence)
