"""The methods that take weights away: one frozen dataclass a method, its fields the method's parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from search_spaces.errors import CandidateError
from search_spaces.methods.kinds import Kind
from search_spaces.methods.parameters import between, one_of, whole

Pattern = Literal["unstructured", "2:4"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveLayers:
    """Removal of whole decoder layers, chosen on the calibration set.

    count: how many layers go. by: "similarity" takes those that change the hidden state least (ShortGPT's Block
    Influence, https://arxiv.org/abs/2403.03853 §3.2); "greedy" takes, one after another, the layer whose absence costs
    least measured divergence; "pairwise" the set whose single and pairwise costs, measured, add up to least (after
    https://arxiv.org/abs/2602.00161).
    """

    name: ClassVar[str] = "remove_layers"
    digest_name: ClassVar[str] = "RemoveLayers"
    kind: ClassVar[Kind] = "pruner"

    count: int
    by: Literal["similarity", "greedy", "pairwise"] = "similarity"

    def __post_init__(self) -> None:
        whole("remove_layers.count", self.count, 1, "Leave the step out to keep every layer.")
        one_of("remove_layers.by", self.by, ("similarity", "greedy", "pairwise"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveHeads:
    """Removal of the least important key-value groups (a key-value head and its query heads), as many in every layer.

    groups: how many go. What stays is compensated by least squares on the calibration Hessian.
    Reference: Kwon et al. 2022, https://arxiv.org/abs/2204.09656 §4.3 (mask tuning by least squares).
    """

    name: ClassVar[str] = "remove_heads"
    digest_name: ClassVar[str] = "RemoveHeads"
    kind: ClassVar[Kind] = "pruner"

    groups: int

    def __post_init__(self) -> None:
        whole("remove_heads.groups", self.groups, 1, "Leave the step out to keep every head.")


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveChannels:
    """Removal of the least important channels of every MLP, to one width in all layers.

    share: the share that goes; the width that stays is rounded to a multiple of 32. What stays is compensated by least
    squares on the calibration Hessian. Reference: Kwon et al. 2022, https://arxiv.org/abs/2204.09656 §4.3.
    """

    name: ClassVar[str] = "remove_channels"
    digest_name: ClassVar[str] = "RemoveChannels"
    kind: ClassVar[Kind] = "pruner"

    share: float

    def __post_init__(self) -> None:
        between("remove_channels.share", self.share, 0.01, 0.95)

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
class TrimVocabulary:
    """Removal of the tokens that the calibration pairs use least; embeddings, head and tokenizer shrink together.

    tokens: how many stay, bytes and special tokens among them. Reference: Abdaoui et al. 2020,
    https://arxiv.org/abs/2010.05609.
    """

    name: ClassVar[str] = "trim_vocabulary"
    digest_name: ClassVar[str] = "TrimVocabulary"
    kind: ClassVar[Kind] = "pruner"

    tokens: int

    def __post_init__(self) -> None:
        whole("trim_vocabulary.tokens", self.tokens, 1, "Leave the step out to keep every token.")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sparsifier:
    """sparsity: the share of each output row's weights that becomes zero. pattern: anywhere in the row, or 2 of every
    4 consecutive weights (then sparsity is 0.5)."""

    kind: ClassVar[Kind] = "sparsifier"
    name: ClassVar[str]
    digest_name: ClassVar[str]

    sparsity: float = 0.5
    pattern: Pattern = "unstructured"

    def __post_init__(self) -> None:
        between(f"{self.name}.sparsity", self.sparsity, 0.05, 0.95)
        one_of(f"{self.name}.pattern", self.pattern, ("unstructured", "2:4"))
        if self.pattern == "2:4" and self.sparsity != 0.5:
            raise CandidateError(f"{self.name}.sparsity is {self.sparsity}; the pattern 2:4 means 0.5")

    def kept(self, columns: int) -> int:
        """How many of a row's weights stay."""
        return columns - int(columns * self.sparsity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Magnitude(_Sparsifier):
    """The smallest weights of each output row become zero (Han et al. 2015, https://arxiv.org/abs/1506.02626)."""

    name: ClassVar[str] = "magnitude"
    digest_name: ClassVar[str] = "Magnitude"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanda(_Sparsifier):
    """The weights of smallest |weight| × ‖activation‖ of each output row become zero.

    Reference: Sun et al. 2023, https://arxiv.org/abs/2306.11695 §3.
    """

    name: ClassVar[str] = "wanda"
    digest_name: ClassVar[str] = "Wanda"


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseGPT(_Sparsifier):
    """Weights become zero column by column, each one's error made up for by the columns that follow.

    Reference: Frantar and Alistarh 2023, https://arxiv.org/abs/2301.00774 §3.
    """

    name: ClassVar[str] = "sparsegpt"
    digest_name: ClassVar[str] = "SparseGPT"
