"""Removal of layers: the ones that do least go, and nothing else of the model changes."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from search_spaces.errors import CandidateError, StudyError
from search_spaces.methods.pruners import RemoveLayers
from tests.support.examples import segment
from workers.calibration.divergence import Divergence, measuring_batches
from workers.compression.pruning.layer_search import bypass_layers, greedy, least_set, pairwise
from workers.compression.pruning.remove_layers import (
    block_influence,
    compress,
    least_influential,
    shallower_config,
    spread,
)
from workers.loading.load import load_model, load_tokenizer
from workers.plan.compression_context import CompressionContext
from workers.translation.prompts import PROMPTS

LAYERS, IDENTITY = 4, 1
IDS = torch.tensor([[1, 40, 7, 90, 33, 5, 61]])
PAIRS = [
    segment("A dog runs.", "Ein Hund rennt."),
    segment("Two men in dark suits are crossing a busy street.", "Zwei Leute."),
    segment("Hi.", "Hallo."),
]


def context(pairs: list[Any] | None = None) -> CompressionContext:
    return CompressionContext(PAIRS if pairs is None else pairs, PROMPTS["alma"], torch.device("cpu"), 0)


def make_identity(layer: int) -> Callable[[Any], None]:
    """An edit after which the layer's two branches add nothing, so that it hands on what it is given."""

    def edit(model: Any) -> None:
        block = model.model.layers[layer]
        block.self_attn.o_proj.weight.zero_()
        block.mlp.down_proj.weight.zero_()

    return edit


@pytest.fixture(scope="module")
def folder(save_llama: Any) -> Path:
    saved: Path = save_llama(
        edit=make_identity(IDENTITY), num_hidden_layers=LAYERS, initializer_range=0.2, dtype=torch.float32
    )
    return saved


@pytest.fixture(scope="module")
def shallower(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[str, ...]]:
    """The folder without one layer, and the notes of its report."""
    out = tmp_path_factory.mktemp("shallower")
    report = compress(folder, out, RemoveLayers(count=1), context())
    assert report.targeted == report.changed > 0
    return out, report.notes


def logits(folder: Path) -> torch.Tensor:
    with torch.inference_mode():
        found = load_model(folder, "cpu")(IDS).logits
    assert isinstance(found, torch.Tensor)
    return found


def test_a_layer_that_does_nothing_has_no_influence_and_the_others_have(folder: Path) -> None:
    influence = block_influence(folder, context())
    assert len(influence) == LAYERS
    assert influence[IDENTITY] == pytest.approx(0.0, abs=1e-6)
    assert all(value > 0.01 for layer, value in enumerate(influence) if layer != IDENTITY)


def test_influence_is_one_minus_the_mean_cosine_over_all_tokens(folder: Path) -> None:
    model, tokenizer = load_model(folder, "cpu"), load_tokenizer(folder)
    cosines: list[list[float]] = [[] for _ in range(LAYERS - 1)]
    for pair in PAIRS:
        text = f"Translate this from English to German:\nEnglish: {pair.source}\nGerman: {pair.references[0]}"
        with torch.inference_mode():
            states = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states
        for layer, values in enumerate(cosines):
            values += torch.cosine_similarity(states[layer][0], states[layer + 1][0], dim=-1).tolist()
    expected = [1 - sum(values) / len(values) for values in cosines]
    # transformers gives the last layer's state after the final norm, so that layer has no value to compare with.
    assert block_influence(folder, context())[: LAYERS - 1] == pytest.approx(expected, abs=1e-5)


def test_the_least_influential_layer_goes_first_and_the_report_says_which(
    shallower: tuple[Path, tuple[str, ...]],
) -> None:
    _, notes = shallower
    assert len(notes) == 1
    assert notes[0].startswith(f"layers removed (block influence): {IDENTITY} (")


def test_the_model_without_its_idle_layer_computes_the_same(
    folder: Path, shallower: tuple[Path, tuple[str, ...]]
) -> None:
    assert torch.equal(logits(shallower[0]), logits(folder))


def test_the_kept_layers_are_renumbered_and_no_weight_changes(
    folder: Path, shallower: tuple[Path, tuple[str, ...]]
) -> None:
    before, after = (load_file(place / "model.safetensors") for place in (folder, shallower[0]))
    came_from = {0: 0, 1: 2, 2: 3}
    for name, tensor in before.items():
        parts = name.split(".")
        if parts[1] != "layers":
            assert torch.equal(after.pop(name), tensor)
        elif int(parts[2]) != IDENTITY:
            new = next(position for position, layer in came_from.items() if layer == int(parts[2]))
            assert torch.equal(after.pop(".".join([*parts[:2], str(new), *parts[3:]])), tensor)
    assert after == {}


def test_the_config_and_the_tokenizer_go_with_the_shallower_model(
    folder: Path, shallower: tuple[Path, tuple[str, ...]]
) -> None:
    before, after = (json.loads((place / "config.json").read_text()) for place in (folder, shallower[0]))
    assert after == before | {"num_hidden_layers": LAYERS - 1}
    assert (shallower[0] / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()


def test_several_layers_go_at_once_in_order_of_their_influence(folder: Path, tmp_path: Path) -> None:
    influence = block_influence(folder, context())
    gone = sorted(sorted(range(LAYERS), key=lambda layer: influence[layer])[:3])
    report = compress(folder, tmp_path, RemoveLayers(count=3), context())
    assert [int(part.split()[0]) for part in report.notes[0].split(": ")[1].split(", ")] == gone
    assert logits(tmp_path).isfinite().all()


def test_per_layer_lists_of_a_real_config_are_cut_to_the_kept_layers(tmp_path: Path, character_tokenizer: Any) -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    kinds = ["full_attention", "sliding_attention", "full_attention", "sliding_attention"]
    config = Qwen2Config(
        vocab_size=len(character_tokenizer) + 10, hidden_size=64, intermediate_size=128, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512, layer_types=kinds,
        use_sliding_window=True, sliding_window=8, bos_token_id=1, eos_token_id=2, initializer_range=0.2,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(config)
    with torch.no_grad():
        make_identity(2)(model)
    parent, out = tmp_path / "parent", tmp_path / "out"
    out.mkdir()
    model.save_pretrained(parent)
    character_tokenizer.save_pretrained(parent)

    compress(parent, out, RemoveLayers(count=1), context())

    loaded = load_model(out, "cpu")
    assert loaded.config.layer_types == ["full_attention", "sliding_attention", "sliding_attention"]
    assert len(loaded.model.layers) == 3


def test_only_lists_that_go_by_layer_are_cut_wherever_the_text_models_config_is() -> None:
    config = {
        "num_hidden_layers": 3,
        "layer_types": ["a", "b", "c"],
        "eos_token_id": [1, 2, 3],
        "layer_scales": [1.0, 2.0],
    }
    cut = {
        "num_hidden_layers": 2,
        "layer_types": ["a", "c"],
        "eos_token_id": [1, 2, 3],
        "layer_scales": [1.0, 2.0],
    }
    assert shallower_config(config, [0, 2]) == cut
    assert shallower_config({"text_config": config, "x": 1}, [0, 2]) == {"text_config": cut, "x": 1}
    gemma = {"model_type": "gemma2", "num_hidden_layers": 4}
    places = shallower_config(gemma, [0, 2, 3])["layer_types"]
    assert places == ["sliding_attention", "sliding_attention", "full_attention"]
    assert config["layer_types"] == ["a", "b", "c"]


def test_of_equals_the_later_layer_goes() -> None:
    assert least_influential([0.5, 0.1, 0.1, 0.3], 1) == [2]
    assert least_influential([0.5, 0.1, 0.1, 0.3], 2) == [1, 2]
    assert least_influential([0.5, 0.1, 0.1, 0.3], 3) == [1, 2, 3]


def test_removal_without_calibration_pairs_is_refused_with_the_way_out(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="needs calibration pairs; name a file of them with --calibration"):
        compress(folder, tmp_path, RemoveLayers(count=1), context([]))
    assert list(tmp_path.iterdir()) == []


def test_a_large_calibration_set_is_thinned_evenly() -> None:
    pairs = [segment(id=str(number)) for number in range(10)]
    assert [int(pair.id) for pair in spread(pairs, 4)] == [0, 2, 5, 7]
    assert spread(pairs, 10) == spread(pairs, 99) == pairs


def measuring() -> CompressionContext:
    """A context with enough different sources that some are left for measuring."""
    words = ("dog", "cat", "man", "house", "street", "river", "child", "horse")
    return context([segment(f"A {word} sees a {other}.", f"Ein {other}.") for word in words for other in words[:4]])


@pytest.mark.parametrize("by", ["greedy", "pairwise"])
def test_a_layer_that_does_nothing_is_measured_to_cost_nothing(folder: Path, tmp_path: Path, by: Any) -> None:
    report = compress(folder, tmp_path, RemoveLayers(count=1, by=by), measuring())
    assert f"{IDENTITY} (0.0000)" in report.notes[0]
    assert torch.equal(logits(tmp_path), logits(folder))
    # Four layers are alike: one of them holds q, o (64 × 64), k, v (32 × 64), the MLP (3 × 64 × 128) and two norms.
    assert report.targeted == report.changed == 2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 128 + 2 * 64


@pytest.mark.parametrize("by", ["greedy", "pairwise"])
def test_the_divergence_told_is_that_of_the_folder_written(folder: Path, tmp_path: Path, by: Any) -> None:
    report = compress(folder, tmp_path, RemoveLayers(count=2, by=by), measuring())
    divergence = Divergence(load_model(folder, "cpu"), measuring_batches(load_tokenizer(folder), measuring()))
    found = divergence.of(load_model(tmp_path, "cpu"))
    assert found > 0.01
    told = re.findall(r"(\d\.\d{4})(?:\)$| measured)", report.notes[-1])
    assert told == [f"{found:.4f}"]


def test_a_bypassed_layer_is_as_good_as_gone_where_layers_differ_in_kind(
    tmp_path: Path, character_tokenizer: Any
) -> None:
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    config = Gemma3TextConfig(
        vocab_size=len(character_tokenizer) + 10, hidden_size=64, intermediate_size=128, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, max_position_embeddings=512, sliding_window=4,
        layer_types=["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
        bos_token_id=1, eos_token_id=2, initializer_range=0.2,
    )  # fmt: skip
    torch.manual_seed(0)
    parent, out = tmp_path / "parent", tmp_path / "out"
    out.mkdir()
    Gemma3ForCausalLM(config).save_pretrained(parent)
    character_tokenizer.save_pretrained(parent)
    report = compress(parent, out, RemoveLayers(count=1, by="greedy"), measuring())
    gone = int(report.notes[0].split(": ")[1].split()[0])
    model = load_model(parent, "cpu")
    with torch.inference_mode(), bypass_layers([model.model.layers[gone]]):
        assert torch.equal(model(IDS, use_cache=False).logits, logits(out))
    assert not torch.equal(logits(parent), logits(out))


def test_greedy_removes_in_turn_whichever_costs_least_with_those_before() -> None:
    # Alone 0 costs least, and with it 3; 1 and 2 together would cost nothing.
    costs = {(0,): 1.0, (1,): 2.0, (2,): 2.0, (3,): 3.0, (0, 1): 9.0, (0, 2): 8.0, (0, 3): 5.0, (1, 2): 0.0}
    choice = greedy(lambda gone: costs[tuple(sorted(gone))], 4, 2)
    assert choice.removed == (0, 3)
    assert choice.notes[0].endswith(": 0 (1.0000), 3 (5.0000)")


def test_pairwise_removes_the_set_whose_singles_and_pairs_add_up_to_least() -> None:
    singles = [1.0, 2.0, 2.0, 3.0]
    together = {(0, 1): 9.0, (0, 2): 8.0, (0, 3): 5.0, (1, 2): 0.5, (1, 3): 5.0, (2, 3): 4.0}
    measured: list[tuple[int, ...]] = []

    def cost(gone: Any) -> float:
        measured.append(tuple(gone))
        return singles[gone[0]] if len(gone) == 1 else together[tuple(gone)] if len(gone) == 2 else 7.25

    assert pairwise(cost, 4, 2).removed == (1, 2)
    assert len(measured) == 4 + 6
    # Of three layers: 0 1 2 costs 9 + 8 + 0.5 - 5 = 12.5, 0 1 3 19 - 6 = 13, 0 2 3 17 - 6 = 11, 1 2 3 9.5 - 7 = 2.5.
    choice = pairwise(cost, 4, 3)
    assert choice.removed == (1, 2, 3)
    assert choice.notes[1] == "divergence of all removed: 7.2500 measured, 2.5000 by singles and pairs"
    assert len(choice.notes) == 2


def test_pairs_are_measured_among_the_sixteen_cheapest_layers_of_a_deep_model() -> None:
    measured: list[tuple[int, ...]] = []

    def cost(gone: Any) -> float:
        measured.append(tuple(gone))
        return float(sum(20 - layer for layer in gone))

    choice = pairwise(cost, 20, 3)
    assert choice.removed == (17, 18, 19)
    assert len(measured) == 20 + 16 * 15 // 2 + 1
    assert min(min(pair) for pair in measured if len(pair) == 2) == 4
    assert choice.notes[2] == "pairs were measured among the 16 layers of least single cost, of 20"


def test_the_least_set_is_found_by_comparing_all() -> None:
    generator = random.Random(0)
    singles = {layer: generator.random() for layer in range(7)}
    pairs = {pair: generator.random() * 3 for pair in combinations(range(7), 2)}
    matrix = torch.zeros(7, 7, dtype=torch.float64)
    for (first, second), value in pairs.items():
        matrix[first, second] = value - singles[first] - singles[second]
    for count in (1, 2, 3, 6, 7):
        best, found = least_set(singles, pairs, range(7), count)
        costs = {}
        for chosen in combinations(range(7), count):
            mask = torch.zeros(7, dtype=torch.float64)
            mask[list(chosen)] = 1
            alone = torch.tensor([singles[layer] for layer in range(7)], dtype=torch.float64)
            costs[chosen] = (alone @ mask + mask @ matrix @ mask).item()
        assert found == pytest.approx(costs[best])
        assert found == pytest.approx(min(costs.values()))


@pytest.mark.parametrize("by", ["greedy", "pairwise"])
def test_too_few_pairs_to_measure_on_are_refused(folder: Path, tmp_path: Path, by: Any) -> None:
    with pytest.raises(StudyError, match="too few to leave some out for measuring divergence"):
        compress(folder, tmp_path, RemoveLayers(count=1, by=by), context())
    with pytest.raises(StudyError, match="needs calibration pairs"):
        compress(folder, tmp_path, RemoveLayers(count=1, by=by), context([]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("by", ["greedy", "pairwise"])
def test_a_count_that_leaves_no_layer_is_refused(folder: Path, tmp_path: Path, by: Any) -> None:
    with pytest.raises(CandidateError, match="leaves none of the model's 4 layers"):
        compress(folder, tmp_path, RemoveLayers(count=4, by=by), measuring())
