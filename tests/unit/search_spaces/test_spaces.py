"""The search spaces: only what a model can take is offered, and the anchors are what they are meant to be."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest

from search_spaces.candidate import Candidate, refuse_idle_training
from search_spaces.methods.pruners import RemoveChannels, RemoveLayers, TrimVocabulary
from search_spaces.methods.quantizers import GPTQ, RTN, MixedWidths, QuantizeEmbeddings
from search_spaces.methods.registry import METHODS, Step, step_from_json
from search_spaces.methods.trainers import Distill, Finetune, Recover
from search_spaces.predicted_size import predicted_bytes
from search_spaces.sizes.tensor_table import Checkpoint
from search_spaces.spaces.choices import chosen_steps, every_choice
from search_spaces.spaces.offers import Offer, offer_for
from search_spaces.spaces.registry import SPACES
from search_spaces.spaces.training_suggestions import BATCH, BUDGETS, FEW_BITS_RATE, raise_budget
from tests.support.examples import BASE, llama_table
from tests.support.paths import ROOT
from workers.checkpoints.model_files import read_checkpoint

LARGE = ("joint", "student")
SMALL = sorted(set(SPACES) - set(LARGE))
CAPTIONS = read_checkpoint(ROOT / "models" / "captions")


def table(tokenizer: int = 0, heads: tuple[int, int] | None = None, **shape: int) -> Checkpoint:
    """A Llama's tensor table with the parts of config.json and of the tokenizer that pruners look at."""
    plain = llama_table(**shape)
    config: dict[str, int] = {}
    if heads is not None:
        config = {
            "hidden_size": shape.get("hidden", 128), "intermediate_size": shape.get("ffn", 256),
            "num_attention_heads": heads[0], "num_key_value_heads": heads[1],
        }  # fmt: skip
    return replace(plain, config=config, tokenizer_bytes=tokenizer, other_bytes=plain.other_bytes + tokenizer)


MODELS: dict[str, Checkpoint] = {
    "captions": CAPTIONS,
    "plain": llama_table(layers=2),
    "one layer": table(layers=1),
    "odd widths": table(layers=2, hidden=100, ffn=268, heads=(4, 4)),
    "six heads": table(layers=2, hidden=96, ffn=160, heads=(6, 6), vocabulary=5000, tokenizer=90_000),
    "wide": table(layers=3, hidden=256, ffn=1376, heads=(8, 8), vocabulary=32_000, tokenizer=500_000),
}


class Given:
    """A source that answers with the given choices, and holds them against what is offered."""

    def __init__(self, choices: Mapping[str, Any]) -> None:
        self.choices = choices
        self.asked: list[str] = []

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        assert self.choices[name] in choices
        self.asked.append(name)
        return self.choices[name]

    def suggest_int(self, name: str, low: int, high: int) -> int:
        return int(self.suggest_categorical(name, range(low, high + 1)))


def steps_of(space: str, choices: Mapping[str, Any], offer: Offer) -> tuple[Step, ...]:
    source = Given(choices)
    steps = SPACES[space].steps(source, offer)
    assert sorted(source.asked) == sorted(choices), "an anchor leaves a choice open, or names one that is not asked for"
    return steps


def anchors_of(space: str, checkpoint: Checkpoint, training: bool = False) -> list[tuple[Step, ...]]:
    offer = offer_for(checkpoint, training)
    return [steps_of(space, choices, offer) for choices in SPACES[space].anchors(offer)]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("space", SMALL)
def test_all_that_a_space_offers_can_be_taken_and_means_something_of_its_own(space: str, model: str) -> None:
    checkpoint = MODELS[model]
    found = list(every_choice(SPACES[space], offer_for(checkpoint)))
    for _, steps in found[:: max(len(found) // 100, 1)]:
        assert predicted_bytes(checkpoint, steps) > 0
    assert len({Candidate(BASE, steps).digest for _, steps in found}) == len(found)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_what_the_joint_space_offers_can_be_taken(model: str, training: bool) -> None:
    assert len(sampled("joint", MODELS[model], training)) == 400


@pytest.mark.parametrize("model", MODELS)
def test_what_the_student_space_offers_can_be_taken(model: str) -> None:
    assert len(sampled("student", MODELS[model], training=True)) >= 30


def sampled(space: str, checkpoint: Checkpoint, training: bool) -> set[str]:
    """Digests of up to 400 candidates of the space, each with bytes that could be predicted."""
    order = itertools.cycle(
        [lambda values: values, lambda values: values[::-1], lambda values: sorted(values, key=str)]
    )
    walk = every_choice(SPACES[space], offer_for(checkpoint, training), lambda values: next(order)(list(values)))
    seen: list[str] = []
    for _, steps in itertools.islice(walk, 400):
        assert predicted_bytes(checkpoint, steps) > 0
        refuse_idle_training(steps)
        seen.append(Candidate(BASE, steps).digest)
    assert len(set(seen)) == len(seen)
    return set(seen)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("space", "training"), [*((space, False) for space in SPACES), *((s, True) for s in LARGE)])
def test_anchors_are_offered_by_their_space_and_each_is_another_candidate(
    space: str, training: bool, model: str
) -> None:
    checkpoint = MODELS[model]
    anchors = anchors_of(space, checkpoint, training)
    assert len({Candidate(BASE, steps).digest for steps in anchors}) == len(anchors)
    for steps in anchors:
        assert predicted_bytes(checkpoint, steps) < predicted_bytes(checkpoint, ())


def test_every_method_is_offered_by_some_space() -> None:
    offer = offer_for(CAPTIONS, training=True)
    small = [steps for space in SMALL for _, steps in every_choice(SPACES[space], offer)]
    anchors = [steps for space in LARGE for steps in anchors_of(space, CAPTIONS, training=True)]
    assert {step.name for steps in small + anchors for step in steps} == set(METHODS)


def test_the_joint_anchors_span_the_frontier_within_ten_trials() -> None:
    anchors = anchors_of("joint", CAPTIONS)
    embeddings = QuantizeEmbeddings(bits=8)
    assert anchors[:5] == [
        (RTN(bits=8),),
        (GPTQ(bits=4),),
        (GPTQ(bits=4), embeddings),
        (RemoveLayers(count=1, by="greedy"), GPTQ(bits=4), embeddings),
        (TrimVocabulary(tokens=6016), GPTQ(bits=4), embeddings),
    ]
    shares = [predicted_bytes(CAPTIONS, steps) / CAPTIONS.bytes for steps in anchors]
    assert min(shares) < 0.42
    assert max(shares) > 0.7
    assert len(anchors) <= 11


def test_a_budget_of_three_bits_counts_embeddings_with_eight() -> None:
    table = llama_table(layers=8, vocabulary=3000)
    mixed, uniform = (MixedWidths(bits=3.0, embeddings=True),), (GPTQ(bits=3), QuantizeEmbeddings(bits=8))
    assert (replace(mixed[0], zero_points=True),) in anchors_of("joint", table)
    assert predicted_bytes(table, mixed) == pytest.approx(predicted_bytes(table, uniform), rel=0.005)


@pytest.mark.parametrize("space", [name for name, space in SPACES.items() if space.trims_vocabulary])
def test_no_vocabulary_is_trimmed_where_calibration_lacks_a_language(space: str) -> None:
    seeing, blind = offer_for(CAPTIONS), offer_for(CAPTIONS, vocabulary=False)
    assert seeing.vocabularies and not blind.vocabularies

    def trims(offer: Offer) -> bool:
        some = list(islice(every_choice(SPACES[space], offer), 400))
        steps = [step for _, steps in some for step in steps]
        named = [choices for choices in SPACES[space].anchors(offer) if "trim_vocabulary.tokens" in choices]
        return any(step.name == "trim_vocabulary" for step in steps) or bool(named)

    assert trims(seeing) and not trims(blind)


def test_group_sizes_divide_every_weight_that_is_targeted() -> None:
    assert offer_for(llama_table(hidden=128, ffn=256)).group_sizes == (32, 64, 128, -1)
    assert offer_for(llama_table(hidden=128, ffn=192)).group_sizes == (32, 64, -1)
    assert offer_for(llama_table(hidden=100, ffn=256)).group_sizes == (-1,)
    assert offer_for(llama_table(hidden=128, ffn=192)).group_size == 64
    assert offer_for(llama_table(hidden=96, ffn=96)).group_size == 32
    assert offer_for(llama_table(hidden=96, ffn=128)).embedding_group == 32
    assert offer_for(llama_table(hidden=100, ffn=128)).embedding_group == -1


def test_heads_are_offered_only_where_transformers_loads_what_is_left() -> None:
    # 8 heads over 256: 4 left divide it; 5, 6 and 7 do not. 6 heads over 96: 4 and 3 left divide it, but 4 × 16 = 64
    # columns take groups of 32 as the other weights do, and 3 × 16 = 48 do not.
    assert offer_for(MODELS["wide"]).head_groups == (4,)
    assert offer_for(MODELS["six heads"]).head_groups == (2,)
    assert offer_for(table(heads=(8, 2), hidden=256)).head_groups == (1,)
    assert offer_for(table(heads=(8, 1), hidden=256)).head_groups == ()
    assert offer_for(llama_table()).head_groups == ()


def test_channel_shares_leave_widths_that_the_offered_group_sizes_divide() -> None:
    offer = offer_for(MODELS["wide"])
    # 1376 = 43 × 32, so groups of 32 at most; a tenth less is 1238.4, and 1248 = 39 × 32 is nearest to it.
    assert offer.group_sizes == (32, -1)
    assert [RemoveChannels(share=share).kept(1376) for share in offer.channel_shares] == [1248, 1088, 960, 832, 704]
    # 640 = 5 × 128: steps of 128 leave 512, 384 and 256.
    captions = offer_for(CAPTIONS)
    assert captions.channel_shares == (0.2, 0.4, 0.6)
    assert [RemoveChannels(share=share).kept(640) for share in captions.channel_shares] == [512, 384, 256]
    assert offer_for(llama_table()).channel_shares == ()


def test_vocabularies_are_multiples_of_64_with_room_for_bytes_and_special_tokens() -> None:
    assert offer_for(MODELS["wide"]).vocabularies == (24_000, 16_000, 12_032, 8000, 3968)
    assert offer_for(MODELS["six heads"]).vocabularies == (3776, 2496, 1856, 1280, 640)
    assert offer_for(table(tokenizer=9000, vocabulary=800)).vocabularies == (576,)
    assert offer_for(table(tokenizer=0, vocabulary=8000)).vocabularies == ()


def test_a_model_of_one_layer_keeps_it() -> None:
    assert list(every_choice(SPACES["depth"], offer_for(MODELS["one layer"]))) == [({}, ())]
    assert SPACES["depth"].anchors(offer_for(MODELS["one layer"])) == []


def test_two_of_four_is_offered_where_columns_come_in_fours() -> None:
    assert offer_for(llama_table(hidden=100, ffn=264)).two_of_four
    assert not offer_for(llama_table(hidden=100, ffn=266)).two_of_four
    offered = every_choice(SPACES["sparsity"], offer_for(llama_table(hidden=100, ffn=266)))
    assert not any(choices.get("sparsity") == "2:4" for choices, _ in offered)


def test_a_walk_takes_values_in_the_order_it_is_given() -> None:
    offer = offer_for(llama_table())
    forth = [steps for _, steps in every_choice(SPACES["depth"], offer)]
    back = [steps for _, steps in every_choice(SPACES["depth"], offer, lambda values: values[::-1])]
    assert forth[0] == (RemoveLayers(count=1),)
    assert back[0] == (RemoveLayers(count=2, by="pairwise"),)
    assert sorted(map(str, forth)) == sorted(map(str, back))
    assert len(forth) == 6


def test_nothing_is_trained_where_the_study_names_no_training_data() -> None:
    for space in set(SPACES) - {"student"}:
        walk = every_choice(SPACES[space], offer_for(CAPTIONS))
        assert not any(step.kind == "trainer" for _, steps in itertools.islice(walk, 3000) for step in steps)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("space", LARGE)
def test_what_a_trained_anchor_began_with_is_an_anchor_too(space: str, model: str) -> None:
    anchors = anchors_of(space, MODELS[model], training=True)
    trained = [steps for steps in anchors if any(step.kind == "trainer" for step in steps)]
    for steps in trained:
        assert tuple(step for step in steps if step.kind != "trainer") in [(), *anchors]
    assert trained or model != "captions"


def test_the_joint_anchors_of_a_study_with_training_data_are_those_without_and_trained_ones_beside_them() -> None:
    plain, anchors = anchors_of("joint", CAPTIONS), anchors_of("joint", CAPTIONS, training=True)
    compact = (GPTQ(bits=4), QuantizeEmbeddings(bits=8))
    layer, three = RemoveLayers(count=1, by="greedy"), GPTQ(bits=3)
    scales = step_from_json({"recipe": "heal", "tokens": BUDGETS[1]})
    lora = step_from_json({"recipe": "low-bit-lora", "tokens": BUDGETS[1]})
    beside = [
        (layer, Finetune(tokens=BUDGETS[1], batch=BATCH), *compact),
        (three, scales, QuantizeEmbeddings(bits=8)),
        (GPTQ(bits=2),),
        (GPTQ(bits=2), lora),
    ]
    assert [steps for steps in anchors if steps in plain] == plain
    assert [steps for steps in anchors if steps not in plain] == beside


def test_an_adapter_kept_apart_ends_its_candidate() -> None:
    walk = every_choice(SPACES["joint"], offer_for(CAPTIONS, training=True))
    apart = [
        steps
        for _, steps in itertools.islice(walk, 4000)
        if any(isinstance(step, Recover) and step.is_apart for step in steps)
    ]
    assert apart
    assert all(isinstance(steps[-1], Recover) for steps in apart)


def test_half_of_a_loss_is_the_references_where_a_choice_says_so() -> None:
    offer = offer_for(CAPTIONS, training=True)
    nothing = {
        "trim_vocabulary.tokens": "whole", "remove_layers.count": 1, "remove_layers.by": "greedy",
        "remove_heads.groups": 0, "remove_channels.share": 0.0, "embeddings.bits": 16,
    }  # fmt: skip
    dense = {**nothing, "heal": "finetune-references", "heal.budget": BUDGETS[1], "quantizer": "none"}
    assert steps_of("joint", dense, offer)[-1] == Finetune(tokens=BUDGETS[1], batch=BATCH, reference_share=0.5)
    packed = {
        **nothing, "heal": "none", "quantizer": "gptq", "quantizer.bits": 4, "quantizer.group_size": 64,
        "quantizer.symmetric": True, "recovery": "quantization-aware-references", "recovery.budget": BUDGETS[2],
    }  # fmt: skip
    assert steps_of("joint", packed, offer)[-1] == Finetune(tokens=BUDGETS[2], batch=BATCH, reference_share=0.5)


@pytest.mark.parametrize(
    ("quantizer", "tokens", "rate"),
    [
        ({"quantizer": "gptq", "quantizer.bits": 4, "quantizer.symmetric": False}, BUDGETS[2], 2e-5),
        ({"quantizer": "gptq", "quantizer.bits": 4, "quantizer.symmetric": False}, 4 * BUDGETS[2], 2e-5),
        ({"quantizer": "gptq", "quantizer.bits": 3, "quantizer.symmetric": False}, BUDGETS[2], 1e-4),
        ({"quantizer": "gptq", "quantizer.bits": 3, "quantizer.symmetric": False}, 4 * BUDGETS[2], 5e-5),
        ({"quantizer": "mixed", "mixed.bits": 3.5, "mixed.embeddings": False}, 4 * BUDGETS[2], 5e-5),
        ({"quantizer": "mixed", "mixed.bits": 2.75, "mixed.embeddings": False}, 4 * BUDGETS[2], 1e-4),
        ({"quantizer": "gptq", "quantizer.bits": 2, "quantizer.symmetric": False}, 4 * BUDGETS[2], 1e-4),
    ],
)
def test_few_bits_are_trained_at_a_higher_rate_and_longer_at_a_lower_one(
    quantizer: dict[str, Any], tokens: int, rate: float
) -> None:
    choices = {
        "trim_vocabulary.tokens": "whole", "remove_layers.count": 0, "remove_heads.groups": 0,
        "remove_channels.share": 0.0, "quantizer.group_size": 64, "recovery": "quantization-aware",
        "recovery.budget": tokens, "embeddings.bits": 16, **quantizer,
    }  # fmt: skip
    trained = chosen_steps(SPACES["joint"], choices, offer_for(CAPTIONS, training=True))[-1]
    assert trained == Finetune(tokens=tokens, batch=BATCH, rate=rate)


def test_a_trimmed_vocabulary_is_healed_as_others_are() -> None:
    trimmed = {"trim_vocabulary.tokens": 3968, "remove_layers.count": 0, "remove_heads.groups": 0}
    choices = trimmed | {
        "remove_channels.share": 0.0, "heal": "recover", "heal.budget": BUDGETS[0], "quantizer": "gptq",
        "quantizer.bits": 3, "quantizer.group_size": 64, "quantizer.symmetric": True,
        "recovery": "quantization-aware", "recovery.budget": BUDGETS[2], "embeddings.bits": 8,
    }  # fmt: skip
    assert steps_of("joint", choices, offer_for(CAPTIONS, training=True)) == (
        TrimVocabulary(tokens=3968),
        Recover(tokens=BUDGETS[0], merged=True),
        GPTQ(bits=3),
        Finetune(tokens=BUDGETS[2], batch=BATCH, rate=FEW_BITS_RATE),
        QuantizeEmbeddings(bits=8),
    )


def test_the_student_space_offers_shapes_that_take_every_group_size_and_the_whole_one_untrained() -> None:
    offer = offer_for(CAPTIONS, training=True)
    assert offer.student_layers == (3, 2, 1)
    # 256 = 2 × 128, 640 = 5 × 128: steps of 128 leave 128 of the hidden size, and 512, 256 and 128 channels.
    assert offer.student_widths == (0.5,)
    assert offer.student_channels == (0.8, 0.4, 0.2)
    whole = {"distill.layers": 0, "distill.width": 1.0, "distill.channels": 1.0, "quantizer": "none"}
    assert steps_of("student", whole | {"embeddings.bits": 16}, offer) == ()
    small = {"distill.layers": 2, "distill.width": 0.5, "distill.channels": 0.4, "distill.budget": BUDGETS[0]}
    assert steps_of("student", whole | small | {"embeddings.bits": 8}, offer) == (
        Distill(tokens=BUDGETS[0], layers=2, width=0.5, channels=0.4),
        QuantizeEmbeddings(bits=8),
    )
    # Its two heads of 48 do not divide 64, and no other multiple of 32 is smaller than 96.
    assert offer_for(MODELS["six heads"], training=True).student_widths == ()
    assert offer_for(MODELS["one layer"], training=True).student_layers == ()
    assert offer_for(llama_table(), training=True).student_widths == ()


def test_a_budget_is_raised_by_a_rung_from_the_last_step_to_the_first() -> None:
    low, middle, high = BUDGETS
    choices = {"heal.budget": middle, "recovery.budget": middle, "quantizer.bits": 4}
    once = raise_budget(choices)
    assert once == choices | {"recovery.budget": high}
    twice = raise_budget(once)
    assert twice == {"heal.budget": high, "recovery.budget": high, "quantizer.bits": 4}
    assert raise_budget(twice) is None
    assert raise_budget({"distill.budget": low}) == {"distill.budget": middle}
    assert raise_budget({"trim_vocabulary.tokens": 250_000}) is None
    assert raise_budget({}) is None
