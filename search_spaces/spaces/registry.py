"""The search spaces by name: what each varies, as a function of a source of choices and of what the model can take.

A choice that the model can't take is never offered, nothing that trains where the study names no training data, and no
smaller vocabulary where the calibration data lack a language of the study.
"""

from __future__ import annotations

from search_spaces.methods.registry import Step
from search_spaces.parameters import WIDTHS
from search_spaces.spaces import anchors
from search_spaces.spaces.axes import (
    bit_width_axes,
    depth_axes,
    joint_axes,
    mixed_axes,
    sparsity_axes,
    vocabulary_axes,
    width_axes,
)
from search_spaces.spaces.choices import ChoiceSource, Space
from search_spaces.spaces.offers import Offer
from search_spaces.spaces.suggestions import (
    NONE,
    layers,
    quantizer_alone,
    sparsity,
    suggest_mixed,
    suggest_quantization,
    vocabulary,
    width,
)
from search_spaces.spaces.training_suggestions import quantized_and_recovered, student, suggest_healing

INTEGERS = ("rtn", "hqq", "awq", "gptq")


def _bit_width(source: ChoiceSource, offer: Offer) -> tuple[Step, ...]:
    return suggest_quantization(source, offer, (NONE, *INTEGERS, "bitsandbytes", "fp8", "w8a8"), WIDTHS)


def _mixed(source: ChoiceSource, offer: Offer) -> tuple[Step, ...]:
    return (suggest_mixed(source, offer),)


def _sparsity(source: ChoiceSource, offer: Offer) -> tuple[Step, ...]:
    return sparsity(source, offer) + quantizer_alone(source, offer, (NONE, "rtn", "gptq"), (8, 4))


def _depth(source: ChoiceSource, offer: Offer) -> tuple[Step, ...]:
    return layers(source, offer, least=1)


def _vocabulary(source: ChoiceSource, offer: Offer) -> tuple[Step, ...]:
    return vocabulary(source, offer) + suggest_quantization(source, offer, (NONE, "rtn", "gptq"), (8, 4, 3))


def _joint(source: ChoiceSource, offer: Offer) -> tuple[Step, ...]:
    pruned = vocabulary(source, offer) + layers(source, offer) + width(source, offer)
    names = (NONE, *INTEGERS, "mixed", "bitsandbytes")
    return quantized_and_recovered(source, offer, names, WIDTHS, suggest_healing(source, offer, pruned))


def _student(source: ChoiceSource, offer: Offer) -> tuple[Step, ...]:
    return student(source, offer) + suggest_quantization(source, offer, (NONE, "rtn", "gptq"), (8, 4, 3))


SPACES: dict[str, Space] = {
    "bit-width": Space("how many bits a weight is stored in", _bit_width, anchors.bit_width, axes=bit_width_axes),
    "mixed": Space("a width for each group of weights, for a budget of bytes", _mixed, anchors.mixed, axes=mixed_axes),
    "sparsity": Space("how many weights are zero, then a bit-width", _sparsity, anchors.sparsity, axes=sparsity_axes),
    "depth": Space("how many decoder layers stay", _depth, anchors.depth, axes=depth_axes),
    "width": Space("how many heads and MLP channels stay", width, anchors.width, axes=width_axes),
    "vocabulary": Space(
        "how many tokens stay, then a bit-width",
        _vocabulary,
        anchors.vocabulary,
        trims_vocabulary=True,
        needs_vocabulary=True,
        axes=vocabulary_axes,
    ),
    "student": Space("a smaller student, distilled, then a bit-width", _student, anchors.student, needs_training=True),
    "joint": Space(
        "vocabulary, layers, heads and channels, then a bit-width",
        _joint,
        anchors.joint,
        trims_vocabulary=True,
        axes=joint_axes,
    ),
}
