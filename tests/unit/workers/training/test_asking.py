"""What a step asks of its teacher before it trains: what is refused, and what a person hears meanwhile."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from search_spaces.errors import CandidateError, StudyError
from search_spaces.methods.trainers import Distill, Finetune, Recover
from tests.support.tiny_models import tiny_model
from tests.support.tiny_training import batch_of
from tests.support.trained_parents import SHAPE, empty, training_context
from workers.evaluation.methods import compress
from workers.runtime.training_progress import Progress
from workers.training import steps
from workers.training.data.batches import fewest_tokens
from workers.training.loop.learner import Learner
from workers.training.teachers import choose_teacher
from workers.training.teachers.teacher import LiveTeacher
from workers.translation.decoding import Decoding

KL = Finetune(tokens=300, batch=8)


@pytest.fixture(scope="module")
def base(save_llama: Any) -> Path:
    folder: Path = save_llama(**SHAPE)
    return folder


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be tokenized or loaded."""

    def never(*arguments: Any, **keywords: Any) -> Any:
        raise AssertionError("the training data was read")

    monkeypatch.setattr(steps, "tokenize_pairs", never)
    monkeypatch.setattr(steps, "form", never)


def other_tokens(base: Path, folder: Path) -> Path:
    """The model with a tokenizer that gives two tokens each other's ids."""
    shutil.copytree(base, folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "step",
    [replace(KL, hidden=0.5), Recover(teacher="cached", reference_share=0.5), Distill(layers=1, teacher="cached")],
    ids=str,
)
@pytest.mark.usefixtures("untouched")
def test_what_compares_token_by_token_is_refused_for_other_ids_before_anything_is_read(
    base: Path, save_llama: Any, tmp_path: Path, step: Any
) -> None:
    swapped = other_tokens(base, tmp_path / "swapped")
    fewer = save_llama(**SHAPE, vocab_size=96)
    said = "matches hidden states" if step.hidden else "takes a cached teacher"
    for parent in (swapped, fewer):
        with pytest.raises(StudyError, match=rf'{said}.* use teacher: live .* or use the loss "sequence"'):
            compress(parent, empty(tmp_path), step, training_context(tmp_path, base))
    assert not (tmp_path / "store").exists()


@pytest.mark.usefixtures("untouched")
def test_a_teacher_that_lacks_tokens_of_the_students_is_refused(base: Path, tmp_path: Path) -> None:
    parent = other_tokens(base, tmp_path / "other")
    file = parent / "tokenizer.json"
    file.write_text(file.read_text(encoding="utf-8").replace('"b":', '"§b":'), encoding="utf-8")
    for step in (KL, Recover(loss="reverse_kl", reference_share=0.5)):
        with pytest.raises(StudyError, match=r"lacks 1 of the student's .* such as '§b'.* use the loss"):
            compress(parent, empty(tmp_path), step, training_context(tmp_path, base))


def test_losses_on_text_take_any_vocabulary(base: Path, tmp_path: Path) -> None:
    swapped = other_tokens(base, tmp_path / "swapped")
    pairs = steps.training_pairs(swapped, Finetune(loss="references"), training_context(tmp_path, base))
    assert len(pairs)


@pytest.mark.usefixtures("untouched")
def test_the_model_itself_is_no_teacher_of_its_own(base: Path, tmp_path: Path) -> None:
    for step in (KL, replace(KL, hidden=0.5), Recover()):
        with pytest.raises(CandidateError, match=r"nothing to learn\..* or compress first"):
            compress(base, empty(tmp_path), step, training_context(tmp_path, base))
    with pytest.raises(AssertionError, match="was read"):
        compress(base, empty(tmp_path), replace(KL, reference_share=0.5), training_context(tmp_path, base))


@pytest.mark.parametrize("loss", ["forward_kl", "reverse_kl", "skew_kl"])
def test_what_is_refused_has_no_gradient(loss: Any) -> None:
    model = tiny_model("llama")
    learner = Learner(model, replace(KL, loss=loss, hidden=0.5), LiveTeacher(tiny_model("llama")))
    learner(batch_of(([1, 40, 7, 90, 33, 2], 3), ([1, 12, 64, 2], 1))).sum.backward()
    assert max(float(one.grad.abs().max()) for one in model.parameters() if one.grad is not None) < 1e-6


@pytest.mark.usefixtures("short_translations")
@pytest.mark.parametrize(
    ("doing", "changes"),
    [
        ("teacher's cache", {"loss": "reverse_kl", "teacher": "cached", "reference_share": 0.5}),
        ("teacher's translations", {"loss": "sequence"}),
    ],
)
def test_what_the_teacher_is_asked_before_the_training_is_told(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, doing: str, changes: dict[str, Any]
) -> None:
    monkeypatch.setattr(choose_teacher, "Decoding", partial(Decoding, max_new_tokens=4))
    told: list[Progress] = []
    step = replace(KL, tokens=100, **changes)
    for _ in range(2):
        compress(base, empty(tmp_path), step, training_context(tmp_path, base, report=told.append))
    before = [one for one in told if one.doing]
    assert {(one.name, one.doing) for one in before} == {("finetune", doing)}
    # The second time the store has it all.
    assert before[0].tokens == 0 and [one.tokens >= one.of for one in before].count(True) == 1
    assert told.index(before[-1]) == len(before) - 1 and told[len(before)].of == 100


def test_micro_batches_fill_a_gpu_and_a_compiled_model_takes_more() -> None:
    seven, one, tiny = (7_241_000_000, 32, 4096), (1_104_000_000, 16, 2048), (5_000_000, 4, 256)
    assert [choose_teacher.fitting_tokens(*seven, gpu_bytes=80 * 2**30, compiled=how) for how in (False, True)] == [
        7021,
        15123,
    ]
    # What is worth telling a GPU of, where there is room; and the least, where there is none.
    assert (
        choose_teacher.fitting_tokens(*one, gpu_bytes=math.inf) == fewest_tokens(one[0], torch.device("cuda")) == 31829
    )
    assert choose_teacher.fitting_tokens(*tiny, gpu_bytes=80 * 2**30) == 65_536
    assert choose_teacher.fitting_tokens(*seven, gpu_bytes=2**30) == 1024
    # A fifth of a large GPU: float32 weights, gradients and moments, then logits, take half of it.
    half = (494_000_000, 24, 896)
    assert choose_teacher.fitting_tokens(*half, gpu_bytes=28 * 2**30) == 14979
    assert choose_teacher.fitting_tokens(*half, gpu_bytes=28 * 2**30, held=9 * 10**9) == 10928
