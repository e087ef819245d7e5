"""Norms, gated units and rotations of a model in training as kernels of their own, where they stand.

Under autocast a norm of float32 weights answers in float32, and each product that reads it casts it anew; cosines of
float32 states have queries and keys rotated in float32. Here all of them answer in autocast's type. Modules keep their
names, their state and their hooks.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from workers.training.fused.evaluating import evaluating

# Of the largest value; a bfloat16 module rounds on the way.
TOLERANCE = 2e-2
# As files of transformers name their rotation of queries and keys.
ROTATION = "apply_rotary_pos_emb"
_ROWS = 4
_HAS_TRITON = find_spec("triton") is not None

Forward = Callable[..., Any]


@contextmanager
def fused(models: Iterable[nn.Module]) -> Iterator[None]:
    """While inside, what these models have of RMS norms, SiLU-gated units and rotary embeddings runs so.

    A module is known by its class's name and by what it has, and taken where it says the same as its formula on a few
    values. Nothing changes on a CPU, without Triton, and of a module that has a forward of its own already. Rotations
    are a function of the family's file in transformers, which is exchanged there meanwhile.
    """
    changed: list[nn.Module] = []
    rotating: dict[str, Forward] = {}
    try:
        for model in models:
            with evaluating(model), torch.no_grad():
                for module in model.modules():
                    if "forward" not in vars(module) and (forward := _forward_of(module)) is not None:
                        vars(module)["forward"] = MethodType(forward, module)
                        changed.append(module)
                # Student and teacher may be of one family.
                for name in _files_of(model) - rotating.keys():
                    if (exchanged := _rotation(plain := vars(sys.modules[name])[ROTATION], model)) is not None:
                        rotating[name] = plain
                        setattr(sys.modules[name], ROTATION, exchanged)
        yield
    finally:
        for name, plain in rotating.items():
            setattr(sys.modules[name], ROTATION, plain)
        for module in changed:
            del vars(module)["forward"]


def runs_kernels(device: torch.device) -> bool:
    """Whether Triton's kernels run there."""
    return device.type == "cuda" and _HAS_TRITON


def _forward_of(module: nn.Module) -> Forward | None:
    kind = type(module).__name__
    for ending, make in _KINDS.items():
        if kind.endswith(ending):
            held = next(iter((*module.parameters(), *module.buffers())), None)
            return make(module) if held is not None and runs_kernels(held.device) else None
    return None


def _norm(module: Any) -> Forward | None:
    from workers.training.fused.norm_kernels import RmsNorm

    weight = getattr(module, "weight", None)
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if not isinstance(weight, nn.Parameter) or weight.ndim != 1 or not isinstance(eps, float):
        return None
    x = _values(len(weight), weight)
    wanted = module(x)
    normed = x.float() * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + eps)
    for offset in (0.0, 1.0):
        if _alike(normed * (weight.float() + offset), wanted):
            return lambda self, states: RmsNorm.apply(states, self.weight, eps, offset, _answers_in(states))
    return None


def is_silu_gated(module: Any) -> bool:
    """Whether it is down(silu(gate(x)) · up(x)) of three modules by these names, as they answer under autocast: beside
    weights of 16 bits an adapter's are float32, which nothing else brings together."""
    parts: list[Any] = [getattr(module, name, None) for name in ("gate_proj", "up_proj", "down_proj")]
    if not all(isinstance(part, nn.Module) for part in parts):
        return False
    gate, up, down = parts
    width = getattr(gate, "in_features", None)
    if not isinstance(width, int):
        return False
    x = _values(width, next(iter((*gate.parameters(), *gate.buffers()))))
    with torch.autocast(x.device.type, torch.bfloat16):
        return _alike(down(functional.silu(gate(x)) * up(x)), module(x))


def _gated(module: Any) -> Forward | None:
    if not is_silu_gated(module):
        return None
    from workers.training.fused.gate_kernels import SiluGate

    return lambda self, states: self.down_proj(SiluGate.apply(self.gate_proj(states), self.up_proj(states)))


def _rotations(module: Any) -> Forward | None:
    plain = type(module).forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        said = plain(self, *args, **kwargs)
        return tuple(one.to(_answers_in(one)) for one in said) if isinstance(said, tuple) else said

    return forward


def _files_of(model: nn.Module) -> set[str]:
    """The files whose rotation a model on a GPU calls, as Python names them."""
    held = next(model.parameters(), None)
    if held is None or not runs_kernels(held.device):
        return set()
    names = {type(module).__module__ for module in model.modules()}
    return {name for name in names if isinstance(vars(sys.modules[name]).get(ROTATION), FunctionType)}


def _rotation(plain: Forward, model: nn.Module) -> Forward | None:
    """The file's function as a kernel, if it says the same of a few values."""
    from workers.training.fused.rotation_kernels import Rotate

    if list(inspect.signature(plain).parameters)[:4] != ["q", "k", "cos", "sin"]:
        return None

    def rotation(
        q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, *more: Any, **others: Any
    ) -> Any:
        if more or others or cos.ndim != 3 or cos.shape[-1] != q.shape[-1] or not runs_kernels(q.device):
            return plain(q, k, cos, sin, *more, **others)
        return Rotate.apply(q, cos, sin), Rotate.apply(k, cos, sin)

    values = _values(5 * 16, next(model.parameters()).float())
    q, k = values.view(1, _ROWS, 5, 16), values.view(2, 2, 5, 16)[:1]
    angles = values.view(_ROWS, 5, 16)[:1]
    try:
        wanted = plain(q, k, angles.cos(), angles.sin())
    except (TypeError, ValueError, RuntimeError):
        # One of another convention.
        return None
    found = rotation(q, k, angles.cos(), angles.sin())
    return rotation if all(map(_alike, found, wanted)) else None


_KINDS: dict[str, Callable[[Any], Forward | None]] = {
    "RMSNorm": _norm,
    "MLP": _gated,
    "RotaryEmbedding": _rotations,
}


def _answers_in(states: torch.Tensor) -> torch.dtype:
    kind = states.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else states.dtype


def _values(width: int, like: torch.Tensor) -> torch.Tensor:
    """A few rows of what a layer may read, (_ROWS, width)."""
    dtype = like.dtype if like.is_floating_point() and like.itemsize > 1 else torch.bfloat16
    return torch.linspace(-3, 3, _ROWS * width, device=like.device).sin().view(_ROWS, width).to(dtype)


def _alike(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    if found.shape != wanted.shape:
        return False
    apart = (found.float() - wanted.float()).abs().max()
    return bool(apart <= TOLERANCE * wanted.float().abs().max())
