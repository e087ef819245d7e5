"""A model whose decoder layers lie on several devices: what lies where, and how hidden states get from one to the next.

Embeddings, the last norm and the head lie together, so that tokens are chosen where they are looked up. accelerate
moves tensors at every module; here they move where the device changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from search_spaces.errors import StudyError
from search_spaces.sizes.tensor_table import layer_of
from workers.loading.placing import AUTO, BALANCED, bytes_by_layer, device_numbers
from workers.runtime.gpu_memory import free_memory


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a model's weights lie."""

    home: torch.device
    """Of all that is in no decoder layer."""
    layers: tuple[torch.device, ...] = ()
    """Of each decoder layer; () where all are at home."""

    @property
    def devices(self) -> tuple[torch.device, ...]:
        """Each once, home first."""
        return tuple(dict.fromkeys((self.home, *self.layers)))

    @property
    def is_spread(self) -> bool:
        return len(self.devices) > 1

    def of(self, name: str) -> torch.device:
        """The device of a tensor of this name, or of a module's."""
        number = layer_of(name)
        return self.home if number is None or not self.layers else self.layers[number]


def placement_of(asked: str, home: torch.device, sizes: Callable[[], Iterable[tuple[str, int]]]) -> Placement:
    """Where a model goes. asked: a device, AUTO or BALANCED. home: where all goes on a machine without several GPUs.
    sizes: name and bytes of the model's tensors as they are held; asked only where there are several GPUs.

    Raises StudyError for what is neither.
    """
    if asked not in (AUTO, BALANCED):
        try:
            return Placement(torch.device(asked))
        except RuntimeError as error:
            raise StudyError(
                f"device_map is {asked!r}; say {AUTO}, {BALANCED} or a device, such as cpu or cuda:0"
            ) from error
    count = torch.cuda.device_count()
    if count < 2:
        return Placement(home)
    devices = [torch.device("cuda", number) for number in range(count)]
    layers, beside = bytes_by_layer(sizes())
    numbers = device_numbers(layers, beside, count, lambda number: free_memory(devices[number]), asked)
    return Placement(devices[0], tuple(devices[number] for number in numbers))


def known_device(name: str) -> str:
    """The name, where it is one of a device of this machine; raises StudyError for any other."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise StudyError(f"--devices names {name!r}; say devices such as cuda:0 or cpu, with commas") from error
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        there = "is no GPU" if not count else "is cuda:0 alone" if count == 1 else f"are cuda:0 to cuda:{count - 1}"
        raise StudyError(f"--devices names {name}, and here there {there}")
    return name


def skeleton(folder: Path, dtype: torch.dtype, trust_remote_code: bool = False) -> Any:
    """The architecture of the folder's config.json with dense layers, and no memory for any weight."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=trust_remote_code)


def device_map_of(model: Any, placement: Placement) -> dict[str, torch.device]:
    """What `from_pretrained` is told: module name -> device, for all of a model's weights. model: may be a skeleton."""
    if not placement.is_spread:
        return {"": placement.home}
    numbers = {id(layer): number for number, layer in enumerate(model.get_decoder().layers)}
    found: dict[str, torch.device] = {}

    def lay(name: str, module: nn.Module) -> None:
        if id(module) in numbers:
            found[name] = placement.layers[numbers[id(module)]]
        elif any(id(inner) in numbers for inner in module.modules()):
            before = f"{name}." if name else ""
            own = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
            found.update({before + tensor: placement.home for tensor, _ in own})
            for child, inner in module.named_children():
                lay(before + child, inner)
        else:
            found[name] = placement.home

    lay("", model)
    return found


def with_moves(model: Any, placement: Placement) -> Any:
    """The model, its layers hooked so that what they are called with comes to their device, and what leaves the last
    one comes home; accelerate's hooks, where it put some, are gone. Untouched where all lies on one device."""
    if not placement.is_spread:
        return model
    _without_accelerate(model)
    layers = list(model.get_decoder().layers)
    for device in placement.devices[1:]:
        arrivals = Arrivals(device)
        here = [layer for layer, of in zip(layers, placement.layers, strict=True) if of == device]
        for layer in here:
            layer.register_forward_pre_hook(arrivals.take, with_kwargs=True)
        here[-1].register_forward_hook(arrivals.forget)
    home = placement.home
    layers[-1].register_forward_hook(lambda module, given, output: moved(output, lambda one: one.to(home)))
    return model


class Arrivals:
    """What the layers of one device are called with, moved there; what they share, such as a mask, is moved once."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._shared: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def take(
        self, module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """A forward pre-hook: the layer's arguments, on its device."""
        came = moved(given, lambda one: one.to(self._device))
        return came, {name: moved(value, self._once) for name, value in named.items()}

    def forget(self, module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        """A forward hook of the device's last layer: nothing of this pass is held any longer."""
        self._shared.clear()

    def _once(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.device == self._device:
            return tensor
        # The tensor is held beside its copy, so that no other gets its place in memory, and with it its number.
        known = self._shared.get(id(tensor))
        if known is None:
            known = self._shared[id(tensor)] = (tensor, tensor.to(self._device))
        return known[1]


def moved(value: Any, move: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The value with the tensors that it holds moved; what is neither tensor, tuple nor list stays."""
    if isinstance(value, torch.Tensor):
        return move(value)
    if type(value) in (tuple, list):
        return type(value)(moved(one, move) for one in value)
    return value


def _without_accelerate(model: Any) -> None:
    from accelerate.hooks import remove_hook_from_module  # type: ignore[import-untyped]

    remove_hook_from_module(model, recurse=True)
    for module in model.modules():
        # It leaves the class's own forward behind as the module's.
        if getattr(vars(module).get("forward"), "__func__", None) is type(module).forward:
            del module.forward
