"""The control of a chain that trains: what it keeps of the training, and what has none."""

from __future__ import annotations

import pytest

from search_spaces.candidate import Candidate, candidate_from_json, refuse_idle_training, refuse_senseless_order
from search_spaces.errors import CandidateError
from search_spaces.methods.control import control_steps
from search_spaces.methods.pruners import RemoveLayers, TrimVocabulary
from search_spaces.methods.quantizers import GPTQ, RTN, QuantizeEmbeddings
from search_spaces.methods.registry import Step
from search_spaces.methods.trainers import Distill, Finetune, Recover
from tests.support.examples import BASE

LAYERS, GPTQ4, EMBEDDINGS = RemoveLayers(count=1), GPTQ(bits=4), QuantizeEmbeddings(bits=8)
REFERENCES = Finetune(loss="references", tokens=4_000_000)


@pytest.mark.parametrize(
    ("steps", "control"),
    [
        ((LAYERS, REFERENCES, GPTQ4), (REFERENCES,)),
        # Quantization-aware: the same step with nothing quantized.
        ((GPTQ4, REFERENCES, EMBEDDINGS), (REFERENCES,)),
        # A divergence of the model from itself has nothing to teach: the targets have.
        (
            (GPTQ4, Finetune(tokens=9, hidden=0.5, batch=8)),
            (Finetune(tokens=9, batch=8, loss="references"),),
        ),
        (
            (LAYERS, Finetune(loss="skew_kl", beams=4, teacher="cached")),
            (Finetune(loss="sequence", beams=4),),
        ),
        ((LAYERS, Finetune(reference_share=0.5)), (Finetune(reference_share=0.5),)),
        ((TrimVocabulary(tokens=64), Finetune(loss="sequence")), (Finetune(loss="sequence"),)),
        ((GPTQ4, Recover(adapter="dora", rank=4)), (Recover(adapter="dora", rank=4, loss="references"),)),
        # A student is the whole model, and its second training keeps its teacher.
        (
            (Distill(layers=2, loss="sequence", rate=1e-3), RTN(bits=4), Finetune()),
            (Finetune(loss="sequence", rate=1e-3), Finetune()),
        ),
        (
            (LAYERS, Recover(merged=True, loss="references"), GPTQ4, Recover()),
            (Recover(merged=True, loss="references"), Recover()),
        ),
    ],
    ids=str,
)
def test_the_training_is_kept_and_the_compression_is_not(steps: tuple[Step, ...], control: tuple[Step, ...]) -> None:
    assert Candidate(BASE, steps).steps == steps, "the chain itself makes sense"
    assert control_steps(steps) == control
    refuse_idle_training(control)
    arm = Candidate(BASE, control)
    assert candidate_from_json(arm.to_json()) == arm


@pytest.mark.parametrize("steps", [(), (GPTQ4,), (GPTQ4, Recover(adapter="scales")), (REFERENCES,)], ids=str)
def test_what_trains_nothing_compresses_nothing_or_trains_scales_has_none(steps: tuple[Step, ...]) -> None:
    assert control_steps(steps) is None


def test_two_trainings_in_a_row_are_a_control_and_nothing_that_a_study_may_ask_for() -> None:
    steps = (REFERENCES, Recover())
    assert Candidate(BASE, steps).prefix(1).steps == steps[:1]
    with pytest.raises(CandidateError, match="two trainings in a row are one"):
        refuse_senseless_order(steps)
    with pytest.raises(CandidateError, match="two trainings in a row are one"):
        Candidate(BASE, (LAYERS, *steps))
