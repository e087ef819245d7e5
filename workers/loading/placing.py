"""On which device each decoder layer lies, decided from bytes alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from search_spaces.sizes.tensor_table import layer_of

# What a study's `device_map` may say besides a device: as few GPUs as hold the model, or all that there are.
AUTO, BALANCED = "auto", "balanced"
# Of a device's memory, what weights may take before another device is used as well: keys, activations, logits and
# graphs take the rest.
WEIGHTS_SHARE = 0.8
# Halvings of what the fullest device is filled by.
HALVINGS = 50


def bytes_by_layer(tensors: Iterable[tuple[str, int]]) -> tuple[list[int], int]:
    """The bytes of each decoder layer, and of all else. tensors: name and bytes of each."""
    layers: dict[int, int] = {}
    beside = 0
    for name, size in tensors:
        number = layer_of(name)
        if number is None:
            beside += size
        else:
            layers[number] = layers.get(number, 0) + size
    return [layers.get(number, 0) for number in range(max(layers, default=-1) + 1)], beside


def device_numbers(
    layers: Sequence[int], beside: int, devices: int, room: Callable[[int], int], asked: str
) -> list[int]:
    """The number of each layer's device: layers side by side in the model share one, in the devices' order.

    layers: bytes of each. beside: bytes of all else, which lies on device 0. devices: how many there are. room: bytes
    that a device can take; asked only of devices that may be used. asked: AUTO for the fewest devices on which weights
    take no more than their share, BALANCED for all. What no number of devices holds is spread over all of them.
    """
    rooms: list[int] = []
    for number in range(devices):
        rooms.append(max(room(number), 1))
        if asked == AUTO and _dealt(layers, beside, [WEIGHTS_SHARE * one for one in rooms]) is not None:
            break
    return balanced(layers, beside, rooms)


def balanced(layers: Sequence[int], beside: int, rooms: Sequence[int]) -> list[int]:
    """The number of each layer's device, such that the device that is filled most is filled least, by shares."""
    low, high = 0.0, (beside + sum(layers)) / rooms[0] + 1.0
    found = [0] * len(layers)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        dealt = _dealt(layers, beside, [middle * room for room in rooms])
        if dealt is None:
            low = middle
        else:
            found, high = dealt, middle
    return found


def _dealt(layers: Sequence[int], beside: int, limits: Sequence[float]) -> list[int] | None:
    """Each device in turn filled up to its limit; None where the last one can't take what is left."""
    found: list[int] = []
    device, held = 0, beside
    if held > limits[0]:
        return None
    for size in layers:
        while held + size > limits[device]:
            device, held = device + 1, 0
            if device == len(limits):
                return None
        held += size
        found.append(device)
    return found
