"""What every method is, beside its parameters: the base of the frozen dataclasses in this package.

All that the project knows of a method stands on its dataclass: what it is called, which module carries it out, what it
makes of a checkpoint's bytes, what it may not follow, and how a table names it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from search_spaces.sizes.tensor_table import Checkpoint

Kind = Literal["pruner", "sparsifier", "quantizer", "embedding quantizer", "trainer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One compression step with its parameters, which are the fields of the subclass."""

    name: ClassVar[str]
    """What a study file calls it."""
    digest_name: ClassVar[str]
    """What digests know it by, whatever the class is called. It never changes: ledgers and stores find results so."""
    kind: ClassVar[Kind]
    """What may follow what goes by this first (`search_spaces.candidate`)."""
    module: ClassVar[str]
    """The module whose `compress(parent, out, step, context)` carries it out."""
    needs_calibration: ClassVar[bool] = True
    """Whether its result hangs on the calibration data, with the parameters that it has by itself."""
    reads_training: ClassVar[bool] = False
    """Whether its result hangs on the training data, where a study has them."""
    keeps_zeros: ClassVar[bool] = False
    """A quantizer that keeps a sparse weight's zeros, and stores it as its mask and what stays."""
    has_grid: ClassVar[bool] = False
    """A quantizer whose grids of integers can be trained."""
    takes_adapters: ClassVar[bool] = False
    """A quantizer without such grids beside whose weights an adapter can be trained."""

    @property
    def is_calibrated(self) -> bool:
        """Whether this step, with its parameters, looks at calibration pairs."""
        return self.needs_calibration

    def after(self, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint's table once the step has been carried out; raises CandidateError where the model can't take
        the step."""
        raise NotImplementedError

    def short_label(self) -> str:
        """The step in a few characters, for a table or a picture. A parameter at its default is left out, save bits,
        group sizes and amounts, which a reader looks for."""
        raise NotImplementedError

    def why_not_before(self, later: Method) -> str | None:
        """Why `later` can't come after this step, beside what their kinds say; None when it can."""
        return None

    def why_not_after(self, earlier: Method) -> str | None:
        """Why this step can't come after `earlier`, beside what their kinds say; None when it can."""
        return None

    def describe(self) -> str:
        """The step as people read it: `rtn(bits=4, group_size=64)`."""
        return f"{self.name}({', '.join(f'{field.name}={getattr(self, field.name)}' for field in fields(self))})"


def group_label(size: int) -> str:
    """`g64`, or `per channel` for one scale an output channel."""
    return "per channel" if size == -1 else f"g{size}"


def default_of(step: Method, name: str) -> Any:
    """The default of a parameter."""
    return next(field.default for field in fields(step) if field.name == name)


def names_of(methods: tuple[type[Method], ...]) -> str:
    """The methods' names, with commas."""
    return ", ".join(method.name for method in methods)
