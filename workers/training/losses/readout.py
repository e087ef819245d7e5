"""A causal language model taken apart: its decoder, its head, and what it does to logits after its head.

The head is then asked about target positions alone, some at a time. Modules are called, never their weights read, so
adapters, packed weights and hooks that gather sharded weights work as they do in the model's own forward.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from search_spaces.errors import ModelFilesError
from workers.training.data.batches import Packing
from workers.training.fused.evaluating import evaluating
from workers.training.losses.packed_attention import sequence_arguments

# Logits of so many bytes are made at a time.
CHUNK_BYTES = 512 * 2**20
# Tokens of the sequence on which a model is compared with its parts.
_CHECKED_TOKENS = 8
# Of the largest logit. The parts do what the model does, in the same order.
_TOLERANCE = 1e-2


class Readout:
    """The parts of a Hugging Face causal LM, or of one that peft has wrapped; the model stays as it is."""

    def __init__(self, model: Any) -> None:
        self.model = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.config = self.model.config.get_text_config()

    @property
    def decoder(self) -> Any:
        """The module from token ids to the hidden states that the head reads."""
        return self.model.get_decoder()

    @property
    def head(self) -> Any:
        """The module from hidden states to logits."""
        return self.model.get_output_embeddings()

    @property
    def layers(self) -> Any:
        """The decoder's layers, a module list."""
        return self.decoder.layers

    @property
    def width(self) -> int:
        return int(self.config.hidden_size)

    @property
    def vocabulary(self) -> int:
        return int(self.config.vocab_size)

    @property
    def device(self) -> torch.device:
        """Where its embeddings lie."""
        return next(self.model.get_input_embeddings().parameters()).device

    def states(self, ids: torch.Tensor, packing: Packing | None = None) -> torch.Tensor:
        """Hidden states (sequences, tokens, width) of token ids (sequences, tokens), padded on the right.

        No mask: attention looks to the left, so what stands before the padding never sees it. packing: of a model that
        `packed_attention.take_up` took up; it then reads no padding, where the states are 0.
        """
        if packing is None:
            states: torch.Tensor = self.decoder(input_ids=ids, use_cache=False).last_hidden_state
            return states
        real = ids.flatten().index_select(0, packing.real)[None]
        said = self.decoder(input_ids=real, use_cache=False, **sequence_arguments(packing)).last_hidden_state[0]
        padded = said.new_zeros(ids.numel(), said.shape[1]).index_copy(0, packing.real, said)
        return padded.view(*ids.shape, -1)

    def logits(self, states: torch.Tensor, rows: torch.Tensor | None = None) -> torch.Tensor:
        """Logits (…, vocabulary) of hidden states (…, width). rows: of the head's weight, (n, width); then (…, n)."""
        logits: torch.Tensor = self.head(states) if rows is None else functional.linear(states, rows)
        # Gemma 2 and 3, Cohere, Granite.
        if (cap := getattr(self.config, "final_logit_softcapping", None)) is not None:
            logits = torch.tanh(logits / cap) * cap
        if (scale := getattr(self.config, "logit_scale", None)) is not None:
            logits = logits * scale
        if (divisor := getattr(self.config, "logits_scaling", None)) is not None:
            logits = logits / divisor
        return logits


def chunks(states: torch.Tensor, vocabulary: int, most_bytes: int = CHUNK_BYTES) -> list[slice]:
    """The rows of states (n, width) whose logits are made together, of so many bytes; one empty slice for none."""
    rows = max(most_bytes // (vocabulary * logits_bytes(states)), 1)
    return [slice(start, start + rows) for start in range(0, max(len(states), 1), rows)]


def logits_bytes(states: torch.Tensor) -> int:
    """Bytes of one logit that a head makes of these states."""
    device = states.device.type
    if states.dtype == torch.float32 and torch.is_autocast_enabled(device):
        return int(torch.get_autocast_dtype(device).itemsize)
    return int(states.element_size())


def refuse_other_logits(readout: Readout, ids: torch.Tensor) -> None:
    """Raise ModelFilesError when the parts don't give the logits of the whole model on the first of these sequences.

    ids: (sequences, tokens). Logits that are not finite are not judged.
    """
    few = ids[:1, :_CHECKED_TOKENS]
    with torch.no_grad(), evaluating(readout.model):
        whole = readout.model(input_ids=few, use_cache=False).logits.float()
        parts = readout.logits(readout.states(few)).float()
    if whole.shape != parts.shape or float((whole - parts).abs().max()) > _TOLERANCE * float(whole.abs().max()):
        raise ModelFilesError(
            f"{type(readout.model).__name__} does something to its logits after its head that training does not know "
            "(it knows final_logit_softcapping, logit_scale and logits_scaling); such a model can't be trained here"
        )
