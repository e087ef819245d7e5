"""Real COMET models of a few kilobytes, built and asked for their scores by COMET's own environment.

In the main environment call `in_comet`, which runs this module with COMET's interpreter.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.paths import ROOT

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
KINDS = ("regression_metric", "referenceless_regression_metric", "unified_metric")

Row = tuple[str, str, str]


def built(folder: Path, kind: str = "regression_metric", named_encoder: str = "") -> Any:
    """The order for a model folder as the hub has them: hparams.yaml, checkpoints/model.ckpt, and encoder/.

    kind: regression_metric needs references; the other two see source and hypothesis. named_encoder: what the
    checkpoint says its encoder is, as the published ones say xlm-roberta-large; else the folder's own path.
    """
    return {"folder": str(folder), "kind": kind, "named_encoder": named_encoder}


def scored(folder: Path, rows: list[Row], batch: int = 64) -> Any:
    """The order for the scores that COMET's own `predict` gives rows of (source, hypothesis, reference)."""
    return {"folder": str(folder), "rows": rows, "batch": batch}


def in_comet(*orders: Any) -> list[list[float]]:
    """Carry out orders in COMET's environment, one after another; returns each one's scores (none for a build)."""
    from workers.comet.environment import comet_python

    command = [str(comet_python()), "-m", "tests.support.tiny_comet"]
    done = subprocess.run(command, input=json.dumps(orders), capture_output=True, text=True, cwd=ROOT)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return list(json.loads(done.stdout.splitlines()[-1]))


def _build(folder: Path, kind: str, named_encoder: str) -> list[Any]:
    import pytorch_lightning
    import torch
    import yaml
    from comet.models import str2model

    encoder = _encoder(folder / "encoder")
    shape: dict[str, Any] = {"encoder_model": "XLM-RoBERTa", "pretrained_model": str(encoder), "hidden_sizes": [16]}
    shape |= {"layer_transformation": "sparsemax", "layer_norm": False}
    if kind == "unified_metric":
        shape |= {"sent_layer": "mix", "word_layer": 2, "input_segments": ["mt", "src"]}
    torch.manual_seed(7)
    model = str2model[kind](**shape, local_files_only=True)
    hparams = {**dict(model.hparams), "class_identifier": kind}
    if named_encoder:
        hparams["pretrained_model"] = named_encoder
    (folder / "checkpoints").mkdir(parents=True)
    content = {"state_dict": model.state_dict(), "hyper_parameters": hparams, "epoch": 0, "global_step": 0}
    content["pytorch-lightning_version"] = pytorch_lightning.__version__
    torch.save(content, folder / "checkpoints" / "model.ckpt")
    (folder / "hparams.yaml").write_text(yaml.safe_dump(hparams))
    return []


def _encoder(folder: Path) -> Path:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel

    characters = ["▁", *map(chr, range(33, 127)), *"äöüßáčěířšžůé"]
    pieces = [*((token, 0.0) for token in SPECIAL), *((character, -1.0) for character in characters)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token", "mask_token"), SPECIAL, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, cls_token="<s>", sep_token="</s>", **names).save_pretrained(
        folder
    )
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(
        json.dumps(settings | {"tokenizer_class": "XLMRobertaTokenizer", "model_max_length": 512})
    )
    torch.manual_seed(7)
    config = XLMRobertaConfig(
        vocab_size=len(pieces), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=514, pad_token_id=1, bos_token_id=0, eos_token_id=2, type_vocab_size=1,
    )  # fmt: skip
    XLMRobertaModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def _scored(folder: Path, rows: list[Row], batch: int) -> list[Any]:
    from comet import load_from_checkpoint

    model = load_from_checkpoint(str(folder / "checkpoints" / "model.ckpt"), local_files_only=True)
    samples = [{"src": source, "mt": hypothesis, "ref": reference} for source, hypothesis, reference in rows]
    return list(model.predict(samples, batch_size=batch, gpus=0, num_workers=0, progress_bar=False).scores)


def _carry_out(order: dict[str, Any]) -> list[Any]:
    folder = Path(order.pop("folder"))
    return _scored(folder, **order) if "rows" in order else _build(folder, **order)


if __name__ == "__main__":
    print(json.dumps([_carry_out(order) for order in json.load(sys.stdin)]))
