"""The methods that store weights in fewer bits: one frozen dataclass a method, its fields the method's parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from search_spaces.errors import CandidateError
from search_spaces.methods.method import Kind, Method, default_of, group_label
from search_spaces.parameters import GROUP_SIZES, WIDTHS, ZERO_POINTS_BELOW, between, one_of
from search_spaces.sizes.quantized import (
    after_bitsandbytes,
    after_embeddings,
    after_fp8,
    after_integers,
    after_mixed,
    after_w8a8,
)
from search_spaces.sizes.tensor_table import Checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegerQuantizer(Method):
    """The grid that every integer quantizer has."""

    kind: ClassVar[Kind] = "quantizer"
    has_grid: ClassVar[bool] = True

    bits: int
    """Of each weight: 8, 4, 3 or 2."""
    group_size: int = 64
    """How many consecutive input weights share one scale: 32, 64 or 128; -1 is one scale an output channel."""
    symmetric: bool = True
    """Whether the grid lies evenly around 0, and has no zero points."""

    def __post_init__(self) -> None:
        one_of(f"{self.name}.bits", self.bits, WIDTHS)
        one_of(f"{self.name}.group_size", self.group_size, GROUP_SIZES)
        one_of(f"{self.name}.symmetric", self.symmetric, (True, False))

    def after(self, checkpoint: Checkpoint) -> Checkpoint:
        return after_integers(checkpoint, self)

    def short_label(self) -> str:
        words = [f"{self.name} {self.bits}-bit {group_label(self.group_size)}"]
        if self.symmetric != default_of(self, "symmetric"):
            words.append("sym" if self.symmetric else "asym")
        return " ".join(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class RTN(IntegerQuantizer):
    """Round-to-nearest quantization of every linear weight of the decoder layers.

    Reference: Dettmers et al. 2022, https://arxiv.org/abs/2208.07339 §2 (absmax and zeropoint quantization).
    """

    name: ClassVar[str] = "rtn"
    digest_name: ClassVar[str] = "RoundToNearest"
    module: ClassVar[str] = "workers.compression.quantization.rtn"
    needs_calibration: ClassVar[bool] = False
    keeps_zeros: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class HQQ(IntegerQuantizer):
    """Quantization whose grid is fitted to the weights alone under a norm that forgives outliers.

    Reference: HQQ, Badri and Shaji 2023, https://mobiusml.github.io/hqq_blog.
    """

    name: ClassVar[str] = "hqq"
    digest_name: ClassVar[str] = "HalfQuadratic"
    module: ClassVar[str] = "workers.compression.quantization.hqq"
    needs_calibration: ClassVar[bool] = False
    keeps_zeros: ClassVar[bool] = True

    symmetric: bool = False
    """Whether the grid lies evenly around 0, and has no zero points."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AWQ(IntegerQuantizer):
    """Round-to-nearest after the input channels have been scaled by how large their activations are.

    Reference: AWQ, Lin et al. 2023, https://arxiv.org/abs/2306.00978 §3.2.
    """

    name: ClassVar[str] = "awq"
    digest_name: ClassVar[str] = "ActivationAware"
    module: ClassVar[str] = "workers.compression.quantization.awq"


@dataclass(frozen=True, slots=True, kw_only=True)
class GPTQ(IntegerQuantizer):
    """Quantization column by column, each column's error made up for by the columns that follow.

    Reference: GPTQ, Frantar et al. 2022, https://arxiv.org/abs/2210.17323.
    """

    name: ClassVar[str] = "gptq"
    digest_name: ClassVar[str] = "GPTQ"
    module: ClassVar[str] = "workers.compression.quantization.gptq"
    keeps_zeros: ClassVar[bool] = True

    damping: float = 0.01
    """Share of the Hessian's mean diagonal that is added to it."""
    activation_order: bool = True
    """Whether columns of large activations go first, their groups as they lie in the weight."""

    def __post_init__(self) -> None:
        IntegerQuantizer.__post_init__(self)
        between("gptq.damping", self.damping, 1e-6, 1.0)
        one_of("gptq.activation_order", self.activation_order, (True, False))

    def short_label(self) -> str:
        damping = [] if self.damping == default_of(self, "damping") else [f"damping {self.damping:g}"]
        order = [] if self.activation_order else ["in order"]
        return " ".join([IntegerQuantizer.short_label(self), *damping, *order])


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedWidths(Method):
    """GPTQ with a width for each group of linear weights (q/k/v; o; gate/up; down), chosen to fit a budget of bytes."""

    name: ClassVar[str] = "mixed"
    digest_name: ClassVar[str] = "MixedWidths"
    module: ClassVar[str] = "workers.compression.mixed_widths.mixed"
    has_grid: ClassVar[bool] = True
    kind: ClassVar[Kind] = "quantizer"

    bits: float
    """The budget, as the width at which a uniform quantization would take the same bytes; 3.5 is half-way between 3's
    and 4's."""
    group_size: int = 64
    """Columns that share a scale; -1 is one scale for each output channel."""
    score: Literal["kl", "fisher", "error"] = "kl"
    """How the harm of a width is judged: "kl" (measured on teacher-forced references), "fisher" (Fisher-weighted
    squared error) or "error" (raw squared error over squared weights, the baseline to beat)."""
    embeddings: bool = False
    """Whether embeddings and head are given widths (16, 8 or 4) out of the same budget, in which they then count with 8
    bits."""
    zero_points: bool = False
    """Whether linear weights of fewer than 4 bits have a zero point in each group."""

    def __post_init__(self) -> None:
        between("mixed.bits", self.bits, 2.0, 8.0)
        one_of("mixed.group_size", self.group_size, GROUP_SIZES)
        one_of("mixed.score", self.score, ("kl", "fisher", "error"))
        one_of("mixed.embeddings", self.embeddings, (True, False))
        one_of("mixed.zero_points", self.zero_points, (True, False))

    def after(self, checkpoint: Checkpoint) -> Checkpoint:
        return after_mixed(checkpoint, self)

    def short_label(self) -> str:
        score = [] if self.score == default_of(self, "score") else [f"by {self.score}"]
        embeddings = ["+ emb"] if self.embeddings else []
        # No group need have the width that the budget of bytes is spelt as.
        grids = f"{group_label(self.group_size)} asym" if self.zero_points else group_label(self.group_size)
        return " ".join([f"mixed {grids} budget {self.bits:g} bits", *score, *embeddings])

    def symmetric_at(self, bits: int) -> bool:
        """Whether linear weights of so many bits have no zero point."""
        return not self.zero_points or bits >= ZERO_POINTS_BELOW

    def why_not_before(self, later: Method) -> str | None:
        if not self.embeddings:
            return None
        if later.kind == "embedding quantizer":
            return (
                f"{self.describe()} and then {later.describe()}: the first gives the embeddings their width already. "
                "Drop one."
            )
        if later.kind == "trainer":
            return (
                f"{later.describe()} after {self.describe()}: the embeddings are quantized last, so that what is "
                "trained reads them whole. Use embeddings: false there, and the method embeddings after the training."
            )
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class BitsAndBytes(Method):
    """Quantization by the bitsandbytes library: LLM.int8(), or 4 bits in blocks of 64."""

    name: ClassVar[str] = "bitsandbytes"
    digest_name: ClassVar[str] = "BitsAndBytes"
    module: ClassVar[str] = "workers.compression.quantization.bitsandbytes"
    needs_calibration: ClassVar[bool] = False
    takes_adapters: ClassVar[bool] = True
    kind: ClassVar[Kind] = "quantizer"

    format: Literal["int8", "nf4", "fp4"]
    """The format: "int8" (https://arxiv.org/abs/2208.07339), "nf4" or "fp4" (QLoRA,
    https://arxiv.org/abs/2305.14314 §3)."""
    double_quantization: bool = False
    """Whether the block scales of a 4-bit format are quantized themselves (QLoRA, §3)."""

    def __post_init__(self) -> None:
        one_of("bitsandbytes.format", self.format, ("int8", "nf4", "fp4"))
        one_of("bitsandbytes.double_quantization", self.double_quantization, (True, False))
        if self.format == "int8" and self.double_quantization:
            raise CandidateError("bitsandbytes.double_quantization is for nf4 and fp4; int8 has one scale a row")

    def after(self, checkpoint: Checkpoint) -> Checkpoint:
        return after_bitsandbytes(checkpoint, self)

    def short_label(self) -> str:
        return f"bnb {self.format}{' dq' if self.double_quantization else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FP8(Method):
    """FP8 (E4M3) weights with a scale an output channel; with activations, those too, with a scale a token.

    Reference: Micikevicius et al. 2022, https://arxiv.org/abs/2209.05433.
    """

    name: ClassVar[str] = "fp8"
    digest_name: ClassVar[str] = "EightBitFloat"
    module: ClassVar[str] = "workers.compression.quantization.fp8"
    needs_calibration: ClassVar[bool] = False
    kind: ClassVar[Kind] = "quantizer"

    activations: bool = False
    """Whether activations are FP8 too, with a scale a token."""

    def __post_init__(self) -> None:
        one_of("fp8.activations", self.activations, (True, False))

    def after(self, checkpoint: Checkpoint) -> Checkpoint:
        return after_fp8(checkpoint, self)

    def short_label(self) -> str:
        return f"fp8{' w+a' if self.activations else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class W8A8(Method):
    """W8A8: int8 weights with a scale an output channel, int8 activations with a scale a token.

    Reference: Dettmers et al. 2022, https://arxiv.org/abs/2208.07339 §2.1 (vector-wise quantization).
    """

    name: ClassVar[str] = "w8a8"
    digest_name: ClassVar[str] = "EightBitIntegers"
    module: ClassVar[str] = "workers.compression.quantization.w8a8"
    needs_calibration: ClassVar[bool] = False
    kind: ClassVar[Kind] = "quantizer"

    def after(self, checkpoint: Checkpoint) -> Checkpoint:
        return after_w8a8(checkpoint)

    def short_label(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeEmbeddings(Method):
    """Quantization of the token embeddings, and of the output head where it has its own; a tied head stays tied.

    By round-to-nearest on a symmetric grid, or by GPTQ (https://arxiv.org/abs/2210.17323), below 8 bits with zero
    points, by what enters the head. Embeddings apart from the head then have the grids that round them best.
    """

    name: ClassVar[str] = "embeddings"
    digest_name: ClassVar[str] = "QuantizeEmbeddings"
    module: ClassVar[str] = "workers.compression.quantization.embeddings"
    needs_calibration: ClassVar[bool] = False
    kind: ClassVar[Kind] = "embedding quantizer"

    bits: int
    """Of each weight: 8 or 4."""
    group_size: int = 64
    """How many consecutive weights of a row share one scale: 32, 64 or 128; -1 is one scale a row."""
    by: Literal["rtn", "gptq"] = "rtn"
    """How they are rounded: each weight alone, or by calibration pairs."""

    def __post_init__(self) -> None:
        one_of("embeddings.bits", self.bits, (8, 4))
        one_of("embeddings.group_size", self.group_size, GROUP_SIZES)
        one_of("embeddings.by", self.by, ("rtn", "gptq"))

    @property
    def is_calibrated(self) -> bool:
        return self.by == "gptq"

    @property
    def symmetric(self) -> bool:
        """Whether the grid has no zero points."""
        return self.by == "rtn" or self.bits == 8

    def after(self, checkpoint: Checkpoint) -> Checkpoint:
        return after_embeddings(checkpoint, self)

    def short_label(self) -> str:
        label = f"emb {self.bits}-bit {group_label(self.group_size)}"
        return label if self.by == "rtn" else f"{label} {self.by}"


QUANTIZERS: tuple[type[Method], ...] = (RTN, HQQ, AWQ, GPTQ, MixedWidths, BitsAndBytes, FP8, W8A8, QuantizeEmbeddings)
