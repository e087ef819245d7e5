"""PTX that turns two neighbouring packed words into bfloat16 weights, two a register; made once, as text.

A packed word's weights are unpacked in registers, and the work a weight decides how far a product with few rows stays
behind the memory: the plain way takes about eight of a Hopper's arithmetic slots a weight, this one about three.
Weights of 4, 3 and 2 bits become 128 + u, exact in bfloat16, by an OR with its bits (the trick of Marlin,
https://arxiv.org/abs/2408.11743 §3.4); those of 8 bits 2^23 + u in float32. Taking the zero point away is exact, and
the product with the scale is rounded once: the values are those that the dense engine loads, bit for bit.
"""

from __future__ import annotations

MAGIC = 0x43004300
ONES = 0x3F803F80
MINUS_ZEROS = 0x80008000
LOW_HALVES, HIGH_HALVES = "0x5410", "0x7632"


def constraints(weights: int, words: int) -> str:
    """weights: outputs, a packed pair each. words: int32 inputs, two neighbours each; then scale and offset pairs."""
    return ",".join(["=r"] * weights + ["r"] * (2 * words + 2))


def halves(bits: int) -> str:
    """Two neighbouring words of 4 or 2 bits: output j has weight j of both. Offset: -(128 + zero point)."""
    per = 32 // bits
    lines = ["prmt.b32 x, a0, a1, " + LOW_HALVES + ";", "prmt.b32 y, a0, a1, " + HIGH_HALVES + ";"]
    for half, name in enumerate("xy"):
        lines += [_weight(name, bits, place, half * per // 2 + place) for place in range(per // 2)]
    return _block(per, "a", lines)


def runs_of_five(bits: int = 3) -> str:
    """Two neighbouring triples of words, 32 weights of 3 bits each, in runs of five weights (15 bits)."""
    lines = []
    for first in range(0, 32, 5):
        word, shift = divmod(first * bits, 32)
        for side in "01":
            low, high = f"{'abc'[word]}{side}", f"{'abc'[min(word + 1, 2)]}{side}"
            lines.append(f"shf.r.wrap.b32 {'xy'[int(side)]}, {low}, {high}, {shift};")
        lines.append(f"prmt.b32 x, x, y, {LOW_HALVES};")
        lines += [_weight("x", bits, place, first + place) for place in range(min(5, 32 - first))]
    return _block(32, "abc", lines)


def whole_bytes() -> str:
    """Two neighbouring words of 8 bits: output j has byte j of both. Offset: -(zero point)."""
    lines = ["shl.b32 x, scale, 16;", "and.b32 y, scale, 0xFFFF0000;"]
    lines += ["mov.b32 scale0, x;", "mov.b32 scale1, y;", "shl.b32 x, offset, 16;", "and.b32 y, offset, 0xFFFF0000;"]
    lines += ["mov.b32 from0, x;", "mov.b32 from1, y;"]
    lines += [f"sub.rn.f32 from{side}, from{side}, 0f4B000000;" for side in "01"]
    for byte in range(4):
        for side in "01":
            lines.append(f"prmt.b32 x, a{side}, 0x4B000000, 0x765{byte};")
            lines.append(f"mov.b32 value{side}, x;")
            lines.append(f"add.rn.f32 value{side}, value{side}, from{side};")
            lines.append(f"mul.rn.f32 value{side}, value{side}, scale{side};")
        lines.append(f"cvt.rn.bf16x2.f32 ${byte}, value1, value0;")
    return _block(4, "a", [".reg .f32 scale0, scale1, from0, from1, value0, value1;", *lines])


def _weight(source: str, bits: int, place: int, output: int) -> str:
    mask = (1 << bits) - 1
    return (
        f"shr.u32 z, {source}, {bits * place}; lop3.b32 z, z, 0x{mask << 16 | mask:08X}, 0x{MAGIC:08X}, 0xEA; "
        f"fma.rn.bf16x2 z, z, ones, offset; fma.rn.bf16x2 ${output}, z, scale, nothing;"
    )


def _block(outputs: int, words: str, lines: list[str]) -> str:
    """Inputs are copied first, so that an output may share a register with one."""
    names = [f"{word}{side}" for word in words for side in "01"] + ["scale", "offset"]
    start = [f".reg .b32 {', '.join(names)}, x, y, z, ones, nothing;"]
    start += [f"mov.b32 {name}, ${outputs + number};" for number, name in enumerate(names)]
    start += [f"mov.b32 ones, 0x{ONES:08X};", f"mov.b32 nothing, 0x{MINUS_ZEROS:08X};"]
    # A declaration has to come before the first instruction that uses it, wherever it lies in the block.
    return "{ " + " ".join(start + lines) + " }"
