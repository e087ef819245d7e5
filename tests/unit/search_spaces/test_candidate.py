"""Candidates: a digest that stays the same for good, orders that are refused, and steps as people write them."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import pytest

from search_spaces.candidate import (
    BaseModel,
    Candidate,
    candidate_from_json,
    digest_of,
    refuse_idle_training,
    refuse_senseless_order,
)
from search_spaces.errors import CandidateError
from search_spaces.methods.pruners import (
    Magnitude,
    RemoveChannels,
    RemoveHeads,
    RemoveLayers,
    SparseGPT,
    TrimVocabulary,
    Wanda,
)
from search_spaces.methods.quantizers import (
    AWQ,
    FP8,
    GPTQ,
    HQQ,
    RTN,
    W8A8,
    BitsAndBytes,
    MixedWidths,
    QuantizeEmbeddings,
)
from search_spaces.methods.registry import METHODS, Step, step_from_json, step_to_json
from search_spaces.methods.trainers import Distill, Finetune, Recover
from workers.checkpoints.locate import resolve

HUB = BaseModel("example/model", "0123abc")
LOCAL = BaseModel("models/tiny", "sha256:00ff")
RTN4 = RTN(bits=4, group_size=64)
NF4 = BitsAndBytes(format="nf4")

# Each is the head of `sha256sum` over the canonical JSON written out by hand, such as
# {"base":"sha256:00ff","steps":[{"bits":4,"class":"RoundToNearest","group_size":64,"method":"rtn","symmetric":true}]}
FROZEN: list[tuple[str, BaseModel, tuple[Step, ...]]] = [
    ("73f95da24e7119cb", HUB, ()),
    ("07ada6c8b12ed664", BaseModel("example/model", "main"), ()),
    ("709722c6a4970883", LOCAL, ()),
    ("4b6aaab7707047d4", LOCAL, (RTN(bits=4, group_size=64),)),
    ("5398ae3d8966a135", LOCAL, (RTN(bits=8, group_size=-1),)),
    ("f878bc5dd1854bab", LOCAL, (RTN(bits=3, group_size=128, symmetric=False),)),
    ("3ab9340d6aefdd25", LOCAL, (HQQ(bits=4),)),
    ("0ebd73c075b3a2af", LOCAL, (AWQ(bits=4),)),
    ("8affabc83d63225d", LOCAL, (GPTQ(bits=4),)),
    ("e34eea30e8d87c17", LOCAL, (GPTQ(bits=2, group_size=32, symmetric=False, damping=0.1, activation_order=False),)),
    ("b2439bcf7a1fbfc4", LOCAL, (MixedWidths(bits=3.5),)),
    ("054199739e44409d", LOCAL, (MixedWidths(bits=3.0, score="fisher", embeddings=True),)),
    ("fe42fbf682cc2a10", LOCAL, (BitsAndBytes(format="nf4"),)),
    ("148e10240cdaab3b", LOCAL, (BitsAndBytes(format="fp4", double_quantization=True),)),
    ("72ad5ca846bc7da5", LOCAL, (BitsAndBytes(format="int8"),)),
    ("941e97158e4f3f1c", LOCAL, (FP8(),)),
    ("e9b61df7639f1365", LOCAL, (FP8(activations=True),)),
    ("2272ab74e88ed99d", LOCAL, (W8A8(),)),
    ("f98440e3c84f03c5", LOCAL, (QuantizeEmbeddings(bits=8),)),
    ("359d984acbcbd08d", LOCAL, (RemoveLayers(count=2),)),
    ("f56bfb1b1e83ab1c", LOCAL, (RemoveLayers(count=2, by="greedy"),)),
    ("d8eeb787d4b1c345", LOCAL, (RemoveHeads(groups=1),)),
    ("de3a12050761e5e8", LOCAL, (RemoveChannels(share=0.25),)),
    ("cdb5d936a03de170", LOCAL, (TrimVocabulary(tokens=4032),)),
    ("e6e7e1538c971e04", LOCAL, (Magnitude(sparsity=0.3),)),
    ("b577438c11ad33e7", LOCAL, (Wanda(),)),
    ("dc75dd3b55ab5edf", LOCAL, (SparseGPT(pattern="2:4"),)),
    ("6897dd7b07e247b4", LOCAL, (Recover(),)),
    ("a9329a799aa6192c", LOCAL, (Finetune(tokens=0, loss="references"),)),
    ("9cf31f45beb2fa82", LOCAL, (Finetune(beams=4),)),
    ("730d30344f4e01f7", LOCAL, (Distill(layers=2, width=0.5),)),
    (
        "fd8da4136493add7",
        BaseModel("exämple/model", "v1"),
        (RemoveLayers(count=1, by="pairwise"), RTN(bits=4, group_size=32)),
    ),
]
STEPS: list[tuple[Step, ...]] = [*(steps for _, _, steps in FROZEN), (RemoveLayers(count=1), RTN4)]
LAYERS = RemoveLayers(count=1)
TRIM = TrimVocabulary(tokens=4032)
EMBEDDINGS = QuantizeEmbeddings(bits=8)
GPTQ4 = GPTQ(bits=4)
MIXED = MixedWidths(bits=3.0)
MIXED_ALL = MixedWidths(bits=3.0, embeddings=True)
PRUNERS: list[Step] = [LAYERS, RemoveHeads(groups=1), RemoveChannels(share=0.25), TRIM]
SPARSIFIERS: list[Step] = [Magnitude(), Wanda(), SparseGPT()]
KEEP_ZEROS: list[Step] = [RTN4, HQQ(bits=4), GPTQ4]
LOSE_ZEROS: list[Step] = [AWQ(bits=4), MIXED, NF4, FP8(), W8A8()]
QUANTIZERS: list[Step] = [*KEEP_ZEROS, *LOSE_ZEROS]
LORA = Recover()
DORA = Recover(adapter="dora", loss="sequence")
MERGED = Recover(merged=True)
SCALES = Recover(adapter="scales")
FINETUNE = Finetune()
DISTILL = Distill(layers=2)
APART: list[Step] = [LORA, DORA]
WHOLE: list[Step] = [MERGED, FINETUNE, DISTILL]
TRAINERS: list[Step] = [*APART, *WHOLE, SCALES]
HAVE_GRIDS: list[Step] = [*KEEP_ZEROS, AWQ(bits=4), MIXED]
HAVE_NONE: list[Step] = [FP8(), W8A8()]


@pytest.mark.parametrize(("digest", "base", "steps"), FROZEN)
def test_a_digest_never_changes(digest: str, base: BaseModel, steps: tuple[Step, ...]) -> None:
    assert Candidate(base, steps).digest == digest


def test_digests_tell_every_candidate_apart() -> None:
    assert len({digest for digest, _, _ in FROZEN}) == len(FROZEN)


def test_a_digest_of_every_method_is_frozen() -> None:
    assert {step.name for _, _, steps in FROZEN for step in steps} == set(METHODS)


def test_every_method_has_a_digest_name_of_its_own() -> None:
    assert len({method.digest_name for method in METHODS.values()}) == len(METHODS)


def test_a_digest_outlives_its_class_name() -> None:
    class Renamed(RTN):
        """The same method under another class name."""

    assert Candidate(LOCAL, (Renamed(bits=4),)).digest == Candidate(LOCAL, (RTN4,)).digest


def test_the_digest_holds_the_order_of_steps() -> None:
    one, two = RemoveLayers(count=1), RemoveLayers(count=2)
    assert Candidate(LOCAL, (one, two)).digest != Candidate(LOCAL, (two, one)).digest


def test_a_hub_models_digest_holds_its_name_and_revision() -> None:
    names = [BaseModel("a/m", "1"), BaseModel("b/m", "1"), BaseModel("a/m", "2")]
    assert len({Candidate(base).digest for base in names}) == 3


def test_a_moved_local_model_keeps_its_digest_and_a_changed_one_does_not(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}}).encode()
    first = tmp_path / "first"
    first.mkdir()
    (first / "config.json").write_text("{}")
    (first / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\1\2")
    shutil.copytree(first, tmp_path / "elsewhere" / "second")
    (tmp_path / "elsewhere" / "second" / "README.md").write_text("not needed to run the model")

    before, _ = resolve(str(first))
    after, _ = resolve(str(tmp_path / "elsewhere" / "second"))
    (first / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\1\3")
    changed, _ = resolve(str(first))

    assert before.name != after.name
    assert Candidate(before, (RTN4,)).digest == Candidate(after, (RTN4,)).digest
    assert Candidate(changed, (RTN4,)).digest != Candidate(before, (RTN4,)).digest


def test_a_digest_refuses_what_json_cannot_name() -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        digest_of({"value": float("nan")})
    with pytest.raises(TypeError, match="not JSON serializable"):
        digest_of({"value": object()})


@pytest.mark.parametrize("steps", STEPS)
def test_a_candidate_survives_json(steps: tuple[Step, ...]) -> None:
    candidate = Candidate(LOCAL, steps)
    back = candidate_from_json(json.loads(json.dumps(candidate.to_json())))
    assert back == candidate
    assert back.digest == candidate.digest


ORDERS: list[tuple[list[Step], list[Step], str]] = [
    (QUANTIZERS, QUANTIZERS, "{0} and then {1}: a weight can be quantized once. Drop one."),
    ([EMBEDDINGS], [QuantizeEmbeddings(bits=4)], "{0} and then {1}: a weight can be quantized once. Drop one."),
    (SPARSIFIERS, SPARSIFIERS, "{0} and then {1}: a weight can be made sparse once. Drop one."),
    ([TRIM], [TrimVocabulary(tokens=64)], "{0} and then {1}: the second alone does the same. Drop one."),
    ([MIXED_ALL], [EMBEDDINGS], "{0} and then {1}: the first gives the embeddings their width already. Drop one."),
    (
        [EMBEDDINGS],
        [*PRUNERS, *SPARSIFIERS, *QUANTIZERS, MIXED_ALL],
        "{1} after {0}: the embeddings are quantized last, so that one candidate has one spelling. Put them last.",
    ),
    (QUANTIZERS, PRUNERS, "{1} after {0}: packed weights can't be pruned. Put the pruning first."),
    (QUANTIZERS, SPARSIFIERS, "{1} after {0}: a quantized weight can't be made sparse. Put the sparsity first."),
    (
        SPARSIFIERS,
        PRUNERS,
        "{1} after {0}: the zeros were chosen for the model before the pruning. Put the pruning first.",
    ),
    (SPARSIFIERS, LOSE_ZEROS, "{1} after {0}: it would not keep the zeros. Use one of rtn, hqq, gptq."),
    (
        APART,
        [*PRUNERS, *SPARSIFIERS, *QUANTIZERS, MIXED_ALL, EMBEDDINGS, *TRAINERS],
        "{1} after {0}: an adapter kept apart comes last. Merge it first (merged: true); packed, train the scales.",
    ),
    (WHOLE, TRAINERS, "{0} and then {1}: two trainings in a row are one. Give one of them the tokens of both."),
    (
        [EMBEDDINGS],
        TRAINERS,
        "{1} after {0}: the embeddings are quantized last, so that one candidate has one spelling. Put them last.",
    ),
    (
        [MIXED_ALL],
        TRAINERS,
        "{1} after {0}: the embeddings are quantized last, so that what is trained reads them whole. "
        "Use embeddings: false there, and the method embeddings after the training.",
    ),
    (
        [TRIM],
        [Finetune(loss="skew_kl", teacher="cached"), Recover(teacher="cached", reference_share=0.5)],
        "{1} after {0}: a cached teacher is read token by token, and the trimmed vocabulary spells otherwise. "
        "Use teacher: live and hidden: 0, or trim after the training.",
    ),
    (
        SPARSIFIERS,
        [MERGED, DISTILL, SCALES],
        "{1} after {0}: it would not keep the zeros. Use finetune, or recover with adapter: lora or dora kept apart, "
        "or put the training first.",
    ),
    (
        QUANTIZERS,
        [DISTILL],
        "{1} after {0}: a student can't be cut out of packed weights. Put the distillation first.",
    ),
    (
        QUANTIZERS,
        [MERGED],
        "{1} after {0}: a packed weight can't take an adapter in. Keep it apart (merged: false), or train the scales.",
    ),
    (
        [NF4],
        [FINETUNE, SCALES],
        "{1} after {0}: its blocks have no grid to train. Keep a lora or dora adapter apart, "
        "or put the training first.",
    ),
    (
        HAVE_NONE,
        [*APART, FINETUNE, SCALES],
        "{1} after {0}: its weights can't be trained. "
        "Put the training first, or use one of rtn, hqq, awq, gptq, mixed.",
    ),
    (
        [*PRUNERS[:3], TRIM],
        [SCALES],
        "{1}: no weight has scales yet. Put one of rtn, hqq, awq, gptq, mixed before it, or use adapter: lora.",
    ),
]


@pytest.mark.parametrize(("earlier", "later", "reason"), ORDERS)
def test_an_order_that_makes_no_sense_is_refused_with_the_way_out(
    earlier: list[Step], later: list[Step], reason: str
) -> None:
    for first in earlier:
        for second in later:
            for steps in ((first, second), (LAYERS, first, second)):
                with pytest.raises(CandidateError) as caught:
                    refuse_senseless_order(steps)
                assert str(caught.value) == reason.format(first.describe(), second.describe())


def test_every_order_is_either_refused_above_or_allowed() -> None:
    steps = [*PRUNERS, *SPARSIFIERS, *QUANTIZERS, MIXED_ALL, EMBEDDINGS, *TRAINERS]
    refused = {(first, second) for earlier, later, _ in ORDERS for first in earlier for second in later}
    refused |= {(first, second) for first in QUANTIZERS for second in [MIXED_ALL]}
    refused |= {(MIXED_ALL, second) for second in [*QUANTIZERS, MIXED_ALL, *PRUNERS, *SPARSIFIERS]}
    refused |= {(SCALES, second) for second in steps}
    refused |= {(first, MIXED_ALL) for first in SPARSIFIERS} | {(step, step) for step in (TRIM, EMBEDDINGS)}
    for first in steps:
        for second in steps:
            if (first, second) not in refused:
                assert Candidate(LOCAL, (first, second)).prefix(1) == Candidate(LOCAL, (first,))


@pytest.mark.parametrize(
    "steps",
    [
        (TRIM, LAYERS, RemoveHeads(groups=1), RemoveChannels(share=0.25), GPTQ4, EMBEDDINGS),
        (RemoveChannels(share=0.25), LAYERS, TRIM, MIXED_ALL),
        (LAYERS, SparseGPT(), GPTQ4, EMBEDDINGS),
        (LAYERS, LAYERS, NF4, EMBEDDINGS),
        (Wanda(), EMBEDDINGS),
        (EMBEDDINGS,),
    ],
    ids=str,
)
def test_pruning_then_sparsity_then_a_quantizer_then_embeddings_is_allowed(steps: tuple[Step, ...]) -> None:
    assert Candidate(LOCAL, steps).steps == steps


@pytest.mark.parametrize(
    "steps",
    [
        (LAYERS, MERGED, GPTQ4, SCALES, EMBEDDINGS),
        (LAYERS, FINETUNE, GPTQ4, LORA),
        (DISTILL, AWQ(bits=4), FINETUNE, EMBEDDINGS),
        (LAYERS, DISTILL, MIXED, DORA),
        (FINETUNE, LAYERS, MERGED, NF4, LORA),
        (TRIM, Finetune(loss="sequence"), GPTQ4, Recover(adapter="scales", loss="references")),
        (DISTILL, TRIM, GPTQ4),
        (FINETUNE, SparseGPT(), FINETUNE),
        (Wanda(), RTN4, FINETUNE),
        (Wanda(), LORA),
        (HQQ(bits=2), SCALES, EMBEDDINGS),
    ],
    ids=str,
)
def test_training_before_between_and_after_compression_is_allowed(steps: tuple[Step, ...]) -> None:
    assert Candidate(LOCAL, steps).steps == steps


def test_a_trimmed_vocabulary_forbids_matched_hidden_states_however_far_before_it_lies() -> None:
    with pytest.raises(CandidateError, match="hidden states are matched token by token"):
        Candidate(LOCAL, (TRIM, LAYERS, GPTQ4, Finetune(hidden=0.5)))
    assert Candidate(LOCAL, (TRIM, LAYERS, GPTQ4, SCALES)).steps[-1] == SCALES


IDLE: list[Step] = [LORA, MERGED, FINETUNE, Finetune(loss="skew_kl", teacher="cached"), Finetune(hidden=0.5)]


@pytest.mark.parametrize("first", IDLE, ids=str)
def test_a_first_training_towards_the_model_itself_is_refused_with_the_way_out_and_still_read(first: Step) -> None:
    for steps in ((first,), (first, RTN4)):
        with pytest.raises(CandidateError) as caught:
            refuse_idle_training(steps)
        assert str(caught.value) == (
            f"{first.describe()}: the model is its own teacher as long as nothing has changed it, so there is "
            "nothing to learn. Use loss: references or sequence, or a reference_share above 0, or compress first."
        )
    stored = {"model": LOCAL.name, "revision": LOCAL.revision, "steps": [step_to_json(first)]}
    assert candidate_from_json(stored).prefix(1).steps == (first,)


@pytest.mark.parametrize(
    "steps",
    [
        (),
        (RTN4,),
        *((before, first) for before in (LAYERS, GPTQ4) for first in IDLE),
        (Finetune(loss="references"), RTN4, FINETUNE),
        (DORA,),
        (Finetune(loss="reverse_kl", reference_share=0.1),),
        (DISTILL, GPTQ4, FINETUNE),
    ],
    ids=str,
)
def test_a_training_that_has_something_to_learn_is_allowed(steps: tuple[Step, ...]) -> None:
    refuse_idle_training(steps)


def test_pruning_before_quantization_is_allowed() -> None:
    assert Candidate(LOCAL, (RemoveLayers(count=1), RemoveLayers(count=1), RTN4)).kind == "remove_layers + rtn"


def test_a_prefix_is_the_parent_of_the_later_steps() -> None:
    candidate = Candidate(LOCAL, (RemoveLayers(count=1), RTN4))
    assert candidate.prefix(1) == Candidate(LOCAL, (RemoveLayers(count=1),))
    assert candidate.prefix(0).digest == Candidate(LOCAL).digest


def test_describe_is_what_people_read() -> None:
    candidate = Candidate(LOCAL, (RemoveLayers(count=2), RTN(bits=4, group_size=-1)))
    assert candidate.describe() == (
        "remove_layers(count=2, by=similarity) + rtn(bits=4, group_size=-1, symmetric=True)"
    )
    assert Candidate(LOCAL, (BitsAndBytes(format="int8"),)).describe() == (
        "bitsandbytes(format=int8, double_quantization=False)"
    )
    assert Candidate(LOCAL, (Recover(tokens=0, rank=64),)).describe() == "recover(tokens=0, loss=forward_kl, rank=64)"
    assert Candidate(LOCAL).describe() == ""
    assert Candidate(LOCAL).kind == "baseline"


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("rtn", r"a step is an object with a key `method`.*got 'rtn'"),
        ({"bits": 4}, "a step is an object with a key `method`"),
        ({"method": "quip"}, "no method is called 'quip'; there are rtn, hqq, awq, gptq, .*, finetune, distill$"),
        ({"method": ["rtn"]}, r"no method is called \['rtn'\]"),
        ({"method": "rtn", "bits": 4, "group": 64}, "rtn has no parameter 'group'; it has bits, group_size, symmetric"),
        ({"method": "rtn", "bits": 4, 1: 2, "x": 3}, "rtn has no parameter"),
        ({"method": "rtn"}, "rtn with {}: .*bits"),
        ({"method": "rtn", "bits": 5}, "rtn.bits is 5; it must be one of 8, 4, 3, 2"),
        ({"method": "rtn", "bits": "4"}, "rtn.bits is '4'"),
        ({"method": "rtn", "bits": 4.0}, "rtn.bits is 4.0"),
        ({"method": "rtn", "bits": [4]}, r"rtn.bits is \[4\]"),
        ({"method": "rtn", "bits": 4, "group_size": 48}, "rtn.group_size is 48; it must be one of 32, 64, 128, -1"),
        ({"method": "rtn", "bits": 4, "symmetric": 1}, "rtn.symmetric is 1; it must be one of True, False"),
        ({"method": "bitsandbytes", "format": "fp8"}, "bitsandbytes.format is 'fp8'; it must be one of int8, nf4, fp4"),
        ({"method": "bitsandbytes", "format": "int8", "double_quantization": True}, "int8 has one scale a row"),
        ({"method": "mixed", "bits": 3}, "mixed.bits is 3; it must be a number with a point, from 2.0 to 8.0"),
        ({"method": "mixed", "bits": float("nan")}, "mixed.bits is nan"),
        ({"method": "mixed", "bits": 3.0, "score": "hessian"}, "mixed.score is 'hessian'; .* kl, fisher, error"),
        ({"method": "gptq", "bits": 4, "damping": 0.0}, "gptq.damping is 0.0"),
        ({"method": "embeddings", "bits": 16}, "embeddings.bits is 16; it must be one of 8, 4"),
        ({"method": "magnitude", "sparsity": 0.6, "pattern": "2:4"}, "magnitude.sparsity is 0.6; .* 2:4 means 0.5"),
        ({"method": "remove_channels", "share": 1.0}, "remove_channels.share is 1.0"),
        ({"method": "remove_heads", "groups": 0}, "remove_heads.groups is 0; .* Leave the step out"),
        ({"method": "trim_vocabulary", "tokens": 0}, "trim_vocabulary.tokens is 0; .* Leave the step out"),
        ({"method": "remove_layers", "count": 1, "by": "magic"}, "remove_layers.by is 'magic'"),
        ({"method": "remove_layers", "count": 0}, "remove_layers.count is 0; .* Leave the step out"),
        ({"method": "remove_layers", "count": True}, "remove_layers.count is True"),
        ({"method": "remove_layers", "count": 1.5}, "remove_layers.count is 1.5"),
    ],
)
def test_a_step_that_cannot_be_meant_is_refused_with_the_reason(record: object, reason: str) -> None:
    with pytest.raises(CandidateError, match=reason):
        step_from_json(record)


def test_a_step_left_at_its_default_is_the_step_spelt_out() -> None:
    short, long = {"method": "rtn", "bits": 4}, {"method": "rtn", "bits": 4, "group_size": 64, "symmetric": True}
    assert step_from_json(short) == step_from_json(long) == RTN4
    assert step_to_json(RTN4) == long
