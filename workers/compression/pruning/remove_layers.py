"""Removal of decoder layers: those that change the hidden state least (ShortGPT), or whose absence is measured to cost
least."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from search_spaces.errors import StudyError
from search_spaces.methods.pruners import RemoveLayers
from search_spaces.sizes.tensor_table import layer_of, renumber_layer
from workers.checkpoints.model_files import context_length, read_checkpoint, read_config
from workers.compression.pruning.layer_search import LayerChoice, choose, greedy, pairwise
from workers.loading.load import load_model, load_tokenizer
from workers.plan.compression_context import CompressionContext, Report
from workers.reading.segments import Segment
from workers.stored_forms.checkpoint import copy_small_files, stored_tensors, write_config, write_tensors
from workers.translation.prompts import Prompt

CALIBRATION_PAIRS = 128
CALIBRATION_BATCH = 16
CALIBRATION_TOKENS = 512


def compress(parent: Path, out: Path, step: RemoveLayers, context: CompressionContext) -> Report:
    """Write the checkpoint without `step.count` layers, chosen as `step.by` says, to `out`."""
    chosen = _CHOICES[step.by](parent, step.count, context)
    keep = [layer for layer in range(read_checkpoint(parent).layers) if layer not in chosen.removed]
    write_tensors(out, kept_tensors(parent, keep, context.device))
    copy_small_files(parent, out)
    write_config(out, shallower_config(read_config(parent), keep))
    before, after = read_checkpoint(parent), read_checkpoint(out)
    lost = before.parameters - after.parameters
    return Report(targeted=lost, changed=lost, notes=chosen.notes)


def by_similarity(parent: Path, count: int, context: CompressionContext) -> LayerChoice:
    """The `count` layers of least block influence."""
    influence = block_influence(parent, context)
    removed = least_influential(influence, count)
    said = ", ".join(f"{layer} ({influence[layer]:.4f})" for layer in removed)
    return LayerChoice(tuple(removed), (f"layers removed (block influence): {said}",))


def least_influential(influence: Sequence[float], count: int) -> list[int]:
    """The `count` layers of least influence, in layer order; of equals, the later one goes first."""
    ranked = sorted(range(len(influence)), key=lambda layer: (influence[layer], -layer))
    return sorted(ranked[:count])


def block_influence(folder: Path, context: CompressionContext) -> list[float]:
    """For each layer, 1 - mean cosine between the hidden states that enter and leave it, over the tokens of up to 128
    calibration pairs in the model's own prompt (https://arxiv.org/abs/2403.03853 §3.2)."""
    if not context.calibration:
        raise StudyError("removing layers by influence needs calibration pairs; name a file of them with --calibration")
    model = load_model(folder, context.whole_on, context.trust_remote_code)
    tokenizer = load_tokenizer(folder, context.trust_remote_code)
    limit = min(context_length(read_config(folder)) or CALIBRATION_TOKENS, CALIBRATION_TOKENS)
    texts = [context.prompt.answered(pair, tokenizer) for pair in spread(context.calibration, CALIBRATION_PAIRS)]
    sums: torch.Tensor | None = None
    tokens = 0
    for start in range(0, len(texts), CALIBRATION_BATCH):
        cosines, counted = _layer_cosines(
            model, tokenizer, texts[start : start + CALIBRATION_BATCH], context.prompt, limit
        )
        sums = cosines if sums is None else sums + cosines
        tokens += counted
    assert sums is not None
    return [1 - value for value in (sums / tokens).tolist()]


def spread(pairs: Sequence[Segment], count: int) -> list[Segment]:
    """Up to `count` pairs, evenly spread over the sequence, so that every language in it has its share."""
    if len(pairs) <= count:
        return list(pairs)
    return [pairs[position * len(pairs) // count] for position in range(count)]


def kept_tensors(folder: Path, keep: Sequence[int], device: torch.device) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors outside the layers as they are, and those of the kept layers renumbered from 0."""
    new_index = {layer: position for position, layer in enumerate(keep)}
    for name, tensor in stored_tensors(folder, device):
        layer = layer_of(name)
        if layer is None:
            yield name, tensor
        elif layer in new_index:
            yield renumber_layer(name, new_index[layer]), tensor


def shallower_config(config: dict[str, Any], keep: Sequence[int]) -> dict[str, Any]:
    """The config for the kept layers: their number, and every per-layer list (such as `layer_types`) cut to match."""
    if "text_config" in config:
        return {**config, "text_config": shallower_config(config["text_config"], keep)}
    depth = config["num_hidden_layers"]
    config = {**config, **_layer_types(config)}
    cut = {
        key: [value[layer] for layer in keep]
        for key, value in config.items()
        if isinstance(value, list) and len(value) == depth and key.startswith("layer")
    }
    return {**config, **cut, "num_hidden_layers": len(keep)}


def _layer_types(config: dict[str, Any]) -> dict[str, list[str]]:
    """The kind of each layer where config.json leaves it to the layer's place, as Gemma 2's and 3's do: a layer stays
    of its kind wherever it comes to stand. {} where it is named, or all are of one kind."""
    from transformers import CONFIG_MAPPING

    if config.get("layer_types") or config.get("model_type") not in CONFIG_MAPPING:
        return {}
    types = getattr(CONFIG_MAPPING[config["model_type"]].from_dict(dict(config)), "layer_types", None)
    return {"layer_types": list(types)} if types and len(set(types)) > 1 else {}


def _layer_cosines(
    model: Any, tokenizer: Any, texts: list[str], prompt: Prompt, limit: int
) -> tuple[torch.Tensor, int]:
    """Each layer's sum over tokens of cosine(entering, leaving), shape (layers,), and how many tokens were summed."""
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    batch = tokenizer(
        texts,
        return_tensors="pt",
        padding=True,
        truncation=True,
        max_length=limit,
        add_special_tokens=prompt.special_tokens,
    ).to(model.device)
    sums: dict[int, torch.Tensor] = {}
    mask = batch["attention_mask"].bool()

    def note(index: int) -> Any:
        def hook(module: Any, inputs: Any, keywords: Any, output: Any) -> None:
            before = inputs[0] if inputs else keywords["hidden_states"]
            # What leaves a device's last layer may be on another one already.
            after = (output[0] if isinstance(output, tuple) else output).to(before.device)
            cosine = torch.nn.functional.cosine_similarity(before.float(), after.float(), dim=-1)
            sums[index] = cosine[mask.to(cosine.device)].double().sum().cpu()

        return hook

    hooks = [
        layer.register_forward_hook(note(index), with_kwargs=True)
        for index, layer in enumerate(model.get_decoder().layers)
    ]
    try:
        with torch.inference_mode():
            model(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False, logits_to_keep=1
            )
    finally:
        for handle in hooks:
            handle.remove()
    return torch.stack([sums[index] for index in sorted(sums)]), int(mask.sum())


_CHOICES: dict[str, Callable[[Path, int, CompressionContext], LayerChoice]] = {
    "similarity": by_similarity,
    "greedy": partial(choose, greedy),
    "pairwise": partial(choose, pairwise),
}
