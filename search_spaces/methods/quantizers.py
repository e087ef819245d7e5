"""The methods that store weights in fewer bits: one frozen dataclass a method, its fields the method's parameters.

Where it has them, bits are 8, 4, 3 or 2; group_size is how many consecutive input weights share one scale (-1: one
scale an output channel); symmetric grids have no zero points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from search_spaces.errors import CandidateError
from search_spaces.methods.kinds import Kind
from search_spaces.methods.parameters import GROUP_SIZES, WIDTHS, between, one_of


@dataclass(frozen=True, slots=True, kw_only=True)
class _IntegerQuantizer:
    """The grid that every integer quantizer has."""

    kind: ClassVar[Kind] = "quantizer"
    name: ClassVar[str]
    digest_name: ClassVar[str]

    bits: int
    group_size: int = 64
    symmetric: bool = True

    def __post_init__(self) -> None:
        one_of(f"{self.name}.bits", self.bits, WIDTHS)
        one_of(f"{self.name}.group_size", self.group_size, GROUP_SIZES)
        one_of(f"{self.name}.symmetric", self.symmetric, (True, False))


@dataclass(frozen=True, slots=True, kw_only=True)
class RTN(_IntegerQuantizer):
    """Round-to-nearest quantization of every linear weight of the decoder layers.

    Reference: Dettmers et al. 2022, https://arxiv.org/abs/2208.07339 §2 (absmax and zeropoint quantization).
    """

    name: ClassVar[str] = "rtn"
    digest_name: ClassVar[str] = "RoundToNearest"


@dataclass(frozen=True, slots=True, kw_only=True)
class HQQ(_IntegerQuantizer):
    """Quantization whose grid is fitted to the weights alone under a norm that forgives outliers.

    Reference: HQQ, Badri and Shaji 2023, https://mobiusml.github.io/hqq_blog.
    """

    name: ClassVar[str] = "hqq"
    digest_name: ClassVar[str] = "HalfQuadratic"

    symmetric: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AWQ(_IntegerQuantizer):
    """Round-to-nearest after the input channels have been scaled by how large their activations are.

    Reference: AWQ, Lin et al. 2023, https://arxiv.org/abs/2306.00978 §3.2.
    """

    name: ClassVar[str] = "awq"
    digest_name: ClassVar[str] = "ActivationAware"


@dataclass(frozen=True, slots=True, kw_only=True)
class GPTQ(_IntegerQuantizer):
    """Quantization column by column, each column's error made up for by the columns that follow.

    damping: share of the Hessian's mean diagonal added to it. activation_order: columns of large activations first,
    their groups as they lie in the weight. Reference: GPTQ, Frantar et al. 2022, https://arxiv.org/abs/2210.17323.
    """

    name: ClassVar[str] = "gptq"
    digest_name: ClassVar[str] = "GPTQ"

    damping: float = 0.01
    activation_order: bool = True

    def __post_init__(self) -> None:
        _IntegerQuantizer.__post_init__(self)
        between("gptq.damping", self.damping, 1e-6, 1.0)
        one_of("gptq.activation_order", self.activation_order, (True, False))


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedWidths:
    """GPTQ with a width for each group of linear weights (q/k/v; o; gate/up; down), chosen to fit a budget of bytes.

    bits: the budget, as the width at which a uniform quantization would take the same bytes; 3.5 is half-way between
    3's and 4's. score: what a width's harm is judged by: "kl" (measured on teacher-forced references), "fisher"
    (Fisher-weighted squared error) or "error" (raw squared error over squared weights, the baseline to beat).
    embeddings: whether embeddings and head are given widths (16, 8 or 4) out of the same budget, in which they then
    count with 8 bits.
    """

    name: ClassVar[str] = "mixed"
    digest_name: ClassVar[str] = "MixedWidths"
    kind: ClassVar[Kind] = "quantizer"

    bits: float
    group_size: int = 64
    score: Literal["kl", "fisher", "error"] = "kl"
    embeddings: bool = False

    def __post_init__(self) -> None:
        between("mixed.bits", self.bits, 2.0, 8.0)
        one_of("mixed.group_size", self.group_size, GROUP_SIZES)
        one_of("mixed.score", self.score, ("kl", "fisher", "error"))
        one_of("mixed.embeddings", self.embeddings, (True, False))


@dataclass(frozen=True, slots=True, kw_only=True)
class BitsAndBytes:
    """Quantization by the bitsandbytes library: LLM.int8(), or 4 bits in blocks of 64.

    format: "int8" (https://arxiv.org/abs/2208.07339), "nf4" or "fp4" (QLoRA, https://arxiv.org/abs/2305.14314 §3).
    double_quantization: the block scales of a 4-bit format are quantized themselves (there, §3).
    """

    name: ClassVar[str] = "bitsandbytes"
    digest_name: ClassVar[str] = "BitsAndBytes"
    kind: ClassVar[Kind] = "quantizer"

    format: Literal["int8", "nf4", "fp4"]
    double_quantization: bool = False

    def __post_init__(self) -> None:
        one_of("bitsandbytes.format", self.format, ("int8", "nf4", "fp4"))
        one_of("bitsandbytes.double_quantization", self.double_quantization, (True, False))
        if self.format == "int8" and self.double_quantization:
            raise CandidateError("bitsandbytes.double_quantization is for nf4 and fp4; int8 has one scale a row")


@dataclass(frozen=True, slots=True, kw_only=True)
class FP8:
    """FP8 (E4M3) weights with a scale an output channel; with activations, those too, with a scale a token.

    Reference: Micikevicius et al. 2022, https://arxiv.org/abs/2209.05433.
    """

    name: ClassVar[str] = "fp8"
    digest_name: ClassVar[str] = "EightBitFloat"
    kind: ClassVar[Kind] = "quantizer"

    activations: bool = False

    def __post_init__(self) -> None:
        one_of("fp8.activations", self.activations, (True, False))


@dataclass(frozen=True, slots=True, kw_only=True)
class W8A8:
    """W8A8: int8 weights with a scale an output channel, int8 activations with a scale a token.

    Reference: Dettmers et al. 2022, https://arxiv.org/abs/2208.07339 §2.1 (vector-wise quantization).
    """

    name: ClassVar[str] = "w8a8"
    digest_name: ClassVar[str] = "EightBitIntegers"
    kind: ClassVar[Kind] = "quantizer"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeEmbeddings:
    """Symmetric round-to-nearest quantization of the token embeddings, and of the output head where it has its own.

    bits: 8 or 4. A tied head stays tied.
    """

    name: ClassVar[str] = "embeddings"
    digest_name: ClassVar[str] = "QuantizeEmbeddings"
    kind: ClassVar[Kind] = "embedding quantizer"

    bits: int
    group_size: int = 64

    def __post_init__(self) -> None:
        one_of("embeddings.bits", self.bits, (8, 4))
        one_of("embeddings.group_size", self.group_size, GROUP_SIZES)
