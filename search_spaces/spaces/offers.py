"""What a model can take: the group sizes, removals and trims that a space may offer for it, found from its table."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from search_spaces.errors import CandidateError
from search_spaces.methods.pruners import RemoveChannels, RemoveHeads, TrimVocabulary
from search_spaces.methods.quantizers import RTN
from search_spaces.methods.registry import Step, step_from_json
from search_spaces.methods.trainers import Distill
from search_spaces.parameters import GROUP_SIZES
from search_spaces.predicted_size import predicted_bytes
from search_spaces.sizes.pruned import head_shape
from search_spaces.sizes.student_shape import MULTIPLE
from search_spaces.sizes.tensor_table import Checkpoint, is_embedding, text_config

CHANNEL_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5)
VOCABULARY_SHARES = (0.75, 0.5, 0.375, 0.25, 0.125)
VOCABULARY_MULTIPLE = 64
# Fewer tokens than this leave little beside the 256 bytes and the special tokens.
LEAST_VOCABULARY = 512
CHANNEL_MULTIPLE = 32
STUDENT_SHARES = (0.75, 0.5, 0.25)


@dataclass(frozen=True, slots=True)
class Offer:
    """What a space may offer for one model."""

    group_sizes: tuple[int, ...]
    """Group sizes that divide the columns of every targeted weight, -1 (per channel) last. They still do after every
    removal that is offered here."""
    embedding_group: int
    """The group size for the embeddings."""
    layers: int
    """The most layers that may be removed."""
    head_groups: tuple[int, ...]
    """How many key-value groups may be removed."""
    channel_shares: tuple[float, ...]
    """Shares of the MLP's channels that may be removed."""
    tokens: int
    """Size of the whole vocabulary."""
    vocabularies: tuple[int, ...]
    """How many tokens may stay, most first."""
    two_of_four: bool
    """Whether the pattern 2:4 fits every weight."""
    training: bool
    """Whether the study names training data."""
    student_layers: tuple[int, ...]
    """How many layers a student may keep, most first."""
    student_widths: tuple[float, ...]
    """Shares of the hidden size that a student may keep, largest first."""
    student_channels: tuple[float, ...]
    """Shares of the MLP's channels that a student may keep, largest first."""

    @property
    def group_size(self) -> int:
        """The middle group size, 64, where it is offered, else the smallest."""
        return 64 if 64 in self.group_sizes else self.group_sizes[0]


def offer_for(checkpoint: Checkpoint, training: bool = False, vocabulary: bool = True) -> Offer:
    """What this model can take. training: whether the study names training data. vocabulary: whether the calibration
    data have every language of the study, so that they can tell which tokens may go."""
    columns = {tensor.shape[1] for tensor in checkpoint.targets().values()}
    sizes = _dividing(columns)
    embeddings = {tensor.shape[1] for name, tensor in checkpoint.tensors.items() if is_embedding(name)}
    for_embeddings = _dividing(embeddings)
    embedding_group = 64 if 64 in for_embeddings else for_embeddings[0]
    heads = text_config(checkpoint.config).get("num_attention_heads") or 1
    tokens = max((tensor.shape[0] for name, tensor in checkpoint.tensors.items() if is_embedding(name)), default=0)
    return Offer(
        group_sizes=sizes,
        embedding_group=embedding_group,
        layers=checkpoint.layers // 2,
        head_groups=_head_groups(checkpoint, sizes),
        channel_shares=_channel_shares(checkpoint, sizes),
        tokens=tokens,
        vocabularies=_vocabularies(checkpoint, tokens) if vocabulary else (),
        two_of_four=all(width % 4 == 0 for width in columns),
        training=training,
        student_layers=tuple(
            count for count in _kept(checkpoint.layers, 1) if _fits(checkpoint, Distill(layers=count), -1)
        ),
        student_widths=_student_shares(checkpoint, (*sizes, embedding_group, heads), "hidden_size", "width"),
        student_channels=_student_shares(checkpoint, sizes, "intermediate_size", "channels"),
    )


def _dividing(columns: Iterable[int]) -> tuple[int, ...]:
    return tuple(size for size in GROUP_SIZES if size == -1 or all(width % size == 0 for width in columns))


def _head_groups(checkpoint: Checkpoint, sizes: tuple[int, ...]) -> tuple[int, ...]:
    try:
        _, groups, _ = head_shape(checkpoint)
    except CandidateError:
        return ()
    return tuple(
        count for count in range(1, groups // 2 + 1) if _fits(checkpoint, RemoveHeads(groups=count), max(sizes))
    )


def _channel_shares(checkpoint: Checkpoint, sizes: tuple[int, ...]) -> tuple[float, ...]:
    width = text_config(checkpoint.config).get("intermediate_size")
    if not isinstance(width, int):
        return ()
    multiple = max(CHANNEL_MULTIPLE, *sizes)
    kept = {round(width * (1 - share) / multiple) * multiple for share in CHANNEL_SHARES} - {0, width}
    shares = (round(1 - left / width, 4) for left in sorted(kept, reverse=True))
    return tuple(
        share
        for share in shares
        if 0.01 <= share <= 0.95 and _fits(checkpoint, RemoveChannels(share=share), max(sizes))
    )


def _student_shares(checkpoint: Checkpoint, sizes: tuple[int, ...], key: str, parameter: str) -> tuple[float, ...]:
    """Shares of a width in config.json that a student may keep: such that all of these sizes divide what stays."""
    width = text_config(checkpoint.config).get(key)
    if not isinstance(width, int):
        return ()
    shares = (round(left / width, 4) for left in _kept(width, math.lcm(MULTIPLE, *sizes)))
    steps = {share: step_from_json({"method": Distill.name, parameter: share}) for share in shares if share >= 0.01}
    return tuple(share for share, step in steps.items() if _fits(checkpoint, step, -1))


def _kept(whole: int, multiple: int) -> tuple[int, ...]:
    """What a student may keep of so many: three quarters, a half and a quarter in steps of `multiple`, most first."""
    return tuple(
        sorted({round(whole * share / multiple) * multiple for share in STUDENT_SHARES} - {0, whole}, reverse=True)
    )


def _vocabularies(checkpoint: Checkpoint, whole: int) -> tuple[int, ...]:
    sizes = {round(whole * share / VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE for share in VOCABULARY_SHARES}
    return tuple(
        tokens
        for tokens in sorted(sizes, reverse=True)
        if LEAST_VOCABULARY <= tokens < whole and _fits(checkpoint, TrimVocabulary(tokens=tokens), -1)
    )


def _fits(checkpoint: Checkpoint, step: Step, group_size: int) -> bool:
    """Whether the model takes the step, and groups of this size after it."""
    try:
        predicted_bytes(checkpoint, (step, RTN(bits=4, group_size=group_size)))
    except CandidateError:
        return False
    return True
