"""What a trial will take, worked out from headers: GPU memory and seconds.

Seconds are those of a 7B shape on one H200 (docs/results/bench-scale.json), scaled by parameters, layers and tokens;
another device is faster or slower. Training is not in them.
"""

from __future__ import annotations

from collections.abc import Sequence

from search_spaces.errors import CandidateError
from search_spaces.methods.registry import Step
from search_spaces.sizes.pruned import head_shape
from search_spaces.sizes.tensor_table import Checkpoint, is_embedding
from workers.plan.evaluation_plan import SPEED_BATCHES, SPEED_TOKENS
from workers.reading.segments import Segment

# Seconds for 10^9 parameters. bitsandbytes: by its format.
COMPRESS = {
    "rtn": 1.5,
    "hqq": 1.3,
    "awq": 6.6,
    "gptq": 1.7,
    "nf4": 2.3,
    "fp4": 2.3,
    "int8": 4.9,
    "remove_layers": 2.0,
    "wanda": 1.7,
}
OTHERS = 2.0
# Seconds a layer: one measurement a group of weights and width, which a small model does not make much faster.
MIXED = 2.8
LOAD = 0.25
# The pass that takes calibration statistics, once for a parent.
STATISTICS = 4.4
# New tokens a second, times 10^9 parameters.
TOKENS = 50_000.0
# Seconds of a decoding step in one layer, where the GPU has little to do in it; bitsandbytes has layers of its own.
LAYER_STEP = 1.1e-3
LAYER_STEPS = {"int8": 7e-3, "nf4": 2.4e-3, "fp4": 2.4e-3}
# A Ray, a worker and its imports; scoring and what lies between two trials; timing of one point.
START, BETWEEN, TIMING = 45.0, 2.0, 15.0
# Characters of a source for one token, and tokens of the request around it.
CHARACTERS, REQUEST = 3, 64
# UTF-8 bytes of a reference for one token: a Chinese character has three, a Latin word about five.
REFERENCE_BYTES = 3
# Points that a search ends with, as a rule: they are scored on held-out data and timed.
ENDS_WITH = 5
# Bytes for each parameter that is trained: float32 weights, gradients and two moments, and a teacher's bfloat16; then
# logits, and activations of the micro-batches that make a GPU worth asking.
TRAINED, LOGITS, ACTIVATIONS = 18, 6 * 2**30, 12 * 2**30
# Parameters times tokens that a second of training takes on a GPU and on a CPU, and the most tokens. Half a billion
# parameters read 36,000 tokens a second on an H200, one of four trainings at a time, and 5 million 3,400 on two cores.
GPU_TRAINS, CPU_TRAINS, MOST_TOKENS_S = 1.2e13, 1.7e10, 100_000.0


def training_tokens_s(base: Checkpoint, on_gpu: bool) -> float:
    """Tokens a second that a training of all weights is expected to read, beside others on the same device."""
    return min((GPU_TRAINS if on_gpu else CPU_TRAINS) / max(base.parameters, 1), MOST_TOKENS_S)


def running_bytes(base: Checkpoint, steps: Sequence[Step], batch: int, tokens: int) -> int:
    """Bytes of GPU memory that translating takes in the dense engine: weights in bfloat16, the keys and values of a
    batch, and two float32 copies of a step's logits. tokens: of a request and its answer."""
    dense = dense_checkpoint(base, steps)
    return 2 * dense.parameters + _cache_bytes(dense, batch, tokens) + 2 * 4 * batch * _vocabulary(dense)


def training_bytes(base: Checkpoint) -> int:
    """Bytes of GPU memory that training all weights takes, beside the model whose distribution is learnt."""
    return TRAINED * base.parameters + LOGITS + ACTIVATIONS


def _cache_bytes(dense: Checkpoint, batch: int, tokens: int) -> int:
    """Keys and values of a batch in bfloat16; 0 where the config does not say their shape."""
    try:
        _, groups, width = head_shape(dense)
    except CandidateError:
        return 0
    return 2 * 2 * dense.layers * groups * width * batch * tokens


def _vocabulary(dense: Checkpoint) -> int:
    return max((tensor.shape[0] for name, tensor in dense.tensors.items() if is_embedding(name)), default=0)


def bytes_beside_weights(base: Checkpoint, steps: Sequence[Step], tokens: int) -> int:
    """The least bytes of GPU memory that a model takes as it ships beside its weights, timed at the largest batch: the
    batch's keys and values, and a step's logits, in bfloat16. tokens: of the shortest request, without its answer."""
    dense = dense_checkpoint(base, steps)
    batch = max(SPEED_BATCHES)
    return _cache_bytes(dense, batch, tokens + SPEED_TOKENS) + 2 * batch * _vocabulary(dense)


def dense_checkpoint(base: Checkpoint, steps: Sequence[Step]) -> Checkpoint:
    """The checkpoint that runs: after the steps that remove something, which come before those that store in fewer
    bits."""
    checkpoint = base
    for step in steps:
        if step.kind != "pruner":
            break
        checkpoint = step.after(checkpoint)
    return checkpoint


def expected_tokens(segments: Sequence[Segment], most: int) -> list[int]:
    """New tokens that each translation takes, by its reference; at most so many."""
    return [min(most, len(segment.references[0].encode()) // REFERENCE_BYTES + 1) for segment in segments]


def trial_seconds(
    base: Checkpoint, steps: Sequence[Step], tokens: Sequence[int], batch: int, statistics: bool
) -> float:
    """Seconds of one trial on a GPU. tokens: new ones of each segment, none for a probe, which translates nothing.
    statistics: whether those of the parent have still to be taken."""
    billions = dense_checkpoint(base, steps).parameters / 1e9
    whole = base.parameters / 1e9
    names = [getattr(step, "format", step.name) for step in steps]
    made = sum(MIXED * base.layers if name == "mixed" else COMPRESS.get(name, OTHERS) * whole for name in names)
    if statistics and any(step.is_calibrated for step in steps):
        made += STATISTICS * whole
    return made + LOAD * billions + translating_seconds(base, steps, tokens, batch) + BETWEEN


def translating_seconds(base: Checkpoint, steps: Sequence[Step], tokens: Sequence[int], batch: int) -> float:
    """Seconds of translating alone, in a batch that is refilled. tokens: new ones of each segment."""
    names = [getattr(step, "format", step.name) for step in steps]
    # A batch ends no sooner than its longest translation.
    decoding_steps = max(-(-sum(tokens) // batch), max(tokens, default=0))
    a_step = max([LAYER_STEP, *(LAYER_STEPS[name] for name in names if name in LAYER_STEPS)])
    billions = dense_checkpoint(base, steps).parameters / 1e9
    return max(sum(tokens) * billions / TOKENS, decoding_steps * base.layers * a_step)
