"""Where input-channel scales of linear weights can go so that a model stays the same function: the mappings of a layer.

A mapping joins what writes an activation to the linear weights that read it: their columns are multiplied by s, and the
writer's outputs divided by it. Writers are the norms before attention and MLP, v_proj (attention mixes values of one
channel only) and up_proj (whose outputs meet act(gate) elementwise).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch

from search_spaces.errors import CandidateError
from search_spaces.sizes.tensor_table import Checkpoint, layer_of, text_config
from workers.calibration.statistics import Statistics

# Llama's names, with Qwen's and Gemma's additions. Anything else in a layer could make use of an activation that the
# mappings know nothing of.
READERS = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.o_proj",),
    ("mlp.gate_proj", "mlp.up_proj"),
    ("mlp.down_proj",),
)
NORMS = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
    "self_attn.q_norm",
    "self_attn.k_norm",
)
# Norms of these models multiply by 1 + weight; Gemma 3n's and Gemma 4's multiply by the weight.
ONE_PLUS_WEIGHT = frozenset({"gemma", "gemma2", "gemma3", "gemma3_text"})
WAY_OUT = "use gptq, hqq or rtn for this model"


@dataclass(frozen=True, slots=True)
class ScaleMapping:
    """writer: the stem (name without `.weight`) of a norm or linear layer. readers: names of the weights that read
    what it writes. heads, copies: with grouped-query attention, `copies` query heads one after another read each of
    the writer's `heads` heads; both 1 where columns and the writer's channels are the same."""

    writer: str
    readers: tuple[str, ...]
    heads: int = 1
    copies: int = 1

    @property
    def is_norm(self) -> bool:
        return self.writer.endswith("layernorm")

    def to_columns(self, channels: torch.Tensor) -> torch.Tensor:
        """What each column of the readers gets, from a value for each of the writer's channels."""
        return channels.reshape(self.heads, -1).repeat_interleave(self.copies, dim=0).flatten()

    def to_channels(self, columns: torch.Tensor) -> torch.Tensor:
        """The mean, for each of the writer's channels, over the columns that read it."""
        return columns.reshape(self.heads, self.copies, -1).mean(dim=1).flatten()


@dataclass(frozen=True, slots=True)
class Folding:
    """The scales to fold. columns: weight name -> float32 (columns,), multiplied. rows: weight or bias name -> float32
    (rows,), divided by. replaced: the names and new values of the norms' weights."""

    columns: dict[str, torch.Tensor] = field(default_factory=dict)
    rows: dict[str, torch.Tensor] = field(default_factory=dict)
    replaced: dict[str, torch.Tensor] = field(default_factory=dict)

    def add(self, mapping: ScaleMapping, channels: torch.Tensor, norm: torch.Tensor | None, offset: float) -> None:
        """Divide what the mapping's writer writes by `channels`, float32 (channels,); multiply the readers' columns.

        norm: the writer's weight when it is a norm, and offset: what that norm adds to it.
        """
        if norm is None:
            self.rows[f"{mapping.writer}.weight"] = channels
        else:
            self.replaced[f"{mapping.writer}.weight"], channels = folded_norm(norm, channels, offset)
        self.rows[f"{mapping.writer}.bias"] = channels
        self.columns.update(dict.fromkeys(mapping.readers, mapping.to_columns(channels)))

    def change(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor with its scales folded in, worked out in float32.

        Weights stay float32, to be quantized; norms and biases take their own type again. The rounding of a norm costs
        nothing, since the readers' scales are those of the rounded norm (`folded_norm`); that of a bias of v_proj,
        up_proj or a norm does: half a unit of its type's last place.
        """
        if name in self.replaced:
            return self.replaced[name]
        if name not in self.columns and name not in self.rows:
            return tensor
        values = tensor.float()
        if name in self.columns:
            values = values * self.columns[name]
        if name in self.rows:
            rows = self.rows[name]
            values = values / (rows[:, None] if values.ndim == 2 else rows)
        return values if values.ndim == 2 else values.to(tensor.dtype)


def mappings(checkpoint: Checkpoint, statistics: Statistics) -> list[ScaleMapping]:
    """The mappings of all layers; every targeted weight is a reader of one.

    Raises CandidateError for a model whose layers are not of the Llama kind, or whose o_proj does not read v_proj's
    heads; StudyError for a weight without statistics.
    """
    layers: dict[str, set[str]] = {}
    for name in checkpoint.tensors:
        if (layer := layer_of(name)) is not None:
            prefix, mark, within = name.partition(f"layers.{layer}.")
            layers.setdefault(prefix + mark, set()).add(within.rpartition(".")[0])
    return [
        mapping
        for prefix, stems in layers.items()
        for mapping in _mappings_of_layer(prefix, stems, checkpoint, statistics)
    ]


def _mappings_of_layer(
    prefix: str, stems: set[str], checkpoint: Checkpoint, statistics: Statistics
) -> Iterator[ScaleMapping]:
    mlp_norm = "pre_feedforward_layernorm" if "pre_feedforward_layernorm" in stems else "post_attention_layernorm"
    linear = {stem for group in READERS for stem in group}
    if odd := sorted((stems - linear - set(NORMS)) | ({*linear, "input_layernorm", mlp_norm} - stems)):
        raise CandidateError(
            f"awq knows layers with Llama's weights only, and {prefix}{odd[0]} is "
            f"{'not one of them' if odd[0] in stems else 'missing'}; {WAY_OUT}"
        )
    for writer, group in zip(("input_layernorm", "self_attn.v_proj", mlp_norm, "mlp.up_proj"), READERS, strict=True):
        readers = tuple(f"{prefix}{stem}.weight" for stem in group)
        _refuse_other_readers(readers, statistics.shares_input(readers[0]))
        columns = statistics.magnitude(readers[0], torch.device("cpu")).shape[0]
        yield ScaleMapping(prefix + writer, readers, *_heads(prefix + writer, readers[0], columns, checkpoint))


def _refuse_other_readers(readers: Iterable[str], sharing: Iterable[str]) -> None:
    if set(readers) != set(sharing):
        raise CandidateError(
            f"awq expects {', '.join(readers)} to read one input by themselves, but in this model these share it: "
            f"{', '.join(sharing)}; {WAY_OUT}"
        )


def _heads(writer: str, reader: str, columns: int, checkpoint: Checkpoint) -> tuple[int, int]:
    """A mapping's `heads` and `copies`, from the writer's rows, the reader's columns and the config's heads."""
    table = checkpoint.tensors
    rows = (table.get(f"{writer}.weight") or table[f"{writer}.weight_values"]).shape[0]
    if rows == columns:
        return 1, 1
    config = text_config(checkpoint.config)
    heads = int(config.get("num_key_value_heads") or config["num_attention_heads"])
    if not writer.endswith("v_proj") or rows % heads or columns % rows:
        raise CandidateError(
            f"awq can't tell which of the {rows} channels of {writer} each of the {columns} columns of {reader} reads; "
            + WAY_OUT
        )
    return heads, columns // rows


def folded_norm(weight: torch.Tensor, scales: torch.Tensor, offset: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A norm's new weight in its own type, and the scales, float32, that undo exactly what it divides by.

    offset: what the norm adds to its weight, 1 or 0. Channels where the old or the new factor would be 0 keep their
    weight, and have the scale 1.
    """
    old = weight.float() + offset
    new = (old / scales - offset).to(weight.dtype)
    factor = new.float() + offset
    usable = (old != 0) & (factor != 0)
    return torch.where(usable, new, weight), torch.where(usable, old / factor, torch.ones_like(old))
