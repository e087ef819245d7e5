"""Calibration: what the pass adds up is what plainly running the model adds up, and bad input is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from search_spaces.errors import StudyError
from tests.support.examples import segment
from workers.calibration import calibrate, kept_statistics, statistics
from workers.calibration import capture as capturing
from workers.calibration.calibrate import calibration_sequences, statistics_key, statistics_of
from workers.calibration.capture import add_products, capture
from workers.calibration.kept_statistics import KeptStatistics
from workers.calibration.pair_parts import parts
from workers.calibration.sequences import Shown, balance_pairs, batches, plain
from workers.calibration.statistics import LayerStatistics, Statistics
from workers.loading.load import load_for_calibration, load_tokenizer
from workers.plan.compression_context import CompressionContext
from workers.runtime.artefact_store import ArtefactStore
from workers.translation.prompts import PROMPTS

CPU = torch.device("cpu")
PAIRS = [
    segment(f"{count} dogs run over field {count}.", f"{count} Hunde.", langs=langs, id=str(count))
    for count in range(40)
    for langs in ("en-de", "en-fr")
]


@pytest.fixture(scope="module")
def folder(save_llama: Any) -> Path:
    saved: Path = save_llama(dtype=torch.float32, initializer_range=0.2)
    return saved


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "KEPT", KeptStatistics())


@pytest.fixture
def context(tmp_path: Path) -> CompressionContext:
    return CompressionContext(
        PAIRS, PROMPTS["alma"], CPU, 0, store=tmp_path, parent_key="parent", calibration_tokens=4000
    )


def inputs_by_hooks(folder: Path, sequences: list[Shown]) -> dict[str, torch.Tensor]:
    """Each linear layer's inputs, tokens × columns in float64, from running the whole model a sequence at a time."""
    model = load_for_calibration(folder, CPU)
    seen: dict[str, list[torch.Tensor]] = {}

    def note(name: str) -> Any:
        return lambda module, given: seen.setdefault(name, []).append(given[0].reshape(-1, given[0].shape[-1]).double())

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and ".layers." in name:
            module.register_forward_pre_hook(note(f"{name}.weight"))
    with torch.inference_mode():
        for sequence in sequences:
            model(input_ids=torch.tensor([sequence.ids]))
    return {name: torch.cat(rows) for name, rows in seen.items()}


def test_the_statistics_are_those_of_the_whole_model_run_plainly(folder: Path, context: CompressionContext) -> None:
    found = statistics_of(folder, context)
    expected = inputs_by_hooks(folder, calibration_sequences(load_tokenizer(folder), context))
    assert set(found.layers) == set(found.keys) == set(expected)
    for name, rows in expected.items():
        assert found.tokens == len(rows)
        hessian = found.hessian(name, CPU).double()
        assert torch.allclose(hessian, rows.T @ rows / len(rows), rtol=1e-3, atol=1e-5 * float(hessian.abs().max()))
        assert torch.allclose(found.magnitude(name, CPU).double(), rows.abs().mean(dim=0), rtol=1e-3, atol=1e-6)
        assert torch.allclose(found.norm(name, CPU).double(), rows.square().mean(dim=0).sqrt(), rtol=1e-3, atol=1e-6)


def test_weights_that_read_one_input_share_its_hessian(folder: Path, context: CompressionContext) -> None:
    found = statistics_of(folder, context)
    stem = "model.layers.1"
    attention = [f"{stem}.self_attn.{name}_proj.weight" for name in "qkv"]
    assert found.shares_input(attention[1]) == attention
    gate, up, down = (f"{stem}.mlp.{name}_proj.weight" for name in ("gate", "up", "down"))
    assert found.shares_input(up) == [gate, up]
    assert found.shares_input(down) == [down]
    assert len({tuple(found.shares_input(name)) for name in found.keys}) == 3 * 4


def test_memory_answers_a_second_asking_without_the_model(
    folder: Path, context: CompressionContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = statistics_of(folder, context)
    monkeypatch.setattr(calibrate, "capture", None)
    assert statistics_of(folder, context) is first
    assert context.store is not None
    assert list(context.store.iterdir()) == []


@pytest.mark.parametrize("layers", [0, 1])
def test_where_memory_is_short_the_store_keeps_them(
    folder: Path, context: CompressionContext, monkeypatch: pytest.MonkeyPatch, layers: int
) -> None:
    """layers: how many memory holds before it is short."""
    in_memory = statistics_of(folder, context)
    size = sum(tensor.nbytes for tensor in in_memory.layers["model.layers.0.mlp.up_proj.weight"].values())  # type: ignore[union-attr]
    monkeypatch.setattr(calibrate, "KEPT", kept := KeptStatistics())
    # What is available shrinks by what was taken.
    room = (layers + 0.5) * size / kept_statistics.SHARE
    taken = iter(range(1, 10))
    monkeypatch.setattr(kept_statistics, "available_bytes", lambda: room - next(taken) * size)
    on_disk = statistics_of(folder, context)
    assert kept.found == {}
    assert {type(layer) for layer in on_disk.layers.values()} == {type(folder)}
    assert on_disk.keys == in_memory.keys and on_disk.tokens == in_memory.tokens
    for name in in_memory.keys:
        assert torch.equal(on_disk.hessian(name, CPU), in_memory.hessian(name, CPU))
        assert torch.equal(on_disk.magnitude(name, CPU), in_memory.magnitude(name, CPU))
        assert on_disk.shares_input(name) == in_memory.shares_input(name)
    monkeypatch.setattr(calibrate, "capture", None)
    assert statistics_of(folder, context) == on_disk


def test_the_oldest_statistics_make_room_for_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    def layer(index: int) -> LayerStatistics:
        return LayerStatistics(index, 1, {f"layers.{index}.weight": "in"}, {"in.magnitude": torch.ones(1000)})

    kept = KeptStatistics()
    monkeypatch.setattr(kept_statistics, "available_bytes", lambda: 25_000 - sum(kept.sizes.values()))
    # Room for 10,000 bytes and what is being taken; a set of two layers has 8,000.
    assert kept.take("first", iter([layer(0), layer(1)])) is None
    assert kept.get("first") is not None
    assert kept.take("second", iter([layer(0), layer(1)])) is None
    assert kept.get("first") is None and kept.get("second") is not None
    assert kept.sizes == {"second": 8000}
    more = iter([layer(index) for index in range(9)])
    taken = kept.take("third", more)
    assert taken is not None and [one.index for one in taken] == list(range(len(taken)))
    assert [one.index for one in more] == list(range(len(taken), 9))
    assert kept.found == {}


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"parent_key": "another"},
        {"calibration_tokens": 4001},
        {"calibration": PAIRS[1:]},
        {"prompt": PROMPTS["few-shot"]},
        {"calibration_text": ("Some running text.",)},
    ],
)
def test_what_changes_the_statistics_changes_their_key(context: CompressionContext, change: dict[str, Any]) -> None:
    assert statistics_key(replace(context, **change)) != statistics_key(context)


def test_hessians_wider_than_a_block_are_stored_by_their_upper_half(
    folder: Path, context: CompressionContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = statistics_of(folder, context)
    monkeypatch.setattr(statistics, "BLOCK", 24)
    parted = statistics_of(folder, replace(context, parent_key="again"))
    name = "model.layers.0.mlp.down_proj.weight"
    assert torch.equal(whole.hessian(name, CPU), parted.hessian(name, CPU))
    assert _held(parted, name) < 0.75 * _held(whole, name)


def _held(found: Statistics, name: str) -> int:
    layer = found.layers[name]
    assert not isinstance(layer, Path)
    return sum(tensor.nbytes for tensor in layer.values())


def test_a_pass_killed_half_way_leaves_no_statistics(
    folder: Path, context: CompressionContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*given: Any) -> Any:
        for sums in capture(*given):
            yield sums
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(calibrate, "capture", breaks)
    with pytest.raises(OSError, match="No space left"):
        statistics_of(folder, context)
    assert context.store is not None
    assert ArtefactStore(context.store).find(statistics_key(context)) is None
    assert calibrate.KEPT.found == {}
    monkeypatch.undo()
    assert statistics_of(folder, context).tokens > 0


def test_a_single_pair_is_taken(folder: Path, context: CompressionContext) -> None:
    found = statistics_of(folder, replace(context, calibration=PAIRS[:1]))
    hessian = found.hessian("model.layers.0.mlp.down_proj.weight", torch.device("cpu"))
    assert 0 < found.tokens < len(hessian) == 128
    assert torch.linalg.matrix_rank(hessian.double(), hermitian=True, rtol=1e-6) <= found.tokens


def test_no_pairs_are_refused(folder: Path, context: CompressionContext) -> None:
    with pytest.raises(StudyError, match="needs calibration pairs"):
        statistics_of(folder, replace(context, calibration=()))


def test_activations_that_are_not_finite_are_told_with_their_layer(
    save_llama: Any, context: CompressionContext
) -> None:
    def break_one(model: Any) -> None:
        model.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")

    with pytest.raises(ValueError, match=r"inputs of layer 1's mlp.down_proj are not finite"):
        statistics_of(save_llama(edit=break_one, dtype=torch.float32), context)


def test_a_layer_without_linear_layers_is_refused(folder: Path) -> None:
    model = load_for_calibration(folder, CPU)
    model.model.layers[0] = torch.nn.Identity()
    with pytest.raises(StudyError, match=r"Identity has no torch.nn.Linear.*rtn, hqq"):
        list(capture(model, batches([Shown((1, 5, 6), 0)]), CPU))


def test_a_batch_in_parts_adds_up_to_what_it_does_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_for_calibration(folder, CPU)
    given = batches([Shown(tuple(range(3, 3 + length)), 0) for length in (9, 7, 7, 4, 2)])
    assert len(given) == 1
    whole = list(capture(model, given, CPU))
    monkeypatch.setattr(capturing, "CPU_TOKENS", 18)
    monkeypatch.setattr(capturing, "STRIP", 24)
    parted = list(capture(model, given, CPU))
    assert {sums.tokens for sums in parted} == {29}
    for one, other in zip(whole, parted, strict=True):
        assert (one.keys, list(one.inputs)) == (other.keys, list(other.inputs))
        for key, inputs in one.inputs.items():
            torch.testing.assert_close(other.inputs[key].hessian, inputs.hessian)
            torch.testing.assert_close(other.inputs[key].magnitude, inputs.magnitude)
            assert torch.equal(other.inputs[key].hessian, other.inputs[key].hessian.T)


def test_the_model_is_as_it_was_after_the_pass(folder: Path) -> None:
    model = load_for_calibration(folder, CPU)
    ids = torch.tensor([[1, 40, 7, 90]])
    with torch.inference_mode():
        before = model(ids).logits
        list(capture(model, batches([Shown((1, 5, 6), 0), Shown((1, 9), 0)]), CPU))
        assert torch.equal(model(ids).logits, before)


def test_products_of_bfloat16_lose_nothing_to_float32_sums() -> None:
    torch.manual_seed(0)
    total, exact = torch.zeros(48, 48), torch.zeros(48, 48, dtype=torch.float64)
    for _ in range(20):
        rows = (torch.randn(500, 48) * torch.rand(48)).bfloat16()
        add_products(total, rows)
        exact += rows.double().T @ rows.double()
    assert (total - exact).abs().max() / exact.abs().max() < 1e-6


def test_every_language_has_its_share_of_tokens(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    long = [segment("A dog. " * 9, "Ein Hund. " * 9, langs="en-de", id=str(count)) for count in range(60)]
    short = [segment("A cat.", "Un chat.", langs="en-fr", id=str(count)) for count in range(400)]
    taken = balance_pairs(long + short, tokenizer, PROMPTS["alma"], 12_000)
    french = sum(len(one.ids) for one in taken if len(one.ids) < 120)
    whole = sum(len(one.ids) for one in taken)
    assert 12_000 <= whole < 12_400
    assert abs(french / whole - 0.5) < 0.02


def test_a_language_with_little_gives_all_it_has_and_the_others_make_up_for_it(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    many = [segment(f"Dog {count} runs.", "Ein Hund.", langs="en-de", id=str(count)) for count in range(200)]
    few = [segment("A cat.", "Un chat.", langs="en-fr")]
    whole = sum(len(one.ids) for one in balance_pairs(many + few, tokenizer, PROMPTS["alma"], 6000))
    assert 6000 <= whole < 6100


def test_statistics_and_measuring_pairs_share_no_source_and_both_have_every_language() -> None:
    taken, measuring = parts(PAIRS, 3)
    assert not {pair.source for pair in taken} & {pair.source for pair in measuring}
    assert {pair.langs for pair in measuring} == {pair.langs for pair in taken} == {"en-de", "en-fr"}
    assert len(taken) + len(measuring) == len(PAIRS)
    assert parts(PAIRS[::-1], 3) == (taken, measuring)


def test_a_shown_pair_ends_in_end_of_sequence_and_knows_where_its_translation_begins(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    (one,) = balance_pairs(PAIRS[:1], tokenizer, PROMPTS["alma"], 1)
    assert one.ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(one.ids[one.target_start : -1]).strip() == PAIRS[0].references[0]


def test_running_text_is_an_option_for_calibration(folder: Path, context: CompressionContext) -> None:
    tokenizer = load_tokenizer(folder)
    lines = [f"Some running text, line {count}." for count in range(100)]
    shown = calibration_sequences(tokenizer, replace(context, calibration_text=tuple(lines), calibration_tokens=500))
    assert tokenizer.decode(shown[0].ids, skip_special_tokens=True) == lines[0]
    assert 500 <= sum(len(one.ids) for one in shown) < 540
    assert plain(lines[:2], tokenizer, 10**6, longest=5)[1].ids == tuple(tokenizer(lines[1])["input_ids"][:5])


def test_batches_hold_the_tokens_once_and_pad_on_the_right() -> None:
    sequences = [Shown(tuple(range(3, 3 + length)), 1) for length in (9, 2, 5, 5, 7)]
    made = batches(sequences, batch_tokens=15)
    assert sum(batch.tokens for batch in made) == 28
    for batch in made:
        assert batch.ids.numel() <= 15 or len(batch.ids) == 1
        assert (batch.ids[~batch.mask] == 0).all()
        assert (batch.mask.int().diff(dim=1) <= 0).all()
        assert (batch.target.sum(dim=1) == batch.mask.sum(dim=1) - 1).all()
