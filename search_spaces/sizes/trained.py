"""What each trainer makes of a checkpoint's tensor table: the effects that `size` adds up."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from search_spaces.errors import CandidateError
from search_spaces.sizes.pruned import ATTENTION_OUT, KEY_VALUE, MLP_IN, MLP_OUT, QUERY, with_text
from search_spaces.sizes.quantized import with_tensors
from search_spaces.sizes.student_shape import StudentShape, student_shape
from search_spaces.sizes.tensor_table import Checkpoint, Tensor, header_size, layer_of, renumber_layer

if TYPE_CHECKING:
    from search_spaces.methods.trainers import Distill, Recover

# Of adapter_config.json, measured on a written one.
ADAPTER_CONFIG_BYTES = 340
HEAD_NORM = re.compile(r"self_attn\.[qk]_norm\.weight$")
EMBEDDINGS = "embed_tokens.weight"
HEAD = "lm_head.weight"


def after_recover(checkpoint: Checkpoint, step: Recover) -> Checkpoint:
    """The same table; beside it, where an adapter is kept apart, the two files of `adapter/`."""
    if not step.is_apart:
        return checkpoint
    tensors = adapter_tensors(checkpoint, step)
    weights = sum(tensor.bytes for tensor in tensors.values())
    more = weights + header_size(tensors) + ADAPTER_CONFIG_BYTES
    return replace(checkpoint, other_bytes=checkpoint.other_bytes + more)


def adapter_tensors(checkpoint: Checkpoint, step: Recover) -> dict[str, Tensor]:
    """The tensors of the adapter's file, in bfloat16, as peft names them; for a weight of shape (output, input) A is
    (rank, input), B is (output, rank), and DoRA's magnitudes are (output,)."""
    tensors: dict[str, Tensor] = {}
    for stem, (rows, columns) in sorted(checkpoint.linear_shapes().items()):
        tensors[f"base_model.model.{stem}.lora_A.weight"] = Tensor("BF16", (step.rank, columns))
        tensors[f"base_model.model.{stem}.lora_B.weight"] = Tensor("BF16", (rows, step.rank))
        if step.adapter == "dora":
            tensors[f"base_model.model.{stem}.lora_magnitude_vector"] = Tensor("BF16", (rows,))
    return tensors


def after_finetune(checkpoint: Checkpoint) -> Checkpoint:
    """The same table: weights keep the type, or the grid, that they are stored in."""
    return checkpoint


def after_distill(checkpoint: Checkpoint, step: Distill) -> Checkpoint:
    """The student's table: the parent's tensors in the student's shape."""
    shape = student_shape(checkpoint, step)
    config = with_text(
        checkpoint,
        num_hidden_layers=shape.layers,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        head_dim=shape.head_dim,
        tie_word_embeddings=shape.tied,
    )
    return replace(with_tensors(checkpoint, student_tensors(checkpoint, shape), 0), config=config)


def student_tensors(checkpoint: Checkpoint, shape: StudentShape) -> dict[str, Tensor]:
    """The parent's tensors in the student's shape, in its types; every layer is taken to be like the parent's first.

    Raises CandidateError for a tensor whose place in the shape is not known.
    """
    first = {name: tensor for name, tensor in checkpoint.tensors.items() if layer_of(name) == 0}
    tensors: dict[str, Tensor] = {}
    for name, tensor in checkpoint.tensors.items():
        if layer_of(name) is None:
            if not (name.endswith(HEAD) and shape.tied):
                tensors[name] = _reshaped(name, tensor, shape)
        elif name in first:
            layers = range(shape.layers)
            tensors |= {renumber_layer(name, index): _reshaped(name, tensor, shape) for index in layers}
    if not shape.tied and not any(name.endswith(HEAD) for name in tensors):
        embeddings = next(tensor for name, tensor in tensors.items() if name.endswith(EMBEDDINGS))
        tensors[HEAD] = embeddings
    return tensors


def _reshaped(name: str, tensor: Tensor, shape: StudentShape) -> Tensor:
    """The tensor as the student has it, by its place in Llama's, Mistral's, Gemma's and Qwen's layers."""
    hidden, queries, keys = shape.hidden_size, shape.heads * shape.head_dim, shape.key_value_heads * shape.head_dim
    places: tuple[tuple[re.Pattern[str], tuple[int, int]], ...] = (
        (QUERY, (queries, hidden)),
        (KEY_VALUE, (keys, hidden)),
        (ATTENTION_OUT, (hidden, queries)),
        (MLP_IN, (shape.intermediate_size, hidden)),
        (MLP_OUT, (hidden, shape.intermediate_size)),
    )
    for pattern, sizes in places:
        if pattern.search(name):
            return Tensor(tensor.dtype, sizes[: len(tensor.shape)])
    if name.endswith((EMBEDDINGS, HEAD)):
        return Tensor(tensor.dtype, (tensor.shape[0], hidden))
    if HEAD_NORM.search(name):
        return Tensor(tensor.dtype, (shape.head_dim,))
    if len(tensor.shape) == 1 and "lm_head" not in name:
        # Norms, and the biases of what writes into the residual stream.
        return Tensor(tensor.dtype, (hidden,))
    raise CandidateError(
        f"distill: {name} of shape {list(tensor.shape)} has no place in a student; Llama's, Mistral's, Gemma's and "
        "Qwen's tensors have"
    )
