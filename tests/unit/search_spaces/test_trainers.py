"""Steps that train: what each parameter may be, and what no two of them may say at once."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from search_spaces.errors import CandidateError
from search_spaces.methods.registry import METHODS, step_from_json, step_to_json
from search_spaces.methods.trainers import LOSSES, Distill, Finetune, Recover

COMMON = {
    "tokens", "loss", "beams", "reference_share", "teacher", "hidden", "rate", "schedule", "warm_up", "weight_decay",
    "batch",
}  # fmt: skip
OWN = {
    "recover": {"adapter", "rank", "alpha", "dropout", "merged"},
    "finetune": set(),
    "distill": {"layers", "width", "channels", "config"},
}


@pytest.mark.parametrize("name", OWN)
def test_a_trainer_has_its_own_parameters_and_those_of_all(name: str) -> None:
    assert {field.name for field in fields(METHODS[name])} == COMMON | OWN[name]
    assert METHODS[name].kind == "trainer"


def test_each_has_a_rate_of_its_own() -> None:
    assert (Recover().rate, Finetune().rate, Distill().rate) == (2e-4, 2e-5, 5e-4)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"tokens": -1}, r"tokens is -1; it must be a whole number of at least 0. 0 is once through the data."),
    ({"tokens": 1e6}, r"tokens is 1000000.0; it must be a whole number"),
    ({"tokens": True}, r"tokens is True"),
    ({"loss": "kl"}, "loss is 'kl'; it must be one of references, sequence, forward_kl, reverse_kl, skew_kl"),
    ({"beams": -1}, "beams is -1; it must be a whole number of at least 0. 0 takes the references"),
    (
        {"beams": 4, "loss": "references"},
        "beams is 4, which makes the teacher's translations the targets, and the loss",
    ),
    ({"reference_share": 1.5}, "reference_share is 1.5; it must be a number with a point, from 0.0 to 1.0"),
    ({"reference_share": 1}, "reference_share is 1; it must be a number with a point"),
    ({"teacher": "kept"}, "teacher is 'kept'; it must be one of live, cached"),
    ({"hidden": -0.1}, "hidden is -0.1"),
    ({"rate": 0.0}, "rate is 0.0"),
    ({"rate": "2e-4"}, "rate is '2e-4'; it must be a number with a point"),
    ({"rate": float("nan")}, "rate is nan"),
    ({"schedule": "cosine"}, "schedule is 'cosine'; it must be one of wsd, inverse_sqrt"),
    ({"warm_up": -1}, "warm_up is -1"),
    ({"weight_decay": 2.0}, "weight_decay is 2.0"),
    ({"batch": 0}, "batch is 0; it must be a whole number of at least 1"),
    ({"loss": "references", "reference_share": 0.5}, "reference_share is 0.5, which goes with a divergence"),
    (
        {"loss": "sequence", "reference_share": 0.5},
        "the loss is 'sequence'; use one of forward_kl, reverse_kl, skew_kl",
    ),
    ({"loss": "references", "hidden": 1.0}, "hidden is 1.0, which goes with a divergence .* or leave hidden out"),
    ({"loss": "sequence", "teacher": "cached"}, "teacher is 'cached', which goes with a divergence"),
    ({"teacher": "cached", "hidden": 1.0}, "hidden is 1.0, and a cache keeps no hidden states; use teacher: live"),
]


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize(("parameters", "reason"), WRONG, ids=str)
def test_what_a_trainer_cannot_mean_is_refused(name: str, parameters: dict[str, Any], reason: str) -> None:
    with pytest.raises(CandidateError, match=rf"^{name}\.{reason}" if not reason.startswith("the loss") else reason):
        step_from_json({"method": name, **parameters})


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"method": "recover", "adapter": "ia3"}, "recover.adapter is 'ia3'; it must be one of lora, dora, scales"),
        ({"method": "recover", "rank": 0}, "recover.rank is 0; .* Leave the step out"),
        ({"method": "recover", "alpha": 0.0}, "recover.alpha is 0.0"),
        ({"method": "recover", "dropout": 1.0}, "recover.dropout is 1.0"),
        ({"method": "recover", "merged": 1}, "recover.merged is 1; it must be one of True, False"),
        ({"method": "recover", "adapter": "scales", "rank": 8}, "'scales', which has no rank, alpha or dropout"),
        ({"method": "recover", "adapter": "scales", "merged": True}, "nothing to merge; leave them out"),
        ({"method": "distill", "layers": -1}, "distill.layers is -1; .* 0 keeps every layer"),
        ({"method": "distill", "width": 0.0}, "distill.width is 0.0"),
        ({"method": "distill", "channels": 1}, "distill.channels is 1; it must be a number with a point"),
        ({"method": "distill", "config": None}, "distill.config is None; it must be the path"),
        ({"method": "distill", "config": "s", "layers": 2}, "distill.config is 's', which gives the student's whole"),
        ({"method": "finetune", "rank": 4}, "finetune has no parameter 'rank'"),
    ],
)
def test_what_one_trainer_cannot_mean_is_refused(record: dict[str, Any], reason: str) -> None:
    with pytest.raises(CandidateError, match=reason):
        step_from_json(record)


@pytest.mark.parametrize(
    "step",
    [
        Recover(adapter="dora", merged=True, loss="skew_kl", teacher="cached", reference_share=0.25),
        Finetune(loss="forward_kl", hidden=0.5, schedule="inverse_sqrt", tokens=0),
        Distill(layers=2, width=0.5, channels=0.25, loss="reverse_kl"),
        Distill(config="student/config.json", loss="sequence"),
        Finetune(loss="forward_kl", beams=4, reference_share=0.5),
    ],
    ids=str,
)
def test_a_trainer_survives_json(step: Recover | Finetune | Distill) -> None:
    assert step_from_json(step_to_json(step)) == step


def test_what_stays_beside_the_weights_and_what_asks_the_teacher_by_token() -> None:
    adapters = [Recover(), Recover(merged=True), Recover(adapter="dora"), Recover(adapter="scales")]
    assert [step.is_apart for step in adapters] == [True, False, True, False]
    assert LOSSES == ("references", "sequence", "forward_kl", "reverse_kl", "skew_kl")
    assert [Finetune(loss=loss).has_divergence for loss in LOSSES] == [False, False, True, True, True]


def test_targets_are_the_teachers_where_the_loss_or_beams_ask_for_them() -> None:
    assert [Finetune(loss=loss).has_translated_targets for loss in LOSSES] == [False, True, False, False, False]
    assert all(Finetune(loss=loss, beams=1).has_translated_targets for loss in LOSSES if loss != "references")
