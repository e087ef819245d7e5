"""On which device each layer lies, by bytes and free memory alone."""

from __future__ import annotations

import random

import pytest

from workers.loading.placing import AUTO, BALANCED, WEIGHTS_SHARE, balanced, bytes_by_layer, device_numbers


def fill(layers: list[int], beside: int, rooms: list[int], numbers: list[int]) -> float:
    """The share of its room that the fullest device is filled by."""
    held = [beside, *[0] * (len(rooms) - 1)]
    for size, number in zip(layers, numbers, strict=True):
        held[number] += size
    return max(one / room for one, room in zip(held, rooms, strict=True))


def best_by_definition(layers: list[int], beside: int, rooms: list[int]) -> float:
    """The least that any cut into runs, some of them empty, fills the fullest device by."""

    def cuts(left: int, devices: int) -> list[list[int]]:
        if devices == 1:
            return [[left]]
        return [[first, *rest] for first in range(left + 1) for rest in cuts(left - first, devices - 1)]

    return min(
        fill(layers, beside, rooms, [number for number, count in enumerate(cut) for _ in range(count)])
        for cut in cuts(len(layers), len(rooms))
    )


def test_alike_layers_are_halved_and_the_vocabulary_counts_where_it_lies() -> None:
    assert balanced([10] * 8, 0, [100, 100]) == [0] * 4 + [1] * 4
    assert balanced([10] * 8, 20, [100, 100]) == [0] * 3 + [1] * 5
    assert balanced([10] * 2, 200, [1000, 1000]) == [1, 1]


def test_a_device_of_more_room_takes_more() -> None:
    assert balanced([10] * 9, 0, [100, 200]) == [0] * 3 + [1] * 6


@pytest.mark.parametrize("seed", range(20))
def test_no_cut_fills_the_fullest_device_less(seed: int) -> None:
    rng = random.Random(seed)
    layers = [rng.randrange(1, 100) for _ in range(rng.randrange(1, 9))]
    rooms = [rng.randrange(50, 500) for _ in range(rng.randrange(1, 4))]
    beside = rng.randrange(200)
    numbers = balanced(layers, beside, rooms)
    assert numbers == sorted(numbers)
    assert fill(layers, beside, rooms, numbers) == pytest.approx(best_by_definition(layers, beside, rooms), rel=1e-9)


def test_as_few_devices_as_hold_the_model_and_no_other_is_looked_at() -> None:
    asked: list[int] = []

    def room(number: int) -> int:
        asked.append(number)
        return 100

    most = int(100 * WEIGHTS_SHARE)
    assert device_numbers([most // 8] * 8, 0, 4, room, AUTO) == [0] * 8
    assert asked == [0]
    assert set(device_numbers([most // 8] * 8, 1, 4, room, AUTO)) == {0, 1}
    assert asked == [0, 0, 1]
    assert device_numbers([most // 8] * 8, 0, 4, room, BALANCED) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_what_nothing_holds_is_spread_over_all() -> None:
    assert device_numbers([1000] * 4, 0, 2, lambda number: 10, AUTO) == [0, 0, 1, 1]
    assert device_numbers([1000] * 4, 0, 2, lambda number: 0, AUTO) == [0, 0, 1, 1]


def test_bytes_are_added_up_by_layer() -> None:
    tensors = [("model.embed_tokens.weight", 7), ("model.layers.1.a.weight", 2), ("model.layers.0.a.weight", 3)]
    assert bytes_by_layer([*tensors, ("model.layers.1.b.weight_packed", 5), ("lm_head.weight", 1)]) == ([3, 7], 8)
