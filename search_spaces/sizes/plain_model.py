"""How a model as people publish it becomes a plain one: text alone, in 16 bits, each weight stored once.

Decided from config.json and the tensor table, so that the bytes are known before a weight is read. What is plain
already stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from search_spaces.errors import ModelFilesError
from search_spaces.sizes.refusals import TOWERS, why_not_by_config
from search_spaces.sizes.tensor_table import DTYPE_BYTES, Checkpoint, Tensor, header_size, is_leftover

# Part of a model's identity where it is made plain: a number more when the same files become other weights.
FORM = "plain1"
EMBEDDINGS, HEAD = "embed_tokens.weight", "lm_head.weight"
WIDE = ("F32", "F64")
RUNS_IN = "BF16"
# A few tensors in float32, such as norms, are no reason to write a model anew: below this share of bytes they stay.
LITTLE = 0.001
# `model_type` of models that read pictures too, and whose text model is a plain one -> the type of that, where it is
# not named in `text_config`. Token for token the same as long as there is no picture: rotary positions in three
# dimensions (Qwen) are then three times the same.
TEXT_TYPES: dict[str, str | None] = {
    "gemma3": "gemma3_text",
    "mistral3": None,
    "llava": None,
    "llava_next": None,
    "llava_onevision": None,
    "internvl": None,
    "idefics3": None,
    "smolvlm": None,
    "qwen2_vl": "qwen2",
    "qwen2_5_vl": "qwen2",
    "qwen3_vl": "qwen3",
}
# Names as the models' authors and as transformers 4.52 and later write them.
_RENAMED = (
    (re.compile(r"^(language_model\.model|model\.language_model|model\.text_model)\."), "model."),
    (re.compile(r"^language_model\.lm_head\."), "lm_head."),
)
# Heads that guess further tokens (DeepSeek, Qwen 3.5), which transformers' own classes have no use for.
_FURTHER_TOKENS = re.compile(r"^(model\.)?mtp(_layers)?\.")
_TEXT_NAME = re.compile(r"^(model\.(layers|embed_tokens|norm)\.|lm_head\.)")
# Families whose head is the embeddings unless config.json says otherwise.
TIED_BY_DEFAULT = frozenset(
    {"gemma", "gemma2", "gemma3_text", "cohere", "cohere2", "smollm3", "starcoder2", "ernie4_5", "opt", "vaultgemma"}
)
# What configs leave out and transformers takes for granted, by `model_type`: what sizes are worked out from, and what
# another class than the plain one has otherwise.
DEFAULTS: dict[str, dict[str, float]] = {
    "gemma3_text": {
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 131072,
        "num_hidden_layers": 26,
        "intermediate_size": 9216,
        "hidden_size": 2304,
    },
    "llama": {"num_attention_heads": 32, "num_hidden_layers": 32, "intermediate_size": 11008, "hidden_size": 4096},
    "mistral": {
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "num_hidden_layers": 32,
        "intermediate_size": 14336,
        "hidden_size": 4096,
    },
    "qwen2_vl": {"rms_norm_eps": 1e-5, "num_attention_heads": 64, "num_key_value_heads": 8, "max_window_layers": 80},
    "qwen2_5_vl": {"rms_norm_eps": 1e-5, "num_attention_heads": 64, "num_key_value_heads": 8, "max_window_layers": 80},
    "qwen3_vl": {"max_position_embeddings": 128000},
}
ROPE_THETAS = {"qwen2_vl": 1e6, "qwen2_5_vl": 1e6, "qwen3_vl": 5e5}
SLIDING_EVERY = 6

Same = Callable[[str, str], bool]


@dataclass(frozen=True, slots=True)
class Conversion:
    """names: stored name -> plain name, of each tensor that is taken. tensors: the plain table, in that order. config:
    the plain config.json. notes: what was done, a line each."""

    names: Mapping[str, str]
    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any]
    notes: tuple[str, ...]

    def checkpoint(self, stored: Checkpoint, other_bytes: int) -> Checkpoint:
        """What the plain folder will hold. other_bytes: of its files but the weights."""
        return replace(
            stored,
            tensors=self.tensors,
            config=self.config,
            header_bytes=header_size(self.tensors),
            other_bytes=other_bytes,
        )


def plain_name(name: str, model_type: object) -> str | None:
    """The name that a stored tensor, or the module of an adapter, has in the plain model; None for what is no part of
    its text model."""
    if model_type not in TEXT_TYPES:
        return name
    for pattern, written in _RENAMED:
        if pattern.search(name):
            return pattern.sub(written, name)
    return name if _TEXT_NAME.search(name) else None


def conversion(
    stored: Checkpoint,
    causal: Mapping[str, str],
    same: Same,
    adapted: bool = False,
) -> Conversion | None:
    """How the model becomes plain; None for one that is, and for one that is not taken apart (quantized, a mixture).

    causal: `model_type` -> the class of a causal language model. same: whether two stored tensors hold the same.
    adapted: an adapter is merged into it, so it is written anew even where it is plain. Raises ModelFilesError for a
    text model that is not known.
    """
    kind = stored.config.get("model_type")
    config = dict(stored.config)
    notes: list[str] = []
    if kind in TEXT_TYPES:
        config = text_model_config(config, causal)
    if why_not_by_config(config) or _packed(stored):
        return None
    names = {name: plain for name in stored.tensors if (plain := plain_name(name, kind)) and not is_leftover(name)}
    if "auto_map" not in config and (further := [name for name in names if _FURTHER_TOKENS.search(name)]):
        names = {name: plain for name, plain in names.items() if name not in further}
        notes.append(f"tensors of heads that guess further tokens ({len(further)}) are neither counted nor written")
    if kind in TEXT_TYPES:
        notes.append(_text_note(stored, names, str(kind)))
    # An outer model's own setting for its head is not always written down.
    said = stored.config.get("tie_word_embeddings") is not False if kind in TEXT_TYPES else config_says_tied(config)
    tied, head_note = _tied(names, said, same)
    if kind in TEXT_TYPES or (head_note and not tied):
        config["tie_word_embeddings"] = tied
    if tied or config_says_tied(stored.config):
        notes += head_note
    tensors = {plain: stored.tensors[name] for name, plain in names.items()}
    wide = sum(tensor.bytes for tensor in tensors.values() if tensor.dtype in WIDE)
    if wide > LITTLE * sum(tensor.bytes for tensor in tensors.values()):
        kinds = sorted({tensor.dtype for tensor in tensors.values() if tensor.dtype in WIDE})
        notes.append(
            f"weights in {' and '.join(f'float{8 * DTYPE_BYTES[dtype]}' for dtype in kinds)} are taken as bfloat16, "
            "which is what runs: in the baseline too"
        )
        config = {key: value for key, value in config.items() if key != "torch_dtype"} | {"dtype": "bfloat16"}
    if not notes and not adapted:
        return None
    if wide:
        tensors = {name: _narrow(tensor) for name, tensor in tensors.items()}
    if kind in TEXT_TYPES and (table := _embeddings(tensors)) is not None:
        config["vocab_size"] = tensors[table].shape[0]
    return Conversion(names, tensors, config, tuple(notes))


def text_model_config(config: Mapping[str, Any], causal: Mapping[str, str]) -> dict[str, Any]:
    """The config.json of the text model alone, of a model that reads more; raises ModelFilesError for one that
    transformers has no causal language model for."""
    outer = str(config["model_type"])
    inner = config.get("text_config") or {
        key: value
        for key, value in config.items()
        if key not in (*TOWERS, "model_type") and not key.startswith(("vision_", "image_", "video_"))
    }
    kind = TEXT_TYPES[outer] or inner.get("model_type") or "llama"
    if kind not in causal:
        raise ModelFilesError(
            f"the text model of {outer} is a {kind}, for which transformers has no causal language model; save it as "
            "one of its own, and name that folder"
        )
    found = {
        **DEFAULTS.get(outer, DEFAULTS.get(kind, {})),
        **inner,
        "model_type": kind,
        "architectures": [causal[kind]],
    }
    for key in ("bos_token_id", "eos_token_id", "pad_token_id", "dtype", "torch_dtype"):
        if config.get(key) is not None:
            found.setdefault(key, config[key])
    if "dtype" in found:
        found.pop("torch_dtype", None)
    for key in ("rope_scaling", "rope_parameters"):
        if isinstance(found.get(key), Mapping):
            found[key] = _in_one_dimension(found[key])
            if found[key] == {"rope_type": "default"}:
                del found[key]
    if outer in ROPE_THETAS and "rope_theta" not in found.get("rope_parameters", {}):
        found.setdefault("rope_theta", ROPE_THETAS[outer])
    if kind == "gemma3_text" and not found.get("layer_types"):
        every = found.get("sliding_window_pattern") or SLIDING_EVERY
        found["layer_types"] = [
            "full_attention" if (layer + 1) % every == 0 else "sliding_attention"
            for layer in range(found["num_hidden_layers"])
        ]
    return found


def _in_one_dimension(rope: Mapping[str, Any]) -> dict[str, Any]:
    """Rotary settings without positions in pictures."""
    found = {key: value for key, value in rope.items() if not key.startswith("mrope_")}
    kind = found.pop("type", found.get("rope_type", "default"))
    if "sliding_attention" in found or "full_attention" in found:
        return found
    return {**found, "rope_type": "default" if kind == "mrope" else kind}


def _text_note(stored: Checkpoint, names: Mapping[str, str], kind: str) -> str:
    left = {name: tensor for name, tensor in stored.tensors.items() if name not in names}
    size = sum(tensor.bytes for tensor in left.values())
    return (
        f"the text model of {kind} is taken; the {len(left)} tensors that read pictures ({size / 1e6:,.1f} MB) are "
        "neither counted nor written"
    )


def config_says_tied(config: Mapping[str, Any]) -> bool:
    """Whether a text model's config.json asks for a head that is the embeddings."""
    said = config.get("tie_word_embeddings")
    return config.get("model_type") in TIED_BY_DEFAULT if said is None else bool(said)


def _tied(names: dict[str, str], said: bool, same: Same) -> tuple[bool, list[str]]:
    """Whether the head is the embeddings, as transformers decides it, and what to say. A head that repeats them is
    taken off `names`. said: what the config asks for."""
    stored = {plain: name for name, plain in names.items()}
    table = _embeddings(stored)
    if not said or HEAD not in stored or table is None:
        return HEAD not in stored, []
    if same(stored[table], stored[HEAD]):
        del names[stored[HEAD]]
        return True, [f"{HEAD} repeats the token embeddings, to which it is tied; it is neither counted nor written"]
    return False, [f"config.json ties {HEAD} to the token embeddings, and the two differ: both are kept, untied"]


def _embeddings(names: Iterable[str]) -> str | None:
    """The name of the token embeddings; None where there are none, or several."""
    found = [name for name in names if name.endswith(EMBEDDINGS)]
    return found[0] if len(found) == 1 else None


def _narrow(tensor: Tensor) -> Tensor:
    return Tensor(RUNS_IN, tensor.shape) if tensor.dtype in WIDE else tensor


def _packed(stored: Checkpoint) -> bool:
    return any(name.endswith((".weight_packed", ".weight_mask")) for name in stored.tensors)
