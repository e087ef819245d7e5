"""A kept model as one GGUF file: its grids in ggml's types bit for bit, everything else in the type that it has.

What was written is read back with the package `gguf`, and each tensor is compared with the model's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from search_spaces.errors import StudyError
from search_spaces.sizes.tensor_table import is_leftover, layer_of
from workers.checkpoints.adapters import has_adapter
from workers.checkpoints.gguf_header import GgufHeader, read_gguf
from workers.export.formats.gguf_architectures import Architecture, architecture_of, rope_of, write_shape
from workers.export.formats.gguf_blocks import BITS, block_type, to_blocks
from workers.export.formats.gguf_vocabulary import refuse_other_tokens, write_vocabulary
from workers.export.formats.grids import KeptWeights, WeightForm
from workers.stored_forms.integer_grid import QuantizedWeight

FILE = "model.gguf"
EMBEDDINGS = "model.embed_tokens.weight"
ROPE_FACTORS = "rope_freqs.weight"
# Types of values that are written as they are.
VALUES = {"BF16": "BF16", "F16": "F16", "F32": "F32"}
# Leasts of grids with zero points are rounded to float16's 11 bits: of 15 steps at most so much of one.
MOST_LOST = 15 / 2**11


def write_gguf(folder: Path, out: Path, name: str, texts: Iterable[str]) -> list[str]:
    """Write FILE into the folder `out`; returns what a person has to know of it. name: of the model, in the metadata.
    texts: that the tokenizer must cut alike, besides samples.

    Raises StudyError for a model that GGUF can't hold as it is, with the reason and what would do.
    """
    import gguf

    weights = KeptWeights(folder)
    forms = {one: form for one, form in weights.forms().items() if not is_leftover(one)}
    architecture = architecture_of(weights.config)
    _refuse_other_forms(folder, weights.config)
    layers = 1 + max(layer for one in forms if (layer := layer_of(one)) is not None)
    kinds = {one: _kind(one, form) for one, form in forms.items()}
    names = _names(architecture, kinds, layers)
    file = out / FILE
    writer = gguf.GGUFWriter(file, architecture.name)
    writer.add_name(name)
    notes = write_shape(writer, architecture, weights.config, layers)
    writer.add_vocab_size(forms[EMBEDDINGS].shape[0])
    write_vocabulary(writer, folder, forms[EMBEDDINGS].shape[0])
    factors = _rope_factors(weights.config)
    if factors is not None:
        writer.add_tensor_info(ROPE_FACTORS, factors.shape, factors.dtype, factors.nbytes)
    for one, kind in kinds.items():
        _add_info(writer, names[one], forms[one].shape, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    if factors is not None:
        writer.write_tensor_data(factors)
    for one, kind in kinds.items():
        writer.write_tensor_data(_stored(weights.read(one), kind, one, architecture, weights.config))
    writer.close()
    lost = _most_lost(read_gguf(file), weights, names, architecture)
    refuse_other_tokens(file, folder, texts)
    return [*notes, *_told(forms, kinds, lost)]


def _refuse_other_forms(folder: Path, config: dict[str, Any]) -> None:
    """Raise StudyError for stored forms that are no grid of integers, nor values."""
    quantization = config.get("quantization_config", {})
    method = quantization.get("quant_method")
    if method == "bitsandbytes":
        raise StudyError(
            "bitsandbytes' types are none of GGUF's; --format merged-bf16 takes the model, and so would one by rtn, "
            "hqq, awq or gptq with a group size of 32, 64 or 128"
        )
    if any(group.get("input_activations") for group in quantization.get("config_groups", {}).values()):
        raise StudyError(
            "the inputs of its layers are quantized too (w8a8, fp8), which GGUF does not say; a model by rtn, hqq, awq "
            "or gptq with a group size of 32, 64 or 128 would do"
        )
    if has_adapter(folder):
        raise StudyError(
            "it keeps an adapter apart, and with it in them weights leave their grid; --format merged-bf16 takes it"
        )


def _kind(name: str, form: WeightForm) -> str:
    """ggml's type of a weight."""
    if len(form.shape) == 1:
        return "F32"
    if form.bits is None:
        if form.type not in VALUES:
            raise StudyError(f"{name} is stored as {form.type}, which GGUF has no type for")
        return VALUES[form.type]
    try:
        return block_type(form)
    except ValueError as error:
        raise StudyError(f"{name} can't be written as GGUF: {error}") from error


def _names(architecture: Architecture, kinds: Iterable[str], layers: int) -> dict[str, str]:
    """Each weight's name in GGUF, by the package's own table."""
    import gguf

    number = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == architecture.name)
    table = gguf.get_tensor_name_map(number, layers)
    found = {name: table.get_name(name, try_suffixes=(".weight", ".bias")) for name in kinds}
    if strange := [name for name, known in found.items() if known is None]:
        raise StudyError(
            f"GGUF's {architecture.name} has no place for {len(strange)} of the model's tensors, such as {strange[0]}; "
            "--format merged-bf16 keeps them"
        )
    return {name: str(known) for name, known in found.items()}


def _add_info(writer: Any, name: str, shape: tuple[int, ...], kind: str) -> None:
    from gguf import GGMLQuantizationType, quant_shape_to_byte_shape

    number = GGMLQuantizationType[kind]
    raw = quant_shape_to_byte_shape(shape, number)
    writer.add_tensor_info(name, raw, np.dtype(np.uint8), int(np.prod(raw)), number)


def _stored(
    weight: QuantizedWeight | torch.Tensor, kind: str, name: str, architecture: Architecture, config: dict[str, Any]
) -> Any:
    """The bytes that stand for a weight, rows in llama.cpp's order."""
    if isinstance(weight, QuantizedWeight):
        rows = to_blocks(weight, kind)
    else:
        values = _shifted(weight, name, architecture) if kind == "F32" else weight
        rows = values.contiguous().view(torch.uint8).numpy().reshape(values.shape[0], -1)
    heads = _rotated_heads(name, architecture, config)
    return rows if heads is None else np.ascontiguousarray(_by_turns(rows, heads))


def _shifted(weight: torch.Tensor, name: str, architecture: Architecture) -> torch.Tensor:
    values = weight.float()
    return values + 1 if architecture.shifted_norms and name.endswith("norm.weight") else values


def _rotated_heads(name: str, architecture: Architecture, config: dict[str, Any]) -> int | None:
    """How many heads a weight of queries or keys has whose rows llama.cpp has in another order; None for others."""
    if not architecture.rotary_rows:
        return None
    heads = int(config["num_attention_heads"])
    if ".q_proj." in name:
        return heads
    return int(config.get("num_key_value_heads") or heads) if ".k_proj." in name else None


def _by_turns(rows: Any, heads: int) -> Any:
    """Rows from the two halves of each head by turns, as llama.cpp's rotary positions of Llama pair them."""
    count = rows.shape[0]
    return rows.reshape(heads, 2, count // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def _back(rows: Any, heads: int) -> Any:
    count = rows.shape[0]
    return rows.reshape(heads, count // heads // 2, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def _rope_factors(config: dict[str, Any]) -> Any:
    """What Llama 3's settings divide each frequency by, float32; None without them."""
    from transformers import PreTrainedConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rotary = rope_of(config)
    if rotary["rope_type"] != "llama3":
        return None
    size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    plain = rotary["rope_theta"] ** (-np.arange(0, size, 2) / size)
    asked = PreTrainedConfig(
        hidden_size=config["hidden_size"],
        num_attention_heads=config["num_attention_heads"],
        head_dim=size,
        max_position_embeddings=config["max_position_embeddings"],
        rope_parameters=rotary,
    )
    stretched = ROPE_INIT_FUNCTIONS["llama3"](asked, torch.device("cpu"))[0].double().numpy()
    return (plain / stretched).astype(np.float32)


def _most_lost(header: GgufHeader, weights: KeptWeights, names: dict[str, str], architecture: Architecture) -> float:
    """The largest difference between a weight as it is read back and the model's own, in steps of its grid.

    Raises StudyError for values that differ at all, and above MOST_LOST.
    """
    most = 0.0
    for name, values in _read_back(header, names, architecture, weights.config):
        weight = weights.read(name)
        if isinstance(weight, QuantizedWeight):
            step = weight.grid.scale.float().repeat_interleave(values.shape[1] // weight.grid.scale.shape[1], 1)
            lost = float(((values - weight.dequantized()).abs() / step.abs()).max())
        else:
            lost = 0.0 if torch.equal(values, _shifted(weight, name, architecture)) else float("inf")
        if lost > MOST_LOST:
            raise StudyError(
                f"{name} does not come back from GGUF as it is: its scales lie outside of float16's range, or it is "
                "damaged; --format merged-bf16 takes the model"
            )
        most = max(most, lost)
    return most


def _read_back(
    header: GgufHeader, names: dict[str, str], architecture: Architecture, config: dict[str, Any]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Each weight in float32 as the package decodes it, rows in our order."""
    from gguf import GGMLQuantizationType, dequantize

    for name, written in names.items():
        tensor = header.tensor(written)
        if tensor is None:
            raise StudyError(f"{header.file} lacks {written}, which was written to it")
        count = tensor.shape[0]
        raw = np.fromfile(header.file, np.uint8, tensor.bytes, offset=tensor.offset).reshape(count, -1)
        values = dequantize(raw, GGMLQuantizationType[tensor.type]).reshape(tensor.shape)
        heads = _rotated_heads(name, architecture, config)
        yield name, torch.from_numpy(np.array(values if heads is None else _back(values, heads)))


def _told(forms: dict[str, WeightForm], kinds: dict[str, str], lost: float) -> list[str]:
    """Where the file is not the model bit for bit, or takes more bytes than it."""
    wider = {(form.bits, kinds[name]) for name, form in forms.items() if form.bits and form.bits < BITS[kinds[name]]}
    notes = [
        f"weights of {bits} bits stand as {kind}, the least of GGUF's types that holds them"
        for bits, kind in sorted(wider)
    ]
    groups = sorted({form.group_size for form in forms.values() if form.bits and form.group_size > 32})
    if groups:
        notes.append(
            f"scales of {', '.join(map(str, groups))} columns are repeated in each block of 32, which changes no weight"
        )
    if lost:
        notes.append(
            f"the least value of a block is rounded to float16: a weight differs by at most {lost:.2%} of a step of "
            "its grid"
        )
    return notes
