"""What is trained, as one module: a student, what it is told, and the loss of a batch.

It is the module that an engine wraps, so that hooks of sharded weights and adapters see every call: the student's
decoder and head are called as modules, and logits are made at target positions only, some at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch.utils.checkpoint import checkpoint

from search_spaces.methods.trainers import Trainer
from workers.training.data.batches import TrainingBatch
from workers.training.data.spelling import Speller
from workers.training.losses.divergences import cross_entropy
from workers.training.losses.layer_map import kept_outputs, mismatch, refuse_unknown_layers, spread, token_shares
from workers.training.losses.packed_attention import take_up
from workers.training.losses.readout import CHUNK_BYTES, Readout, chunks, refuse_other_logits
from workers.training.losses.vocabularies import refuse_other_columns
from workers.training.teachers.teacher import LiveTeacher, Teacher, TeacherOutput

# Gradients of logits are kept from the forward to the backward for so many chunks; beyond, chunks are made again.
_KEPT_CHUNKS = 4


class LossSum(NamedTuple):
    """sum: the loss added up over the target tokens, float32 scalar. tokens: how many those are."""

    sum: torch.Tensor
    tokens: int


class Learner(torch.nn.Module):
    """model: the student, a causal LM in training form, peft-wrapped or not. step: what it is trained for. teacher:
    for a divergence; None for cross-entropy. Where batches say how a teacher with more tokens spells them, its
    distribution is learnt where both spell alike, and other tokens by cross-entropy. layer_map: student layer ->
    teacher layer, both from 0, for step.hidden; spread evenly when None. `chunk_bytes` may be set: of the logits that
    are made at a time.

    Raises StudyError for vocabularies that differ and for a layer map that can't be, ValueError for a teacher that the
    step lacks or that keeps no hidden states.
    """

    def __init__(
        self, model: Any, step: Trainer, teacher: Teacher | None, layer_map: Mapping[int, int] | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.step = step
        self.teacher = teacher
        self.chunk_bytes = CHUNK_BYTES
        self._readout = Readout(model)
        self.packs = False
        self._checked = False
        self._layer_map: dict[int, int] = {}
        self.projections = torch.nn.ModuleDict()
        self.speller: Speller | None = None
        if step.has_divergence:
            if teacher is None:
                raise ValueError(f"the loss {step.loss} is a divergence from a teacher, and none was given")
            refuse_other_columns(self._readout.vocabulary, teacher.vocabulary)
        if step.hidden:
            self._match_layers(layer_map)

    def forward(self, batch: TrainingBatch) -> LossSum:
        """The batch's loss. The batch is on the student's device.

        step.hidden adds, for each target token, its weight times the mean over mapped layers of the relative squared
        error of hidden states, over the sequence's real tokens.
        """
        if not self._checked:
            refuse_other_logits(self._readout, batch.ids)
            self._checked = True
        where = batch.predicting
        ids = batch.ids.flatten().index_select(0, where + 1)
        # First, so that what it needs of memory is free again when the student begins.
        said = self._asked(batch)
        with kept_outputs(self._readout.layers, self._layer_map) as hidden:
            states = self._readout.states(batch.ids, batch.packing if self.packs else None)
        at_targets = states.flatten(0, 1).index_select(0, where)
        if said is None or (theirs := batch.teacher) is None:
            total = self._over_tokens(at_targets, ids, said)
        else:
            total = torch.zeros((), dtype=torch.float32, device=states.device)
            for some, of in ((theirs.matched, said), (theirs.others, None)):
                total = total + self._over_tokens(at_targets.index_select(0, some), ids.index_select(0, some), of)
        if said is not None and self._layer_map:
            total = total + self.step.hidden * self._mismatch(hidden, said.hidden, batch)
        return LossSum(total, len(where))

    def pack(self) -> bool:
        """Read batches without padding from now on, if the student can, and a live teacher beside it if that can.
        Answers whether the student does. Not for hidden states that are matched: those are of padded batches."""
        self.packs = not self._layer_map and take_up(self._readout)
        if self.packs and isinstance(self.teacher, LiveTeacher):
            self.teacher.pack()
        return self.packs

    @property
    def models(self) -> tuple[torch.nn.Module, ...]:
        """The student, and a live teacher's model."""
        asked = (self.teacher.readout.model,) if isinstance(self.teacher, LiveTeacher) else ()
        return (self.model, *asked)

    @property
    def decoder_layers(self) -> Any:
        """The student's decoder layers, a module list."""
        return self._readout.layers

    def enable_checkpointing(self) -> None:
        """From now on each layer's activations are made again in the backward instead of being kept."""
        self._readout.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    def _asked(self, batch: TrainingBatch) -> TeacherOutput | None:
        if not self.step.has_divergence or self.teacher is None:
            return None
        return self.teacher.says(batch, tuple(self._layer_map.values()))

    def _over_tokens(self, states: torch.Tensor, ids: torch.Tensor, said: TeacherOutput | None) -> torch.Tensor:
        def part(some: torch.Tensor, rows: slice) -> torch.Tensor:
            logits = self._readout.logits(some)
            if said is None:
                return cross_entropy(logits, ids[rows]).sum()
            return said.divergence(self.step.loss, logits, ids[rows], self.step.reference_share, rows).sum()

        pieces = chunks(states, self._readout.vocabulary, self.chunk_bytes)
        total = torch.zeros((), dtype=torch.float32, device=states.device)
        for rows in pieces:
            if len(pieces) > _KEPT_CHUNKS and torch.is_grad_enabled():
                total = total + checkpoint(part, states[rows], rows, use_reentrant=False)
            else:
                total = total + part(states[rows], rows)
        return total

    def _match_layers(self, layer_map: Mapping[int, int] | None) -> None:
        teacher = self.teacher
        if not isinstance(teacher, LiveTeacher):
            raise ValueError("hidden states are matched with a live teacher; a cache keeps none")
        own = len(self._readout.layers)
        self._layer_map = dict(layer_map) if layer_map is not None else spread(own, teacher.layers)
        refuse_unknown_layers(self._layer_map, own, teacher.layers)
        if self._readout.width != teacher.width:
            device = next(self._readout.layers.parameters()).device
            for number, layer in enumerate(self._layer_map):
                self.projections[str(layer)] = _projection(self._readout.width, teacher.width, number).to(device)

    def _mismatch(
        self, own: Mapping[int, torch.Tensor], wanted: Mapping[int, torch.Tensor], batch: TrainingBatch
    ) -> torch.Tensor:
        shares = token_shares(batch.mask, batch.target)
        total = torch.zeros((), dtype=torch.float32, device=shares.device)
        for layer, theirs in self._layer_map.items():
            states = own[layer]
            if len(self.projections):
                states = self.projections[str(layer)](states)
            total = total + mismatch(states, wanted[theirs], shares)
        return total / len(self._layer_map)


def _projection(width: int, wanted: int, seed: int) -> torch.nn.Linear:
    """A linear map of hidden states, drawn so that their size stays, the same for the same seed."""
    made = torch.nn.Linear(width, wanted, bias=False)
    draw = torch.Generator().manual_seed(seed)
    torch.nn.init.normal_(made.weight, std=width**-0.5, generator=draw)
    return made
