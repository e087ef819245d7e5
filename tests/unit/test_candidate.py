"""Candidates: a digest that stays the same for good, orders that are refused, and steps as people write them."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import pytest

from search_spaces.candidate import BaseModel, Candidate, candidate_from_json, digest_of
from search_spaces.errors import CandidateError
from search_spaces.methods import BitsAndBytes, RemoveLayers, RoundToNearest, Step, step_from_json, step_to_json
from workers.model_files import resolve

HUB = BaseModel("example/model", "0123abc")
LOCAL = BaseModel("models/tiny", "sha256:00ff")
RTN4 = RoundToNearest(bits=4, group_size=64)
NF4 = BitsAndBytes(format="nf4")

# Each is the head of `sha256sum` over the canonical JSON written out by hand, such as
# {"base":"sha256:00ff","steps":[{"bits":4,"class":"RoundToNearest","group_size":64,"method":"rtn"}]}
FROZEN: list[tuple[str, BaseModel, tuple[Step, ...]]] = [
    ("73f95da24e7119cb", HUB, ()),
    ("07ada6c8b12ed664", BaseModel("example/model", "main"), ()),
    ("709722c6a4970883", LOCAL, ()),
    ("0cbdf7f4a4c755cf", LOCAL, (RTN4,)),
    ("a1468d400450ed5c", LOCAL, (RoundToNearest(bits=8, group_size=-1),)),
    ("651115c5fd1313ee", LOCAL, (RoundToNearest(bits=3, group_size=128),)),
    ("b594a49eac9c2cfa", LOCAL, (NF4,)),
    ("38bd18df25c21024", LOCAL, (BitsAndBytes(format="int8"),)),
    ("0966e60f1f0be372", LOCAL, (RemoveLayers(count=2),)),
    (
        "bdef3529473c8aba",
        BaseModel("exämple/model", "v1"),
        (RemoveLayers(count=1), RoundToNearest(bits=4, group_size=32)),
    ),
]
STEPS: list[tuple[Step, ...]] = [(), (RTN4,), (NF4,), (RemoveLayers(count=3),), (RemoveLayers(count=1), RTN4)]


@pytest.mark.parametrize(("digest", "base", "steps"), FROZEN)
def test_a_digest_never_changes(digest: str, base: BaseModel, steps: tuple[Step, ...]) -> None:
    assert Candidate(base, steps).digest == digest


def test_digests_tell_every_candidate_apart() -> None:
    assert len({digest for digest, _, _ in FROZEN}) == len(FROZEN)


def test_the_digest_holds_the_class_name() -> None:
    class Other(RoundToNearest):
        """The same method name and parameters, carried out by another class."""

    assert Candidate(LOCAL, (Other(bits=4),)).digest != Candidate(LOCAL, (RTN4,)).digest


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


@pytest.mark.parametrize("second", [RoundToNearest(bits=8), NF4])
def test_two_quantizers_are_refused_by_name(second: Step) -> None:
    with pytest.raises(CandidateError, match=r"^rtn\(bits=4, group_size=64\) and then .*can be quantized once"):
        Candidate(LOCAL, (RTN4, second))


def test_pruning_after_quantization_is_refused_with_the_way_out() -> None:
    with pytest.raises(CandidateError, match=r"remove_layers\(count=1\) after bitsandbytes.*Put the pruning first"):
        Candidate(LOCAL, (NF4, RemoveLayers(count=1)))


def test_pruning_before_quantization_is_allowed() -> None:
    assert Candidate(LOCAL, (RemoveLayers(count=1), RemoveLayers(count=1), RTN4)).kind == "remove_layers + rtn"


def test_a_prefix_is_the_parent_of_the_later_steps() -> None:
    candidate = Candidate(LOCAL, (RemoveLayers(count=1), RTN4))
    assert candidate.prefix(1) == Candidate(LOCAL, (RemoveLayers(count=1),))
    assert candidate.prefix(0).digest == Candidate(LOCAL).digest


def test_describe_is_what_people_read() -> None:
    candidate = Candidate(LOCAL, (RemoveLayers(count=2), RoundToNearest(bits=4, group_size=-1)))
    assert candidate.describe() == "remove_layers(count=2) + rtn(bits=4, group_size=-1)"
    assert Candidate(LOCAL, (BitsAndBytes(format="int8"),)).describe() == "bitsandbytes(format=int8)"
    assert Candidate(LOCAL).describe() == ""
    assert Candidate(LOCAL).kind == "baseline"


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("rtn", r"a step is an object with a key `method`.*got 'rtn'"),
        ({"bits": 4}, "a step is an object with a key `method`"),
        ({"method": "gptq"}, "no method is called 'gptq'; there are rtn, bitsandbytes, remove_layers"),
        ({"method": ["rtn"]}, r"no method is called \['rtn'\]"),
        ({"method": "rtn", "bits": 4, "group": 64}, "rtn has no parameter 'group'; it has bits, group_size"),
        ({"method": "rtn", "bits": 4, 1: 2, "x": 3}, "rtn has no parameter"),
        ({"method": "rtn"}, "rtn with {}: .*bits"),
        ({"method": "rtn", "bits": 5}, "rtn.bits is 5; it must be one of 8, 4, 3"),
        ({"method": "rtn", "bits": "4"}, "rtn.bits is '4'"),
        ({"method": "rtn", "bits": 4.0}, "rtn.bits is 4.0"),
        ({"method": "rtn", "bits": [4]}, r"rtn.bits is \[4\]"),
        ({"method": "rtn", "bits": 4, "group_size": 48}, "rtn.group_size is 48; it must be one of 32, 64, 128, -1"),
        ({"method": "bitsandbytes", "format": "fp4"}, "bitsandbytes.format is 'fp4'; it must be one of int8, nf4"),
        ({"method": "remove_layers", "count": 0}, "remove_layers.count is 0; .* Leave the step out"),
        ({"method": "remove_layers", "count": True}, "remove_layers.count is True"),
        ({"method": "remove_layers", "count": 1.5}, "remove_layers.count is 1.5"),
    ],
)
def test_a_step_that_cannot_be_meant_is_refused_with_the_reason(record: object, reason: str) -> None:
    with pytest.raises(CandidateError, match=reason):
        step_from_json(record)


def test_a_step_left_at_its_default_is_the_step_spelt_out() -> None:
    short, long = {"method": "rtn", "bits": 4}, {"method": "rtn", "bits": 4, "group_size": 64}
    assert step_from_json(short) == step_from_json(long) == RTN4
    assert step_to_json(RTN4) == long
