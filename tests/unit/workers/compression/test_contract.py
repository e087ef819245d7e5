"""What every method promises, checked on all of them alike: the same bytes again, as many as predicted, a folder that
loads as the weights it stores, and a parent left as it was. Steps that train are held to it too, on a CPU."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from search_spaces.candidate import BaseModel, Candidate
from search_spaces.methods.pruners import (
    Magnitude,
    RemoveChannels,
    RemoveHeads,
    RemoveLayers,
    SparseGPT,
    TrimVocabulary,
    Wanda,
)
from search_spaces.methods.quantizers import (
    AWQ,
    FP8,
    GPTQ,
    HQQ,
    RTN,
    W8A8,
    BitsAndBytes,
    MixedWidths,
    QuantizeEmbeddings,
)
from search_spaces.methods.registry import METHODS, Step
from search_spaces.methods.trainers import Distill, Finetune, Recover
from search_spaces.predicted_size import predicted_bytes
from tests.support.paths import ROOT
from workers.checkpoints.adapters import ADAPTER, has_adapter
from workers.checkpoints.model_files import bytes_on_disk, read_checkpoint, weight_files
from workers.decoder.decode import Decoder
from workers.decoder.generate import generate
from workers.decoder.greedy import DecodeRequest
from workers.evaluation.methods import compress
from workers.loading.load import load_model, load_tokenizer
from workers.plan.compression_context import CompressionContext, Report
from workers.reading.dataset import read_dataset
from workers.reading.segments import Segment
from workers.reading.training_data import TrainingData, training_data
from workers.stored_forms.checkpoint import dense_tensors
from workers.training import held_out_check
from workers.training import steps as one_step
from workers.translation.prompts import PROMPTS

CPU = torch.device("cpu")
BASE = BaseModel("models/contract", "sha256:" + "0" * 64)
TOKENS = 800
WITHIN = 0.005
EMBEDDINGS = QuantizeEmbeddings(bits=8)
# What trainers train here: some optimizer steps, at a rate that shows in bfloat16. A divergence from the teacher alone
# would leave the teacher itself as it is.
SHORT: dict[str, Any] = {"tokens": 600, "batch": 4, "warm_up": 1, "rate": 1e-2}
LOW_RANK: dict[str, Any] = {"rank": 4, "alpha": 8.0, **SHORT}
CASES: list[tuple[Step, ...]] = [
    (RTN(bits=8),),
    (RTN(bits=3, group_size=32, symmetric=False),),
    (HQQ(bits=4),),
    (AWQ(bits=4),),
    (GPTQ(bits=4),),
    (GPTQ(bits=2, group_size=128, symmetric=False, activation_order=False),),
    (MixedWidths(bits=3.5, score="fisher"),),
    (MixedWidths(bits=4.5, score="error", embeddings=True),),
    (BitsAndBytes(format="int8"),),
    (BitsAndBytes(format="nf4"),),
    (BitsAndBytes(format="fp4", double_quantization=True),),
    (FP8(),),
    (FP8(activations=True),),
    (W8A8(),),
    (EMBEDDINGS,),
    (QuantizeEmbeddings(bits=4, group_size=-1),),
    (QuantizeEmbeddings(bits=4, by="gptq"),),
    (RTN(bits=4), QuantizeEmbeddings(bits=4, group_size=32, by="gptq")),
    (RemoveLayers(count=1),),
    (RemoveLayers(count=1, by="greedy"),),
    (RemoveLayers(count=1, by="pairwise"),),
    (RemoveHeads(groups=2),),
    (RemoveChannels(share=0.25),),
    (TrimVocabulary(tokens=704),),
    (Magnitude(sparsity=0.3),),
    (Wanda(pattern="2:4"),),
    (SparseGPT(),),
    (GPTQ(bits=4), EMBEDDINGS),
    (BitsAndBytes(format="nf4"), EMBEDDINGS),
    (W8A8(), EMBEDDINGS),
    (RemoveLayers(count=1), RTN(bits=4)),
    (RemoveChannels(share=0.25), GPTQ(bits=3), EMBEDDINGS),
    (SparseGPT(), GPTQ(bits=4)),
    (Magnitude(), EMBEDDINGS),
    (Wanda(), HQQ(bits=4), EMBEDDINGS),
    (TrimVocabulary(tokens=704), RemoveLayers(count=1, by="greedy"), MixedWidths(bits=4.0, embeddings=True)),
    (RemoveHeads(groups=2), RemoveChannels(share=0.25), BitsAndBytes(format="int8")),
    (Recover(loss="references", **LOW_RANK),),
    (Recover(merged=True, loss="references", **LOW_RANK),),
    (Recover(adapter="dora", merged=True, loss="reverse_kl", reference_share=0.5, **LOW_RANK),),
    (GPTQ(bits=4), Recover(**LOW_RANK)),
    (GPTQ(bits=3), Recover(adapter="dora", dropout=0.0, teacher="cached", **LOW_RANK)),
    (Wanda(), GPTQ(bits=4), Recover(**LOW_RANK)),
    (BitsAndBytes(format="nf4"), Recover(**LOW_RANK)),
    (GPTQ(bits=3), Recover(adapter="scales", **SHORT)),
    (RTN(bits=4, symmetric=False), Recover(adapter="scales", loss="reverse_kl", **SHORT), EMBEDDINGS),
    (Finetune(reference_share=0.5, **SHORT),),
    (GPTQ(bits=3), Finetune(loss="skew_kl", **SHORT)),
    (SparseGPT(), Finetune(**SHORT), RTN(bits=4)),
    (TrimVocabulary(tokens=704), Finetune(loss="references", **SHORT)),
    (Distill(layers=1, width=0.5, channels=0.5, **SHORT),),
    (Distill(channels=0.5, hidden=0.5, **SHORT), GPTQ(bits=4), EMBEDDINGS),
    (RemoveLayers(count=1), Finetune(**SHORT), GPTQ(bits=3), Recover(adapter="scales", **SHORT)),
]
every_case = pytest.mark.parametrize("steps", CASES, ids=lambda steps: Candidate(BASE, steps).describe())


@dataclass(frozen=True)
class Made:
    """A written candidate; report: of its last step. parent_before: its parent's files before that step."""

    folder: Path
    report: Report
    parent: Path
    parent_before: dict[str, str]


Make = Callable[..., Made]


@pytest.fixture(scope="module")
def pairs() -> list[Segment]:
    """The shortest of the shipped calibration pairs."""
    segments = read_dataset(ROOT / "data" / "calibration.jsonl.gz").segments
    return sorted(segments, key=lambda pair: len(pair.source) + len(pair.references[0]))[:120]


@pytest.fixture(scope="module")
def base_of(save_llama: Any, pairs: list[Segment]) -> Callable[[tuple[Step, ...]], Path]:
    """What a case begins with: two layers of 128 with an untied head, and a byte-level vocabulary made of the
    calibration pairs. One layer of mixed widths is a config that such a model is too small beside: it is of 256."""
    narrow, wide = (saved(save_llama, pairs, width) for width in (128, 256))
    return lambda steps: wide if len(steps) > 1 and isinstance(steps[-1], MixedWidths) else narrow


def saved(save_llama: Any, pairs: list[Segment], width: int) -> Path:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=TOKENS,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text for pair in pairs for text in (pair.source, *pair.references)], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    folder: Path = save_llama(
        vocab_size=TOKENS, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2, num_attention_heads=8,
        num_key_value_heads=4, tie_word_embeddings=False, initializer_range=0.1,
    )  # fmt: skip
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", padding_side="left",
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    fast.save_pretrained(folder)
    assert len(fast) == TOKENS
    return folder


@pytest.fixture(scope="module", autouse=True)
def short_trainings() -> Iterator[None]:
    """Random models know no end: at the gate of a training they say four tokens. Collecting garbage would take longer
    than all else here."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(held_out_check, "DEFAULT_MAX_NEW_TOKENS", 4)
        for module in (held_out_check, one_step):
            patched.setattr(module, "release_memory", lambda: None)
        yield


@pytest.fixture(scope="module")
def training(pairs: list[Segment], tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    """The first of the pairs, to train on; some are held out."""
    file = tmp_path_factory.mktemp("training") / "pairs.jsonl"
    rows = [{"langs": pair.langs, "src": pair.source, "ref": pair.references[0]} for pair in pairs[:60]]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return training_data([(str(file), 1.0)], sorted({pair.langs for pair in pairs}))


@pytest.fixture(scope="module")
def make(
    base_of: Callable[[tuple[Step, ...]], Path],
    pairs: list[Segment],
    training: TrainingData,
    tmp_path_factory: pytest.TempPathFactory,
) -> Make:
    """(steps, run) -> the candidate, made once a run; each run has statistics and parents of its own."""
    root = tmp_path_factory.mktemp("made")

    @cache
    def made(base: Path, steps: tuple[Step, ...], run: int) -> Made:
        parent = made(base, steps[:-1], run).folder if len(steps) > 1 else base
        key = "-".join([base.name, Candidate(BASE, steps[:-1]).digest, str(run)])
        context = CompressionContext(
            pairs, PROMPTS["alma"], CPU, seed=0, store=root / f"store-{run}", parent_key=key, calibration_tokens=1024,
            training=training, teacher=base, teacher_key="base",
        )  # fmt: skip
        out = Path(tempfile.mkdtemp(dir=root))
        before = hashes(parent)
        return Made(out, compress(parent, out, steps[-1], context), parent, before)

    return lambda steps, run=0: made(base_of(steps), steps, run)


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found = model(torch.tensor([[1, 40, 7, 90, 33, 5, 61, 300]])).logits
    assert isinstance(found, torch.Tensor)
    return found.float()


def not_run_as_dense(step: Step) -> bool:
    """Whether the format's layers round more than the weights: activations too, or products in a narrow type."""
    return isinstance(step, BitsAndBytes | W8A8) or (isinstance(step, FP8) and step.activations)


def dense_model(folder: Path) -> Any:
    """The architecture that config.json names, with the weights that the folder stands for, in float32; with an adapter
    that the folder keeps apart as peft puts it beside them."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict({name: tensor.float() for name, tensor, _ in dense_tensors(folder, CPU)})
    if has_adapter(folder):
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, folder / ADAPTER)
    return model.eval()


def test_the_cases_cover_every_method() -> None:
    assert {step.name for steps in CASES for step in steps} == set(METHODS)


@every_case
def test_a_second_run_writes_the_same_bytes(make: Make, steps: tuple[Step, ...]) -> None:
    first, second = make(steps), make(steps, 1)
    assert hashes(first.folder) == hashes(second.folder)
    assert first.report == second.report


@every_case
def test_the_bytes_are_those_predicted(
    make: Make, base_of: Callable[[tuple[Step, ...]], Path], steps: tuple[Step, ...]
) -> None:
    base, written = base_of(steps), bytes_on_disk(make(steps).folder)
    assert predicted_bytes(read_checkpoint(base), steps) == pytest.approx(written, rel=WITHIN)
    if any(step.kind != "trainer" or isinstance(step, Distill) for step in steps):
        assert written < bytes_on_disk(base)


@every_case
def test_all_that_is_targeted_is_changed(make: Make, steps: tuple[Step, ...]) -> None:
    report = make(steps).report
    assert report.changed == report.targeted > 0


@every_case
def test_the_parent_is_left_as_it_was(make: Make, steps: tuple[Step, ...]) -> None:
    made = make(steps)
    assert hashes(made.parent) == made.parent_before
    assert {file.name for file in weight_files(made.folder)} != set()


@every_case
def test_it_loads_and_runs_as_the_weights_it_stores(make: Make, steps: tuple[Step, ...]) -> None:
    folder = make(steps).folder
    found = logits(load_model(folder, "cpu"))
    assert found.isfinite().all()
    tokenizer = load_tokenizer(folder)
    assert found.shape[-1] == len(tokenizer)
    assert tokenizer.decode(tokenizer("Zwei Hunde.", add_special_tokens=False)["input_ids"]) == "Zwei Hunde."
    if not any(not_run_as_dense(step) for step in steps):
        torch.testing.assert_close(found, logits(dense_model(folder)), rtol=1e-4, atol=1e-4)


@every_case
def test_the_decoder_translates_it_as_generate_does(make: Make, steps: tuple[Step, ...]) -> None:
    """One request at a time, for LLM.int8() looks for outliers over the whole batch."""
    model = load_model(make(steps).folder, "cpu")
    decoder = Decoder(model, (2,), 1)
    assert decoder.unknown is None
    asked = [DecodeRequest(tuple(range(3 + place, 15 + 2 * place)), 8) for place in range(3)]
    expected: dict[int, list[int]] = {}
    generate(model, asked, (2,), 1, 1, expected, lambda count: None)
    assert decoder.decode(asked) == [expected[place] for place in range(3)]
