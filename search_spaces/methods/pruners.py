"""The methods that take weights away: one frozen dataclass a method, its fields the method's parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from search_spaces.errors import CandidateError
from search_spaces.methods.method import Kind, Method, default_of
from search_spaces.parameters import between, one_of, whole
from search_spaces.sizes.pruned import (
    after_remove_channels,
    after_remove_heads,
    after_remove_layers,
    after_sparsifier,
    after_trim_vocabulary,
)
from search_spaces.sizes.tensor_table import Checkpoint
from search_spaces.wording import MINUS, percent, pluralize

Pattern = Literal["unstructured", "2:4"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveLayers(Method):
    """Removal of whole decoder layers, chosen on the calibration set."""

    name: ClassVar[str] = "remove_layers"
    digest_name: ClassVar[str] = "RemoveLayers"
    module: ClassVar[str] = "workers.compression.pruning.remove_layers"
    kind: ClassVar[Kind] = "pruner"

    count: int
    """How many layers go."""
    by: Literal["similarity", "greedy", "pairwise"] = "similarity"
    """How they are chosen: "similarity" takes those that change the hidden state least (ShortGPT's Block Influence,
    https://arxiv.org/abs/2403.03853 §3.2); "greedy" takes, one after another, the layer whose absence costs least
    measured divergence; "pairwise" takes the set whose single and pairwise costs, measured, add up to least (after
    https://arxiv.org/abs/2602.00161)."""

    def __post_init__(self) -> None:
        whole("remove_layers.count", self.count, 1, "Leave the step out to keep every layer.")
        one_of("remove_layers.by", self.by, ("similarity", "greedy", "pairwise"))

    def after(self, checkpoint: Checkpoint) -> Checkpoint:
        return after_remove_layers(checkpoint, self)

    def short_label(self) -> str:
        by = "" if self.by == default_of(self, "by") else f" {self.by}"
        return f"{MINUS}{pluralize(self.count, 'layer')}{by}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveHeads(Method):
    """Removal of the least important key-value groups (a key-value head and its query heads), as many in every layer.

    What stays is compensated by least squares on the calibration Hessian.
    Reference: Kwon et al. 2022, https://arxiv.org/abs/2204.09656 §4.3 (mask tuning by least squares).
    """

    name: ClassVar[str] = "remove_heads"
    digest_name: ClassVar[str] = "RemoveHeads"
    module: ClassVar[str] = "workers.compression.pruning.remove_heads"
    kind: ClassVar[Kind] = "pruner"

    groups: int
    """How many go from every layer."""

    def __post_init__(self) -> None:
        whole("remove_heads.groups", self.groups, 1, "Leave the step out to keep every head.")

    def after(self, checkpoint: Checkpoint) -> Checkpoint:
        return after_remove_heads(checkpoint, self)

    def short_label(self) -> str:
        return f"{MINUS}{pluralize(self.groups, 'kv head')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveChannels(Method):
    """Removal of the least important channels of every MLP, to one width in all layers.

    What stays is compensated by least squares on the calibration Hessian.
    Reference: Kwon et al. 2022, https://arxiv.org/abs/2204.09656 §4.3.
    """

    name: ClassVar[str] = "remove_channels"
    digest_name: ClassVar[str] = "RemoveChannels"
    module: ClassVar[str] = "workers.compression.pruning.remove_channels"
    kind: ClassVar[Kind] = "pruner"

    share: float
    """The share that goes; the width that stays is rounded to a multiple of 32."""

    def __post_init__(self) -> None:
        between("remove_channels.share", self.share, 0.01, 0.95)

    def after(self, checkpoint: Checkpoint) -> Checkpoint:
        return after_remove_channels(checkpoint, self)

    def short_label(self) -> str:
        return f"{MINUS}{percent(self.share)} mlp"

    def kept(self, width: int) -> int:
        """How many of `width` channels stay; raises CandidateError when that is none or all of them."""
        kept = round(width * (1 - self.share) / 32) * 32
        if not 0 < kept < width:
            raise CandidateError(
                f"remove_channels.share={self.share} keeps {kept} of the {width} channels (in steps of 32); "
                "choose another share"
            )
        return kept


@dataclass(frozen=True, slots=True, kw_only=True)
class TrimVocabulary(Method):
    """Removal of the tokens that calibration and training pairs use least; embeddings, head and tokenizer shrink
    together.

    Reference: Abdaoui et al. 2020, https://arxiv.org/abs/2010.05609.
    """

    name: ClassVar[str] = "trim_vocabulary"
    digest_name: ClassVar[str] = "TrimVocabulary"
    module: ClassVar[str] = "workers.compression.vocabulary.trim_vocabulary"
    reads_training: ClassVar[bool] = True
    kind: ClassVar[Kind] = "pruner"

    tokens: int
    """How many stay, bytes and special tokens among them."""

    def __post_init__(self) -> None:
        whole("trim_vocabulary.tokens", self.tokens, 1, "Leave the step out to keep every token.")

    def after(self, checkpoint: Checkpoint) -> Checkpoint:
        return after_trim_vocabulary(checkpoint, self)

    def short_label(self) -> str:
        return f"{self.tokens:,} tokens"

    def why_not_before(self, later: Method) -> str | None:
        if isinstance(later, TrimVocabulary):
            return f"{self.describe()} and then {later.describe()}: the second alone does the same. Drop one."
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sparsifier(Method):
    """A share of each output row's weights becomes zero."""

    kind: ClassVar[Kind] = "sparsifier"

    sparsity: float = 0.5
    """The share of each output row's weights that becomes zero."""
    pattern: Pattern = "unstructured"
    """Where: "unstructured" is anywhere in the row, "2:4" is 2 of every 4 consecutive weights; sparsity is then 0.5."""

    def __post_init__(self) -> None:
        between(f"{self.name}.sparsity", self.sparsity, 0.05, 0.95)
        one_of(f"{self.name}.pattern", self.pattern, ("unstructured", "2:4"))
        if self.pattern == "2:4" and self.sparsity != 0.5:
            raise CandidateError(f"{self.name}.sparsity is {self.sparsity}; the pattern 2:4 means 0.5")

    def after(self, checkpoint: Checkpoint) -> Checkpoint:
        return after_sparsifier(checkpoint, self)

    def short_label(self) -> str:
        return f"{self.name} {'2:4' if self.pattern == '2:4' else percent(self.sparsity)}"

    def kept(self, columns: int) -> int:
        """How many of a row's weights stay."""
        return columns - int(columns * self.sparsity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Magnitude(Sparsifier):
    """The smallest weights of each output row become zero (Han et al. 2015, https://arxiv.org/abs/1506.02626)."""

    name: ClassVar[str] = "magnitude"
    digest_name: ClassVar[str] = "Magnitude"
    module: ClassVar[str] = "workers.compression.pruning.magnitude"
    needs_calibration: ClassVar[bool] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanda(Sparsifier):
    """The weights of smallest |weight| × ‖activation‖ of each output row become zero.

    Reference: Sun et al. 2023, https://arxiv.org/abs/2306.11695 §3.
    """

    name: ClassVar[str] = "wanda"
    digest_name: ClassVar[str] = "Wanda"
    module: ClassVar[str] = "workers.compression.pruning.wanda"


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseGPT(Sparsifier):
    """Weights become zero column by column, each one's error made up for by the columns that follow.

    Reference: Frantar and Alistarh 2023, https://arxiv.org/abs/2301.00774 §3.
    """

    name: ClassVar[str] = "sparsegpt"
    digest_name: ClassVar[str] = "SparseGPT"
    module: ClassVar[str] = "workers.compression.pruning.sparsegpt"


PRUNERS: tuple[type[Method], ...] = (
    RemoveLayers,
    RemoveHeads,
    RemoveChannels,
    TrimVocabulary,
    Magnitude,
    Wanda,
    SparseGPT,
)
