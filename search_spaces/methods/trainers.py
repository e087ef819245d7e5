"""The methods that train: one frozen dataclass a method, its fields the method's parameters.

The teacher is the uncompressed base model, or what a study's `start` made of it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar, Literal

from search_spaces.errors import CandidateError
from search_spaces.methods.method import Kind, Method, names_of
from search_spaces.methods.pruners import TrimVocabulary
from search_spaces.methods.quantizers import QUANTIZERS
from search_spaces.methods.recipes import RECIPES
from search_spaces.parameters import between, one_of, whole
from search_spaces.sizes.tensor_table import Checkpoint
from search_spaces.sizes.trained import after_distill, after_finetune, after_recover
from search_spaces.wording import percent, pluralize

LossName = Literal["references", "sequence", "forward_kl", "reverse_kl", "skew_kl"]
LOSSES: tuple[LossName, ...] = ("references", "sequence", "forward_kl", "reverse_kl", "skew_kl")
KL_LOSSES: tuple[LossName, ...] = ("forward_kl", "reverse_kl", "skew_kl")
# The quantizers whose scales can be trained.
WITH_GRID = tuple(method for method in QUANTIZERS if method.has_grid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainer(Method):
    """How a step trains."""

    kind: ClassVar[Kind] = "trainer"
    needs_calibration: ClassVar[bool] = False
    reads_training: ClassVar[bool] = True

    tokens: int = 1_000_000
    """The budget, in real tokens read, prompts included; 0 is one pass through the data."""
    loss: LossName = "forward_kl"
    """The loss: "references" is cross-entropy on the references, "sequence" is cross-entropy on the teacher's
    translations (https://arxiv.org/abs/1606.07947). The others are a divergence from the teacher for each target token:
    forward KL, reverse KL (https://arxiv.org/abs/2306.08543) or skew KL (https://arxiv.org/abs/2402.03898)."""
    beams: int = 0
    """The targets are the teacher's translations by so many beams. 0 is the references, and one beam for "sequence"."""
    reference_share: float = 0.0
    """Share of cross-entropy on the targets beside a divergence."""
    teacher: Literal["live", "cached"] = "live"
    """Whether the teacher runs during the training, or its 64 likeliest tokens are kept beforehand."""
    hidden: float = 0.0
    """Weight of matching the teacher's hidden states."""
    rate: float
    """The peak learning rate."""
    schedule: Literal["wsd", "inverse_sqrt"] = "wsd"
    """How the learning rate changes: "wsd" warms up, stays, and decays over the last fifth
    (https://arxiv.org/abs/2404.06395 §4); "inverse_sqrt" falls with the root of the steps."""
    warm_up: int = 20
    """Length of the warm-up, in optimizer steps."""
    weight_decay: float = 0.0
    """The optimizer's weight decay."""
    batch: int = 64
    """Sequences in an optimizer step."""

    def __post_init__(self) -> None:
        whole(f"{self.name}.tokens", self.tokens, 0, "0 is once through the data.")
        one_of(f"{self.name}.loss", self.loss, LOSSES)
        whole(f"{self.name}.beams", self.beams, 0, "0 takes the references, and one beam for the loss sequence.")
        if self.beams and self.loss == "references":
            raise CandidateError(
                f"{self.name}.beams is {self.beams}, which makes the teacher's translations the targets, and the loss "
                "is 'references'; use sequence or a divergence, or leave beams out"
            )
        between(f"{self.name}.reference_share", self.reference_share, 0.0, 1.0)
        one_of(f"{self.name}.teacher", self.teacher, ("live", "cached"))
        between(f"{self.name}.hidden", self.hidden, 0.0, 1000.0)
        between(f"{self.name}.rate", self.rate, 1e-8, 1.0)
        one_of(f"{self.name}.schedule", self.schedule, ("wsd", "inverse_sqrt"))
        whole(f"{self.name}.warm_up", self.warm_up, 0, "0 begins at the full rate.")
        between(f"{self.name}.weight_decay", self.weight_decay, 0.0, 1.0)
        whole(f"{self.name}.batch", self.batch, 1, "It counts the sequences of an optimizer step.")
        self._refuse_idle_teacher()

    def describe(self) -> str:
        """Of many parameters the budget, the loss and those that are not at their defaults."""
        told = [
            f"{field.name}={getattr(self, field.name)}"
            for field in fields(self)
            if field.name in ("tokens", "loss") or getattr(self, field.name) != field.default
        ]
        return f"{self.name}({', '.join(told)})"

    def label_of(self, words: list[str], told: set[str]) -> str:
        """The words, the budget, and by name every parameter that is not told by them and not at its default; where
        several are a recipe's, its name in place of all."""
        others = [
            f"{field.name.replace('_', ' ')} {getattr(self, field.name)}"
            for field in fields(self)
            if field.name not in told | {"tokens"} and getattr(self, field.name) != field.default
        ]
        if len(others) > 1 and (recipe := self._recipe()) is not None:
            return " ".join([recipe, budget_label(self.tokens)])
        return " ".join([*words, budget_label(self.tokens), *others])

    def _recipe(self) -> str | None:
        """The recipe that these parameters are, at any budget."""
        for name, asked in RECIPES.items():
            if asked["method"] != self.name:
                continue
            given = {key: value for key, value in asked.items() if key not in ("method", "tokens")}
            if all(
                getattr(self, field.name) == given.get(field.name, field.default)
                for field in fields(self)
                if field.name != "tokens"
            ):
                return name
        return None

    def keeps_what_is_zero(self) -> bool:
        """Whether a sparse weight's zeros stay zero."""
        return False

    def why_not_after(self, earlier: Method) -> str | None:
        after = f"{self.describe()} after {earlier.describe()}"
        if isinstance(earlier, TrimVocabulary) and (self.teacher == "cached" or self.hidden):
            told = "hidden states are matched" if self.hidden else "a cached teacher is read"
            return (
                f"{after}: {told} token by token, and the trimmed vocabulary spells otherwise. "
                "Use teacher: live and hidden: 0, or trim after the training."
            )
        if earlier.kind == "sparsifier" and not self.keeps_what_is_zero():
            return (
                f"{after}: it would not keep the zeros. Use finetune, or recover with adapter: lora or dora kept "
                "apart, or put the training first."
            )
        return self.why_not_packed(earlier, after) if earlier.kind == "quantizer" else None

    def why_not_packed(self, quantizer: Method, after: str) -> str | None:
        """Why weights that this quantizer has packed can't be trained so; None when they can."""
        if quantizer.has_grid:
            return None
        if quantizer.takes_adapters:
            return (
                f"{after}: its blocks have no grid to train. Keep a lora or dora adapter apart, or put the training "
                "first."
            )
        return f"{after}: its weights can't be trained. Put the training first, or use one of {names_of(WITH_GRID)}."

    @property
    def has_divergence(self) -> bool:
        """Whether the loss is a divergence from the teacher's distribution, token by token."""
        return self.loss in KL_LOSSES

    @property
    def has_translated_targets(self) -> bool:
        """Whether the targets are the teacher's translations, not the references."""
        return self.loss == "sequence" or self.beams > 0

    def _refuse_idle_teacher(self) -> None:
        """Raise CandidateError for what only a divergence from the teacher has."""
        divergences = ", ".join(KL_LOSSES)
        idle = [
            name
            for name, asked in (
                ("reference_share", self.reference_share > 0.0),
                ("hidden", self.hidden > 0.0),
                ("teacher", self.teacher == "cached"),
            )
            if asked
        ]
        if idle and not self.has_divergence:
            raise CandidateError(
                f"{self.name}.{idle[0]} is {getattr(self, idle[0])!r}, which goes with a divergence from the teacher, "
                f"and the loss is {self.loss!r}; use one of {divergences}, or leave {idle[0]} out"
            )
        if self.hidden > 0.0 and self.teacher == "cached":
            raise CandidateError(
                f"{self.name}.hidden is {self.hidden}, and a cache keeps no hidden states; use teacher: live, or leave "
                "hidden out"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Recover(Trainer):
    """Training of a few weights beside those that stay as they are."""

    name: ClassVar[str] = "recover"
    digest_name: ClassVar[str] = "Recover"
    module: ClassVar[str] = "workers.training.recover"

    adapter: Literal["lora", "dora", "scales"] = "lora"
    """What is trained. "lora" (https://arxiv.org/abs/2106.09685) and "dora" (https://arxiv.org/abs/2402.09353) stand
    beside every linear weight of the decoder layers; "scales" trains the scales of packed weights and the norms, which
    costs no byte (PEQA, https://arxiv.org/abs/2305.14152)."""
    rank: int = 16
    """Rank of the adapter."""
    alpha: float = 32.0
    """Alpha of the adapter."""
    dropout: float = 0.05
    """Dropout of the adapter."""
    merged: bool = False
    """Whether the adapter is added to the weights when it has been trained, or kept apart."""
    rate: float = 2e-4
    """The peak learning rate."""

    def __post_init__(self) -> None:
        Trainer.__post_init__(self)
        one_of("recover.adapter", self.adapter, ("lora", "dora", "scales"))
        whole("recover.rank", self.rank, 1, "Leave the step out to train no adapter.")
        between("recover.alpha", self.alpha, 1e-3, 1e5)
        between("recover.dropout", self.dropout, 0.0, 0.9)
        one_of("recover.merged", self.merged, (True, False))
        if self.adapter == "scales" and (self.rank, self.alpha, self.dropout, self.merged) != (16, 32.0, 0.05, False):
            raise CandidateError(
                "recover.adapter is 'scales', which has no rank, alpha or dropout, and nothing to merge; leave them out"
            )

    @property
    def is_apart(self) -> bool:
        """Whether an adapter stays beside the weights."""
        return self.adapter != "scales" and not self.merged

    def after(self, checkpoint: Checkpoint) -> Checkpoint:
        return after_recover(checkpoint, self)

    def short_label(self) -> str:
        words: list[str] = [self.adapter]
        if self.adapter != "scales":
            words += [f"r{self.rank}", *(["merged"] if self.merged else [])]
        return self.label_of(words, {"adapter", "rank", "merged"})

    def keeps_what_is_zero(self) -> bool:
        return self.is_apart

    def why_not_before(self, later: Method) -> str | None:
        if self.is_apart:
            return (
                f"{later.describe()} after {self.describe()}: an adapter kept apart comes last. Merge it first "
                "(merged: true); packed, train the scales."
            )
        return None

    def why_not_packed(self, quantizer: Method, after: str) -> str | None:
        if self.merged:
            return (
                f"{after}: a packed weight can't take an adapter in. Keep it apart (merged: false), or train the "
                "scales."
            )
        if quantizer.takes_adapters and self.is_apart:
            return None
        return Trainer.why_not_packed(self, quantizer, after)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finetune(Trainer):
    """Training of all weights. Those that a quantizer has packed are trained through their rounding, and packed again
    on the same grid (straight-through estimator, https://arxiv.org/abs/1308.3432; LLM-QAT,
    https://arxiv.org/abs/2305.17888)."""

    name: ClassVar[str] = "finetune"
    digest_name: ClassVar[str] = "Finetune"
    module: ClassVar[str] = "workers.training.finetune"

    rate: float = 2e-5

    def after(self, checkpoint: Checkpoint) -> Checkpoint:
        return after_finetune(checkpoint)

    def short_label(self) -> str:
        return self.label_of(["finetune"], set())

    def keeps_what_is_zero(self) -> bool:
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Distill(Trainer):
    """Training of a smaller student that begins with the parent's own weights."""

    name: ClassVar[str] = "distill"
    digest_name: ClassVar[str] = "Distill"
    module: ClassVar[str] = "workers.training.distill"

    layers: int = 0
    """How many layers stay, spread over the depth (https://arxiv.org/abs/1910.01108 §3); 0 is all."""
    width: float = 1.0
    """Share of the hidden size that stays, the most important part of it (https://arxiv.org/abs/2407.14679)."""
    channels: float = 1.0
    """Share of the MLP's channels that stays, the most important ones (https://arxiv.org/abs/2407.14679)."""
    config: str = ""
    """A config.json or its folder, for a student of another shape with the same vocabulary. It then gives the whole
    shape."""
    rate: float = 5e-4
    """The peak learning rate."""

    def __post_init__(self) -> None:
        Trainer.__post_init__(self)
        whole("distill.layers", self.layers, 0, "0 keeps every layer.")
        between("distill.width", self.width, 0.01, 1.0)
        between("distill.channels", self.channels, 0.01, 1.0)
        if not isinstance(self.config, str):
            raise CandidateError(f"distill.config is {self.config!r}; it must be the path of a config.json")
        if self.config and (self.layers, self.width, self.channels) != (0, 1.0, 1.0):
            raise CandidateError(
                f"distill.config is {self.config!r}, which gives the student's whole shape; leave layers, width and "
                "channels out, or config"
            )

    def after(self, checkpoint: Checkpoint) -> Checkpoint:
        return after_distill(checkpoint, self)

    def short_label(self) -> str:
        words = ["student"]
        words += [pluralize(self.layers, "layer")] if self.layers else []
        words += [f"{percent(self.width)} width"] if self.width != 1.0 else []
        words += [f"{percent(self.channels)} mlp"] if self.channels != 1.0 else []
        words += [Path(self.config).name] if self.config else []
        return self.label_of(words, {"layers", "width", "channels", "config"})

    def why_not_packed(self, quantizer: Method, after: str) -> str | None:
        return f"{after}: a student can't be cut out of packed weights. Put the distillation first."


def budget_label(tokens: int) -> str:
    """`250k`, `1M`; 0 is once through the data."""
    if not tokens:
        return "once"
    for size, unit in ((1_000_000, "M"), (1000, "k")):
        if tokens % (size // 100) == 0 and tokens >= size:
            return f"{tokens / size:g}{unit}"
    return f"{tokens:,}"


TRAINERS: tuple[type[Method], ...] = (Recover, Finetune, Distill)
