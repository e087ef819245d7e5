"""Decoder layers compiled where they stand: one graph for all that are alike, whatever a batch's shape.

A layer's many small operations (casts, norms, rotations, sums) become few kernels, and what can be worked out again is
not kept for the backward pass. Modules keep their names, their state and their hooks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import MethodType
from typing import Any

import torch
from torch import nn

from workers.failures.table import is_out_of_memory
from workers.training.model_forms.fake_quantization import StoredLinear

# Of the decoder's layers. A smaller model's step is short, and what a graph saves of it as well.
LEAST_PARAMETERS = 1e9
# Parameters of the layers times tokens of the budget: 1.4 million tokens at 7B, by which time what was gained (22 us a
# token on an H100) is more than the 20 s that compiling took.
LEAST_WORK = 1e16
# Layers of other shapes take a graph of their own, and so long again.
MOST_KINDS = 2

_log = logging.getLogger(__name__)


def worth_compiling(layers: Iterable[nn.Module], tokens: int, device: torch.device) -> bool:
    """Whether a training of so many tokens is to compile these decoder layers: on a GPU, from LEAST_PARAMETERS and
    LEAST_WORK on, dense weights alike in all layers. Packed weights, bitsandbytes' and DoRA run as they are."""
    kinds: set[tuple[tuple[int, ...], ...]] = set()
    parameters = 0
    for layer in layers:
        if any(_is_opaque(module) for module in layer.modules()):
            return False
        kinds.add(tuple(tuple(one.shape) for one in layer.parameters()))
        parameters += sum(one.numel() for one in layer.parameters())
    large = parameters >= LEAST_PARAMETERS and parameters * tokens >= LEAST_WORK
    return device.type == "cuda" and large and len(kinds) <= MOST_KINDS


@contextmanager
def compile_layers(layers: Iterable[nn.Module]) -> Iterator[None]:
    """While inside, these layers' forward passes run compiled where gradients are wanted, from the first such call on.

    layers: called with hidden states (sequences, tokens, width) first. Sequences and tokens may be any number, but a
    sequence alone runs uncompiled: it would take a graph of its own. Hooks run outside of the graph. Where compiling
    fails, a warning says why, and all layers run as they are; out of memory is raised. Not to be entered twice at a
    time: on leaving torch forgets every graph of the process.
    """
    changed = [layer for layer in layers if "forward" not in vars(layer)]
    if not changed:
        yield
        return
    from torch._dynamo import config as trace_config
    from torch._functorch import config as autograd_config
    from torch.fx.experimental import _config as shape_config

    attempt = _Attempt()
    with ExitStack() as stack:
        # Modules' numbers are constants, not tensors on the host.
        stack.enter_context(trace_config.patch(specialize_float=True))
        # Lengths that happen to be equal are not taken for the same.
        stack.enter_context(shape_config.patch(use_duck_shape=False))
        # What fails in the backward fails at once. What norms and activations put out is made again there: a third of
        # what is kept, for a hundredth of the time.
        stack.enter_context(
            autograd_config.patch(
                force_non_lazy_backward_lowering=True,
                ban_recompute_materialized_backward=False,
            )
        )
        try:
            for layer in changed:
                vars(layer)["forward"] = MethodType(attempt.forward_of(type(layer)), layer)
            yield
        finally:
            for layer in changed:
                del vars(layer)["forward"]
            torch.compiler.reset()


class _Attempt:
    """Compiled forward passes, until one can't be compiled."""

    def __init__(self) -> None:
        self._failed = False
        self._made: dict[type[nn.Module], Callable[..., Any]] = {}

    def forward_of(self, kind: type[nn.Module]) -> Callable[..., Any]:
        """A method for modules of this class, the same for all of them."""
        if kind not in self._made:
            self._made[kind] = self._method(kind.forward)
        return self._made[kind]

    def _method(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        graph = torch.compile(plain, dynamic=True, fullgraph=True)

        def forward(layer: nn.Module, states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            if self._failed or not torch.is_grad_enabled() or len(states) == 1:
                return plain(layer, states, *args, **kwargs)
            if not states.requires_grad:
                # Behind frozen embeddings; another graph costs more than this one gradient.
                states = states.detach().requires_grad_()
            try:
                return graph(layer, states, *args, **kwargs)
            except _refusals() as error:
                if is_out_of_memory(error):
                    raise
                self._failed = True
                _log.warning("training goes on uncompiled: %s", _reason(error))
                return plain(layer, states, *args, **kwargs)

        return forward


def _refusals() -> tuple[type[Exception], ...]:
    """What torch raises when it can't compile."""
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

    return (TorchDynamoException, FailOnRecompileLimitHit)


def _reason(error: BaseException) -> str:
    """What was the matter, without torch's advice: the first two lines."""
    said = str(error).partition("Set TORCHDYNAMO_VERBOSE")[0]
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return " ".join(lines[:2]) or type(error).__name__


def _is_opaque(module: nn.Module) -> bool:
    """Whether its weights are worked out in its forward pass by what torch 2.11 to 2.13 can't trace."""
    dora = len(getattr(module, "lora_magnitude_vector", ())) > 0
    return dora or isinstance(module, StoredLinear) or type(module).__module__.startswith("bitsandbytes")
