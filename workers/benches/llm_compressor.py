"""The same work by llm-compressor, where it is installed: its GPTQ on the same weights and tokens.

Seen to run with llmcompressor 0.14.0.1, compressed-tensors 0.19.0 and auto-round 0.15.1 beside transformers 5.17.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from workers.benches.compression_speed import Timed, timed


def quantize_by_llm_compressor(
    model: Any, ids: torch.Tensor, bits: int, group_size: int, device: torch.device, processor: Path
) -> Timed:
    """GPTQ by llm-compressor's oneshot with its own defaults; the model ends with the quantized weights.

    ids: int64 (sequences, tokens). processor: a folder with a tokenizer, which oneshot asks for and does not use here.
    Raises ImportError where llm-compressor is not installed.
    """
    from llmcompressor import oneshot
    from llmcompressor.modifiers.gptq import GPTQModifier
    from transformers import AutoTokenizer

    scheme = {
        "targets": ["Linear"],
        "weights": {
            "num_bits": bits,
            "type": "int",
            "symmetric": True,
            "strategy": "group",
            "group_size": group_size,
        },
    }
    recipe = GPTQModifier(config_groups={"group_0": scheme}, ignore=["lm_head"])
    loader = torch.utils.data.DataLoader(_Rows(ids), batch_size=1)
    with tempfile.TemporaryDirectory() as folder:
        model.config.save_pretrained(folder)
        model.config._name_or_path = folder
        model.name_or_path = folder
        tokenizer = AutoTokenizer.from_pretrained(processor)
        return timed(
            lambda: oneshot(
                model=model,
                processor=tokenizer,
                recipe=recipe,
                dataset=loader,
                num_calibration_samples=len(ids),
                max_seq_length=ids.shape[1],
            ),
            device,
        )


class _Rows:
    """One sequence an item, in the form a model is called with."""

    def __init__(self, ids: torch.Tensor) -> None:
        self._ids = ids

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self._ids[row], "attention_mask": torch.ones_like(self._ids[row])}
