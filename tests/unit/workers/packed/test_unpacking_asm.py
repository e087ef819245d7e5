"""The PTX that unpacks weights, run here instruction by instruction as the PTX manual defines them (no GPU needed).

https://docs.nvidia.com/cuda/parallel-thread-execution, §9.7.
"""

from __future__ import annotations

import re

import pytest
import torch

from tests.support.packed_weights import kept, quantized
from workers.packed import unpacking_asm

WORD = 0xFFFFFFFF
TEXTS = {
    8: unpacking_asm.whole_bytes(),
    4: unpacking_asm.halves(4),
    3: unpacking_asm.runs_of_five(),
    2: unpacking_asm.halves(2),
}


def floats(bits: int) -> torch.Tensor:
    """The two bfloat16 of a register, the low one first."""
    return torch.tensor([bits & 0xFFFF, bits >> 16], dtype=torch.int32).to(torch.int16).view(torch.bfloat16)


def register(pair: torch.Tensor) -> int:
    low, high = (int(half) & 0xFFFF for half in pair.to(torch.bfloat16).view(torch.int16))
    return high << 16 | low


def single(bits: int) -> torch.Tensor:
    return torch.tensor([bits], dtype=torch.int64).to(torch.int32).view(torch.float32)


def of_single(value: torch.Tensor) -> int:
    return int(value.view(torch.int32)) & WORD


def permuted(first: int, second: int, selector: int) -> int:
    pool = first | second << 32
    return sum((pool >> 8 * (selector >> 4 * place & 7) & 0xFF) << 8 * place for place in range(4))


def run(text: str, inputs: list[int], outputs: int) -> list[int]:
    """The outputs' registers after the block, given the inputs'."""
    held = {f"${outputs + number}": value for number, value in enumerate(inputs)}

    def value(name: str) -> int:
        if name.startswith("0f"):
            return int(name[2:], 16)
        return held[name] if name in held else int(name, 0)

    for line in text.strip("{} ").split(";"):
        line = line.strip()
        if not line or line.startswith(".reg"):
            continue
        operation, rest = line.split(" ", 1)
        target, *names = re.split(r",\s*", rest)
        given = [value(name) for name in names]
        match operation:
            case "mov.b32":
                found = given[0]
            case "prmt.b32":
                found = permuted(*given)
            case "shr.u32":
                found = given[0] >> given[1]
            case "shl.b32":
                found = given[0] << given[1]
            case "and.b32":
                found = given[0] & given[1]
            case "shf.r.wrap.b32":
                found = (given[1] << 32 | given[0]) >> (given[2] & 31)
            case "lop3.b32":
                assert given[3] == 0xF0 & 0xCC | 0xAA
                found = given[0] & given[1] | given[2]
            case "fma.rn.bf16x2":
                one, two, three = (floats(bits).double() for bits in given)
                found = register(one * two + three)
            case "add.rn.f32":
                found = of_single(single(given[0]) + single(given[1]))
            case "sub.rn.f32":
                found = of_single(single(given[0]) - single(given[1]))
            case "mul.rn.f32":
                found = of_single(single(given[0]) * single(given[1]))
            case "cvt.rn.bf16x2.f32":
                # The first source goes into the upper half.
                found = register(torch.cat([single(given[1]), single(given[0])]))
            case _:
                raise ValueError(f"{operation} is not known here")
        held[target] = found & WORD
    return [held[f"${number}"] for number in range(outputs)]


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [8, 4, 3, 2])
def test_two_neighbouring_words_become_the_stored_weights_rounded_to_bfloat16(bits: int, symmetric: bool) -> None:
    rows, columns = 6, 128
    weight = quantized(bits, 32, symmetric, rows, columns)
    held = kept(weight)
    dense = weight.dequantized().to(torch.bfloat16)
    per, words = held.unit
    packed = [[word & WORD for word in row] for row in held.packed.tolist()]
    lowest = 1 << bits - 1
    for row in range(rows):
        for unit in range(0, columns // per - 1, 2):
            group = [(unit + side) * per // 32 for side in range(2)]
            zero = [0 if weight.grid.zero_point is None else int(weight.grid.zero_point[row, at]) for at in group]
            offset = torch.tensor([-(one + lowest + (0 if bits == 8 else 128)) for one in zero])
            inputs = [packed[row][(unit + side) * words + word] for word in range(words) for side in range(2)]
            inputs += [register(weight.grid.scale[row, group]), register(offset)]
            for place, found in enumerate(run(TEXTS[bits], inputs, per)):
                columns_of = [(unit + side) * per + place for side in range(2)]
                assert floats(found).tolist() == dense[row, columns_of].tolist()


@pytest.mark.parametrize(("bits", "outputs", "words"), [(8, 4, 1), (4, 8, 1), (3, 32, 3), (2, 16, 1)])
def test_every_register_that_is_named_is_declared(bits: int, outputs: int, words: int) -> None:
    named = {int(number) for number in re.findall(r"\$(\d+)", TEXTS[bits])}
    assert named == set(range(outputs + 2 * words + 2))
    assert unpacking_asm.constraints(outputs, words).count("r") == len(named)
