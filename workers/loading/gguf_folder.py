"""Writes the plain bfloat16 folder of a GGUF file, as transformers reads it: `python -m workers.loading.gguf_folder`.

A process of its own runs it for the driver, which loads no torch; workers call `write_folder`. What transformers leaves
open is settled here: embeddings that the file has twice, what ends a turn, and how the tokenizer cuts its text.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from search_spaces.errors import ModelFilesError, UserError
from workers.checkpoints.gguf_header import MEGABYTE, GgufHeader, gguf_revision, read_gguf, spell_grid, spell_types
from workers.runtime.artefact_store import ArtefactStore

Say = Callable[[str], None]

EMBEDDINGS, HEAD = "token_embd.weight", "output.weight"
ROPE_FACTORS = "rope_freqs.weight"
# The same table at two widths of bits has a cosine near 1; a head that was trained by itself has one near 0.
SAME_TABLE = 0.9
# Rows of a table that tell that.
ROWS = 512
# Llama 3's own rotary settings but the factor (https://arxiv.org/abs/2407.21783 names the base; the rest is in Meta's
# released code): `rope_freqs.weight` holds what they come to.
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
LLAMA3_FACTORS = (8.0, 32.0)
# Layers of the size of Gemma whose scores are divided by another root than that of a head's size, as in llama.cpp.
GEMMA_27B = {"gemma2": 46, "gemma3": 62}
ORIGIN = "gguf.json"


def key_of(revision: str) -> str:
    """The store's key of the folder of a file of this revision."""
    return f"base-{revision.partition(':')[2].replace('+', '-')}"


def stored_folder(header: GgufHeader, store: Path, say: Say) -> Path:
    """The file's folder in the store, made there by the first to ask."""
    build = partial(write_folder, header, say=say)
    return ArtefactStore(store).get(key_of(gguf_revision(header)), build).path


def write_folder(header: GgufHeader, out: Path, say: Say, weights: bool = True) -> dict[str, Any]:
    """Write config, tokenizer and bfloat16 weights to the empty folder `out`; returns what its manifest says.

    weights: whether to write them; without, the folder has their table over bytes that are all 0, for who reads
    headers alone. Raises ModelFilesError for a file that transformers can't read whole.
    """
    refuse_unreadable(header)
    from workers.loading.gguf_tokenizer import write_tokenizer
    from workers.loading.load import quieten

    quieten()
    config = read_gguf_config(header)
    tied, kept, note = tables(header)
    config.tie_word_embeddings = tied
    say(f"the tokenizer of {len(header.metadata.get('tokenizer.ggml.tokens', ())):,} tokens")
    notes = [spell_types(header), *filter(None, [spell_grid(header), note]), *write_tokenizer(header, out)]
    _refuse_unused(header, skeleton := _skeleton(config))
    model = _loaded(header, config, kept, say) if weights else skeleton
    write_generation_config(header, config, out)
    _write_weights(model, tied, out, weights, say)
    _write_config(config, type(model).__name__, out)
    types = {one.name: {"type": one.type, "bytes": one.bytes} for one in header.tensors}
    about = {"gguf": str(header.file), "bytes": header.bytes, "notes": notes}
    (out / ORIGIN).write_text(json.dumps({**about, "tensors": types}, indent=1) + "\n", encoding="utf-8")
    return about


def refuse_unreadable(header: GgufHeader) -> None:
    """Raise ModelFilesError for what transformers would misread without a word, and for what it can't read."""
    from transformers.integrations.gguf import GGUF_CONFIG_ARCHS
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    name = header.architecture
    readable = sorted({*GGUF_SUPPORTED_ARCHITECTURES, *GGUF_CONFIG_ARCHS})
    if name not in readable:
        raise ModelFilesError(
            f"{header.file} is of the architecture {name!r}, which the installed transformers does not read from GGUF; "
            f"it reads {', '.join(readable)}. Name the model that it was made from"
        )
    if header.metadata.get(f"{name}.expert_count"):
        raise ModelFilesError(f"{header.file} is a mixture of experts, which is not compressed here; name another")
    if (kind := header.metadata.get(f"{name}.rope.scaling.type", "none")) != "none":
        raise ModelFilesError(
            f"{header.file} stretches its positions ({name}.rope.scaling.type: {kind}), which transformers does not "
            "read from GGUF; name the model that it was made from"
        )


def read_gguf_config(header: GgufHeader) -> Any:
    """The model's config as transformers has it from the file, with what that leaves out."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(header.file.parent, gguf_file=header.file.name)
    said, name = header.metadata, header.architecture
    size = said.get(f"{name}.attention.key_length")
    if (size is not None and size * config.num_attention_heads != config.hidden_size) or hasattr(config, "head_dim"):
        config.head_dim = size or getattr(config, "head_dim", None)
    if hasattr(config, "attention_bias"):
        config.attention_bias = header.tensor("blk.0.attn_q.bias") is not None
    if name in GEMMA_27B:
        whole = said[f"{name}.embedding_length"] // said[f"{name}.attention.head_count"]
        config.query_pre_attn_scalar = whole if said[f"{name}.block_count"] == GEMMA_27B[name] else config.head_dim
    for key in ("attn_logit_softcapping", "final_logit_softcapping"):
        if (bound := said.get(f"{name}.{key}")) is not None:
            setattr(config, key, bound)
    if header.tensor(ROPE_FACTORS) is not None:
        config.rope_parameters = {**config.rope_parameters, **_llama3_rope(header, config)}
    config.dtype = "bfloat16"
    return config


def _llama3_rope(header: GgufHeader, config: Any) -> dict[str, Any]:
    """The rotary settings that `rope_freqs.weight` is what comes of; raises ModelFilesError for others."""
    import numpy as np

    said = _values(header, ROPE_FACTORS).reshape(-1)
    theta, size = config.rope_parameters["rope_theta"], 2 * len(said)
    waves = 2 * np.pi * theta ** (np.arange(0, size, 2) / size)
    low, high, context = (
        LLAMA3["low_freq_factor"],
        LLAMA3["high_freq_factor"],
        LLAMA3["original_max_position_embeddings"],
    )
    smooth = np.clip((context / waves - low) / (high - low), 0.0, 1.0)
    for factor in LLAMA3_FACTORS:
        if np.allclose(said, 1 / ((1 - smooth) / factor + smooth), rtol=1e-3):
            return {"rope_type": "llama3", "factor": factor, **LLAMA3}
    raise ModelFilesError(
        f"{header.file} has factors of its own for rotary positions ({ROPE_FACTORS}), which are not those of Llama 3; "
        "name the model that it was made from"
    )


def tables(header: GgufHeader) -> tuple[bool, str, str | None]:
    """Whether the head is the embeddings, the tensor that is kept for both, and what to say.

    A tied model's file may have the table twice, at different bits; the one at more is kept.
    """
    import numpy as np

    embeddings, head = header.tensor(EMBEDDINGS), header.tensor(HEAD)
    if embeddings is None or head is None:
        return True, EMBEDDINGS, None
    if embeddings.shape != head.shape:
        return False, EMBEDDINGS, None
    one, other = (_values(header, name, ROWS) for name in (EMBEDDINGS, HEAD))
    norms = np.maximum(np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1), 1e-12)
    cosine = float(np.median((one * other).sum(axis=1) / norms))
    if cosine < SAME_TABLE:
        return False, EMBEDDINGS, None
    more, less = (head, embeddings) if head.bits > embeddings.bits else (embeddings, head)
    note = (
        f"the file has the embeddings twice, as {embeddings.name} ({embeddings.type}) and {head.name} ({head.type}); "
        f"the model is tied, and both are {more.name}"
    )
    return True, more.name, note if more is not less else None


def _values(header: GgufHeader, name: str, rows: int | None = None) -> Any:
    """A tensor in float32, whole or so many rows of it, spread evenly."""
    import numpy as np
    from gguf import GGMLQuantizationType, dequantize

    tensor = header.tensor(name)
    if tensor is None:
        raise ModelFilesError(f"{header.file} has no tensor {name}")
    count = tensor.shape[0] if len(tensor.shape) > 1 else 1
    stored = np.memmap(header.file, np.uint8, "r", tensor.offset, (count, tensor.bytes // count))
    taken = np.linspace(0, count - 1, min(count, rows or count)).astype(int)
    found: Any = dequantize(np.ascontiguousarray(stored[taken]), GGMLQuantizationType[tensor.type])
    return found


def _loaded(header: GgufHeader, config: Any, kept: str, say: Say) -> Any:
    """The model in bfloat16; raises ModelFilesError where the file lacks weights of it."""
    import torch
    from transformers import AutoModelForCausalLM

    say(f"{len(header.tensors)} tensors to bfloat16, which takes a minute or two for each billion weights")
    tied = config.tie_word_embeddings
    # So that both tables are read where there are two.
    config.tie_word_embeddings = tied and header.tensor(HEAD) is None
    model, found = AutoModelForCausalLM.from_pretrained(
        header.file.parent,
        gguf_file=header.file.name,
        config=config,
        dtype=torch.bfloat16,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
    )
    if missing := sorted(found["missing_keys"]):
        raise ModelFilesError(
            f"{header.file} lacks {len(missing)} weights of its architecture, or names them otherwise: "
            f"{', '.join(missing[:3])}; name the model that it was made from"
        )
    if found["mismatched_keys"]:
        raise ModelFilesError(f"{header.file} has weights of other shapes than its metadata say; fetch it again")
    if tied and kept == HEAD:
        model.get_input_embeddings().weight.data = model.get_output_embeddings().weight.data
    config.tie_word_embeddings = tied
    return model


def _skeleton(config: Any) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)


def _refuse_unused(header: GgufHeader, model: Any) -> None:
    """Raise ModelFilesError for tensors that transformers' class has no place for, which it would leave out."""
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    number = next((key for key, value in MODEL_ARCH_NAMES.items() if value == header.architecture), None)
    if number is None:
        return
    table = get_tensor_name_map(number, model.config.num_hidden_layers)
    known = {table.get_name(name, try_suffixes=(".weight", ".bias")) for name in model.state_dict()}
    unused = [one.name for one in header.tensors if one.name not in (*known, HEAD, ROPE_FACTORS)]
    if unused:
        raise ModelFilesError(
            f"{header.file} has {len(unused)} tensors that transformers' {type(model).__name__} has no place for, such "
            f"as {unused[0]}; name the model that it was made from"
        )


def _write_weights(model: Any, tied: bool, out: Path, weights: bool, say: Say) -> None:
    import torch

    from workers.checkpoints.model_files import SINGLE_WEIGHTS
    from workers.checkpoints.tensor_files import header_of
    from workers.stored_forms.checkpoint import write_tensors

    def tensors() -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in model.state_dict().items():
            if not (tied and name == "lm_head.weight"):
                yield name, tensor.to(torch.bfloat16)

    table = dict(tensors())
    if weights:
        say(f"writing {sum(one.nbytes for one in table.values()) / MEGABYTE:,.1f} MB")
        write_tensors(out, table.items())
        return
    first = header_of(table)
    with (out / SINGLE_WEIGHTS).open("wb") as stream:
        stream.write(first)
        stream.truncate(len(first) + sum(one.nbytes for one in table.values()))


def _write_config(config: Any, architecture: str, out: Path) -> None:
    from workers.stored_forms.checkpoint import write_config

    # Of the quantizer that read the file, and of where it lay.
    left = ("quantization_config", "_name_or_path", "_model_name_or_path")
    record = {key: value for key, value in config.to_dict().items() if key not in left}
    write_config(out, {**record, "architectures": [architecture], "dtype": "bfloat16"})


def write_generation_config(header: GgufHeader, config: Any, out: Path) -> None:
    """What begins and ends a text: an end of turn is an end too."""
    from transformers import GenerationConfig

    said = header.metadata
    ends = [said.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot")]
    ends = list(dict.fromkeys(end for end in ends if end is not None))
    found = GenerationConfig(
        bos_token_id=said.get("tokenizer.ggml.bos_token_id"),
        eos_token_id=ends[0] if len(ends) == 1 else ends or None,
        pad_token_id=said.get("tokenizer.ggml.padding_token_id"),
        do_sample=False,
    )
    found.save_pretrained(out)


def main() -> int:
    """The exit code: 2 with a line of JSON for what the user can mend. What is done is said on the standard output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--store", type=Path, help="make the folder here, under its key")
    where.add_argument("--sketch", type=Path, help="fill this empty folder, without weights")
    options = parser.parse_args()
    # A bar for whoever looks at a terminal.
    if sys.stderr.isatty():
        os.environ.pop("TQDM_DISABLE", None)
    say = partial(_tell, "say")
    try:
        header = read_gguf(options.file)
        if options.sketch is not None:
            write_folder(header, options.sketch, say, weights=False)
            _tell("folder", str(options.sketch))
        else:
            _tell("folder", str(stored_folder(header, options.store, say)))
    except UserError as error:
        _tell("error", str(error))
        return 2
    return 0


def _tell(kind: str, text: str) -> None:
    print(json.dumps({kind: text}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
