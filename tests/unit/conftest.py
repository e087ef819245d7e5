"""Real models too small to wait for: random Llamas as transformers saves them, with a tokenizer of characters. And
MLflow's store, which takes seconds to make, made once."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

# Tensors this small gain nothing from threads, and on a busy machine threads that wait for each other take seconds.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SPECIAL = ("<unk>", "<s>", "</s>")
CHARACTERS = "\n" + "".join(map(chr, range(32, 127)))


@pytest.fixture(scope="session")
def character_tokenizer() -> Any:
    """One token a printable ASCII character, so that text and ids name each other; `<s>` goes first."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *CHARACTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", padding_side="left",
        clean_up_tokenization_spaces=False,
    )  # fmt: skip


@pytest.fixture(scope="session")
def save_llama(tmp_path_factory: pytest.TempPathFactory, character_tokenizer: Any) -> Any:
    """A function that saves a random Llama and its tokenizer: (dtype, edit of the model, **config) -> folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()

    def save(dtype: Any = torch.bfloat16, edit: Any = lambda model: None, **config: Any) -> Path:
        shape = {
            "vocab_size": len(character_tokenizer), "hidden_size": 64, "intermediate_size": 128,
            "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
            "max_position_embeddings": 512, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None,
        }  # fmt: skip
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(**(shape | config)))
        with torch.no_grad():
            edit(model)
        folder = tmp_path_factory.mktemp("llama")
        model.to(dtype).save_pretrained(folder)
        character_tokenizer.save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="session")
def new_mlflow_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's store, as a search makes it when it begins."""
    from mlflow_tracking.store import hold_store

    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    with hold_store(f"sqlite:///{file}"):
        return file


@pytest.fixture
def mlflow_store(new_mlflow_store: Path, tmp_path: Path) -> Path:
    """A copy of the new store, where a study of `tmp_path / "run"` has its own."""
    return Path(shutil.copyfile(new_mlflow_store, tmp_path / "mlflow.db"))


@pytest.fixture
def short_translations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random models know no end: at the gate of a training they say four tokens."""
    from workers.training import held_out_check

    monkeypatch.setattr(held_out_check, "DEFAULT_MAX_NEW_TOKENS", 4)
