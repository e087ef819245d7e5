"""Recovery end to end: adapters merged and apart and trained scales, judged on held-out pairs, and gone on with."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from search_spaces.candidate import BaseModel, Candidate
from search_spaces.errors import CandidateError, StudyError
from search_spaces.methods.pruners import RemoveLayers
from search_spaces.methods.quantizers import FP8, RTN, W8A8
from search_spaces.methods.trainers import Distill, Recover
from search_spaces.predicted_size import predicted_bytes
from tests.support.dense_reference import logits
from tests.support.examples import dataset
from tests.support.trained_parents import FORMS, SHAPE, empty, made, trained_a_little, training_context
from workers.checkpoints.model_files import bytes_on_disk, context_length, read_checkpoint, read_config
from workers.evaluation.candidate_folder import artefact_key, compress_candidate
from workers.evaluation.methods import compress
from workers.loading.load import load_model, load_tokenizer
from workers.plan.compression_context import Report
from workers.plan.evaluation_plan import EvaluationPlan
from workers.runtime.training_progress import Progress, Trained
from workers.scoring.metrics import Interval
from workers.training import engines
from workers.training import steps as one_step
from workers.training.model_forms.trainable import scales_form
from workers.training.model_forms.writing import Written, write_trained
from workers.training.teachers.choose_teacher import translating_teacher
from workers.translation.decoding import Decoding
from workers.translation.prompts import PROMPTS
from workers.translation.translator import Translator

CPU = torch.device("cpu")
LORA = Recover(rank=4, loss="references", tokens=600, batch=8, rate=1e-2, warm_up=1)
SCALES = Recover(adapter="scales", loss="references", tokens=600, batch=8, rate=2e-2, warm_up=1)
LEARNING = {
    "merged": ("dense", replace(LORA, merged=True)),
    "apart": ("packed", replace(LORA, loss="reverse_kl", teacher="cached")),
    "dora on a sparse parent": ("sparse", replace(LORA, adapter="dora")),
    "scales": ("packed", SCALES),
    "scales and zero points": ("packed with zero points", replace(SCALES, loss="skew_kl", hidden=0.1)),
}


pytestmark = pytest.mark.usefixtures("short_translations")


@pytest.fixture(scope="module")
def parents(save_llama: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = save_llama(**SHAPE)
    scratch = tmp_path_factory.mktemp("parents")
    return {form: made(base, scratch, *steps) for form, steps in FORMS.items()}


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def done(curve: list[str], chrf: tuple[float | None, float | None]) -> Trained:
    return Trained(tokens=12_345, steps=67, curve=(), notes=tuple(curve), chrf_before=chrf[0], chrf_after=chrf[1])


@pytest.mark.parametrize("case", LEARNING)
def test_a_recovery_learns_is_the_same_again_and_takes_the_bytes_predicted(
    parents: dict[str, Path], tmp_path: Path, case: str
) -> None:
    form, step = LEARNING[case]
    before = hashes(parents[form])
    told: list[Progress] = []
    reports: list[Report] = []
    folders: list[Path] = []
    for run in ("first", "second")[: 1 + (case in ("apart", "scales"))]:
        (tmp_path / run).mkdir()
        context = training_context(tmp_path / run, parents["dense"], report=told.append)
        folders.append(empty(tmp_path / run))
        reports.append(compress(parents[form], folders[-1], step, context))
    assert hashes(folders[0]) == hashes(folders[-1])
    assert reports[0] == reports[-1]
    assert hashes(parents[form]) == before
    report = reports[0]
    assert report.changed == report.targeted > 0
    assert report.notes[0].startswith("trained on ")
    assert "validation chrF" in report.notes[-1]
    assert report.seconds > 0
    assert report.curve[-1].tokens == told[-1].tokens
    assert told[0].name == "recover"
    predicted = predicted_bytes(read_checkpoint(parents["dense"]), (*FORMS[form], step))
    # The step takes what it is predicted to take; the quantizer's own config may differ by some bytes.
    assert predicted == pytest.approx(bytes_on_disk(folders[0]), rel=0.01)
    found, began = logits(load_model(folders[0], "cpu")), logits(load_model(parents[form], "cpu"))
    assert found.isfinite().all()
    assert (found - began).abs().max() > 1e-3


@pytest.mark.parametrize("form", ["packed", "packed with zero points"])
def test_scales_and_norms_alone_are_trained_and_stored_as_they_were_used(
    parents: dict[str, Path], tmp_path: Path, form: str
) -> None:
    trained = scales_form(parents[form], CPU)
    assert torch.equal(logits(trained.model), logits(load_model(parents[form], "cpu")))
    trained_a_little(trained.model, rate=5e-2)
    written = write_trained(trained, tmp_path)
    assert written == Written(
        *[sum(one.parameters for one in read_checkpoint(parents["dense"]).targets().values())] * 2
    )
    assert bytes_on_disk(tmp_path) == bytes_on_disk(parents[form])
    assert read_config(tmp_path) == read_config(parents[form])
    before, after = tensors(parents[form]), tensors(tmp_path)
    assert list(before) == list(after)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.rpartition(".")[2] for name in changed} == {"weight_scale", "weight"}
    assert all("norm" in name for name in changed if name.endswith(".weight"))
    # Norms, trained in float32, are rounded to bfloat16.
    torch.testing.assert_close(logits(load_model(tmp_path, "cpu")), logits(trained.model), rtol=0, atol=0.1)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    found: dict[str, torch.Tensor] = load_file(folder / "model.safetensors")
    return found


@pytest.mark.parametrize(("form", "said"), [("dense", "no packed weights"), ("sparse", "weight_mask"), ("nf4", "own")])
def test_scales_need_packed_integers(parents: dict[str, Path], form: str, said: str) -> None:
    with pytest.raises(CandidateError, match=said):
        scales_form(parents[form], CPU)


@pytest.mark.parametrize("quantizer", [FP8(), W8A8()])
def test_eight_bit_formats_have_no_trained_scales(parents: dict[str, Path], tmp_path: Path, quantizer: Any) -> None:
    with pytest.raises(CandidateError, match="which is not trained"):
        scales_form(made(parents["dense"], tmp_path, quantizer), CPU)


def test_a_larger_budget_goes_on_where_a_smaller_one_stopped(parents: dict[str, Path], tmp_path: Path) -> None:
    step = replace(LORA, merged=True, schedule="inverse_sqrt")
    folders = []
    for run, budgets in (("on", (600, 1200)), ("whole", (1200,))):
        (tmp_path / run).mkdir()
        context = training_context(tmp_path / run, parents["dense"])
        for tokens in budgets:
            out = empty(tmp_path / run)
            report = compress(parents["dense"], out, replace(step, tokens=tokens), context)
        folders.append(out)
        assert report.curve[-1].tokens >= 1200
        assert len(list((tmp_path / run / "store").glob("training-*"))) == 1
    assert hashes(folders[0]) == hashes(folders[1])


def test_without_training_data_the_flag_is_named(parents: dict[str, Path], tmp_path: Path) -> None:
    context = training_context(tmp_path, parents["dense"])
    with pytest.raises(StudyError, match="--training FILE"):
        compress(parents["dense"], empty(tmp_path), LORA, replace(context, training=None))
    with pytest.raises(StudyError, match="artefact store"):
        compress(parents["dense"], empty(tmp_path), LORA, replace(context, store=None))


@pytest.mark.parametrize(
    ("changes", "search"),
    [({"loss": "sequence"}, "greedy"), ({"loss": "forward_kl", "beams": 3, "reference_share": 0.5}, "3 beams")],
    ids=["sequence", "beams"],
)
def test_sequence_level_data_comes_from_the_teacher(
    parents: dict[str, Path], tmp_path: Path, changes: dict[str, Any], search: str
) -> None:
    context = training_context(tmp_path, parents["dense"], count=24)
    step = replace(LORA, tokens=200, **changes)
    pairs = one_step.training_pairs(parents["packed"], step, context)
    given = one_step.training_pairs(parents["packed"], replace(LORA, loss="references", tokens=200), context)
    assert pairs.held_out == given.held_out
    # A random teacher says something else than the references.
    assert not {pairs.segment(row).references for row in range(len(pairs))} & {
        given.segment(row).references for row in range(len(given))
    }
    teacher = translating_teacher(step, context)
    assert teacher.decoding.search == search
    translate = Translator(
        load_model(teacher.folder, "cpu"), load_tokenizer(teacher.folder), teacher.prompt, teacher.examples,
        teacher.decoding, context_length(read_config(teacher.folder)),
    )  # fmt: skip
    made = [pairs.segment(row) for row in range(len(pairs))]
    assert [one.references[0] for one in made] == [one.text.strip() for one in translate(made)]
    assert compress(parents["packed"], empty(tmp_path), step, context).notes[0].startswith("trained on ")


@pytest.mark.parametrize(
    ("chrf", "changed", "said"),
    [
        ((50.0, 51.25), None, "validation chrF 50.00 → 51.25 (9 pairs)"),
        ((50.004, 49.996), None, "changed nothing measurable: validation chrF 50.00 → 50.00 (9 pairs)"),
        ((50.0, 49.0), Interval(-2.0, -0.1), "training made it worse: validation chrF 50.00 → 49.00 (9 pairs)"),
        ((50.0, 49.0), Interval(-2.0, 0.25), "validation chrF 50.00 → 49.00, a tie (9 pairs, 95 % -2.00 to +0.25)"),
        (
            (None, None),
            None,
            "no pairs were kept from training to judge it by; give more than a few that have references with "
            "--training",
        ),
    ],
)
def test_the_gate_is_held_out_quality(
    chrf: tuple[float | None, float | None], changed: Interval | None, said: str
) -> None:
    trained = done(["smaller batches"], chrf)
    assert trained.looks_worse is (changed is not None)
    report = one_step.report_of(Written(10, 5), trained, 9, 1.5, changed)
    assert report.notes == ("trained on 12,345 tokens in 67 steps", "smaller batches", said)
    assert (report.targeted, report.changed, report.seconds) == (10, 5, 1.5)


def test_the_training_is_named_by_all_but_its_budget(parents: dict[str, Path], tmp_path: Path) -> None:
    context = training_context(tmp_path, parents["dense"])
    pairs = one_step.training_pairs(parents["dense"], LORA, context)

    def key(step: Recover = LORA, **changes: Any) -> str:
        return engines.training_key(step, pairs, replace(context, **changes))

    assert key() == key(replace(LORA, tokens=5))
    others = [
        key(replace(LORA, rate=1e-3)), key(replace(LORA, rank=5)), key(seed=1), key(parent_key="p"),
        key(teacher_key="t"),
    ]  # fmt: skip
    assert len({key(), *others}) == 6
    file = tmp_path / "student.json"
    students = set()
    for heads in (4, 8):
        file.write_text(json.dumps({"num_attention_heads": heads}))
        students.add(engines.training_key(Distill(config=str(file)), pairs, context))
    assert len(students) == 2


def test_a_sharded_training_is_built_alike_in_every_process_and_judged_here(
    parents: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workers.runtime import ray_process
    from workers.training.loop.optimizer import trainable
    from workers.training.zero import launch
    from workers.training.zero.weights import write_trained as put

    asked: list[Any] = []

    def train_sharded(training: Any, report: Any) -> Trained:
        module, _, name = training.builder.partition(":")
        assert module == engines.__name__
        learners = [getattr(engines, name)(CPU, **training.arguments) for _ in range(2)]
        own, other = (dict(trainable(learner)) for learner in learners)
        assert all(torch.equal(own[name], other[name]) for name in own)
        put(training.out, {name: tensor.detach() + 0.01 for name, tensor in own.items()})
        asked.append(training)
        return done([], (None, None))

    monkeypatch.setattr(launch, "train_sharded", train_sharded)
    monkeypatch.setattr(ray_process, "has_gpus", lambda: False)
    monkeypatch.setattr(ray_process, "with_a_gpu", lambda work, *arguments, report: work(*arguments, report))
    context = training_context(tmp_path, parents["dense"], processes=2)
    out = empty(tmp_path)
    report = compress(parents["packed"], out, replace(SCALES, loss="forward_kl", hidden=0.1), context)
    (training,) = asked
    assert (training.processes, training.packed) == (2, True)
    table = read_checkpoint(parents["dense"]).tensors
    assert training.trained < training.parameters < training.teacher
    assert training.teacher == sum(tensor.parameters for tensor in table.values())
    assert "validation chrF" in report.notes[-1]
    assert report.changed == report.targeted
    assert not (out / "trained").exists()


def test_pruned_recovered_quantized_and_recovered_again_in_one_candidate(
    parents: dict[str, Path], tmp_path: Path
) -> None:
    context = training_context(tmp_path, parents["dense"])
    pairs = one_step.training_pairs(parents["dense"], LORA, context)
    calibration = dataset([pairs.segment(row) for row in range(len(pairs))])
    decoding = Decoding(max_new_tokens=4, prompt="few-shot")
    plan = EvaluationPlan({}, calibration, ("chrf",), decoding, tmp_path / "store", training=context.training)
    steps = (RemoveLayers(count=1), replace(LORA, merged=True), RTN(bits=4), SCALES)
    candidate = Candidate(BaseModel(str(parents["dense"]), "sha256:" + "0" * 64), steps)
    told: list[Progress] = []
    artefact = compress_candidate(candidate, parents["dense"], PROMPTS["few-shot"], plan, told.append)
    assert artefact is not None
    assert context.training is not None
    about = artefact.about
    assert [step["method"] for step in about["steps"]] == ["remove_layers", "recover", "rtn", "recover"]
    assert [curve["step"] for curve in about["curves"]] == [step.describe() for step in steps[1::2]]
    assert [curve["points"][-1][0] >= 600 for curve in about["curves"]] == [True, True]
    assert sum(note.startswith("trained for ") for note in about["notes"]) == 2
    assert {progress.name for progress in told} == {"recover"}
    assert "3. `rtn(bits=4" in (artefact.path / "README.md").read_text()
    predicted = predicted_bytes(read_checkpoint(parents["dense"]), steps)
    assert predicted == pytest.approx(bytes_on_disk(artefact.path), rel=0.02)
    assert compress_candidate(candidate, parents["dense"], PROMPTS["few-shot"], plan) == artefact
    other = replace(plan, training=replace(context.training, langs=("de-en",)))
    assert artefact_key(candidate, PROMPTS["few-shot"], plan) != artefact_key(candidate, PROMPTS["few-shot"], other)
