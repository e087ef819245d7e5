"""Embeddings and head in 4 bits: by GPTQ they cost a tied table far less than round-to-nearest does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from search_spaces.errors import StudyError
from search_spaces.methods.quantizers import QuantizeEmbeddings
from tests.support.trained_tokenizers import PAIRS, ROOT
from workers.calibration.divergence import Divergence
from workers.calibration.sequences import balance_pairs, batches
from workers.compression.quantization.embeddings import compress
from workers.compression.quantization.head_inputs import head_hessian
from workers.loading.load import load_model, load_tokenizer
from workers.plan.compression_context import CompressionContext
from workers.stored_forms.checkpoint import stored_tensors
from workers.stored_forms.packing import unpack
from workers.translation.prompts import PROMPTS

CAPTIONS = ROOT / "models" / "captions"
CPU = torch.device("cpu")
BY = ("rtn", "gptq")


def context(pairs: Any = PAIRS) -> CompressionContext:
    return CompressionContext(pairs, PROMPTS["few-shot"], CPU, 0, calibration_tokens=8192)


def made(parent: Path, out: Path, by: Any) -> Path:
    out.mkdir()
    assert compress(parent, out, QuantizeEmbeddings(bits=4, by=by), context()).changed > 0
    return out


def table(folder: Path, name: str) -> torch.Tensor:
    stored = {key.rpartition(".")[2]: tensor for key, tensor in stored_tensors(folder, CPU) if name in key}
    return unpack(stored, 4)[0].float() if "weight_packed" in stored else stored["weight"].float()


def test_a_tied_table_keeps_more_of_what_the_model_says(tmp_path: Path) -> None:
    shown = balance_pairs(PAIRS[150:], load_tokenizer(CAPTIONS), PROMPTS["few-shot"], 2048)
    reference = Divergence(load_model(CAPTIONS, "cpu"), batches(shown, 1024))
    nats = {by: reference.of(load_model(made(CAPTIONS, tmp_path / by, by), "cpu")) for by in BY}
    assert nats["gptq"] < 0.8 * nats["rtn"]


def test_a_head_of_its_own_follows_what_enters_it_and_its_embeddings_the_nearest_grid(
    save_llama: Any, tmp_path: Path
) -> None:
    parent = save_llama(tie_word_embeddings=False, initializer_range=0.2)
    hessian = head_hessian(parent, context())
    wrong: dict[str, dict[str, float]] = {}
    for by in BY:
        folder = made(parent, tmp_path / by, by)
        apart = {name: table(folder, name) - table(parent, name) for name in ("embed_tokens", "lm_head")}
        wrong[by] = {
            "embed_tokens": float(apart["embed_tokens"].square().sum()),
            "lm_head": float(((apart["lm_head"] @ hessian) * apart["lm_head"]).sum()),
        }
    assert wrong["gptq"]["embed_tokens"] < 0.8 * wrong["rtn"]["embed_tokens"]
    assert wrong["gptq"]["lm_head"] < 0.8 * wrong["rtn"]["lm_head"]


def test_without_pairs_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="--calibration"):
        compress(CAPTIONS, tmp_path, QuantizeEmbeddings(bits=4, by="gptq"), context(()))


def test_what_it_looks_at_depends_on_how_it_rounds() -> None:
    assert [QuantizeEmbeddings(bits=4, by=by).is_calibrated for by in BY] == [False, True]
    assert [QuantizeEmbeddings(bits=bits, by="gptq").symmetric for bits in (8, 4)] == [True, False]
