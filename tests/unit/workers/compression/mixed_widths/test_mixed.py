"""Mixed widths end to end on a random Llama: budgets in bytes, tied groups, one profile for all budgets, reloading."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from search_spaces.errors import CandidateError, StudyError
from search_spaces.methods.quantizers import GPTQ, MixedWidths
from search_spaces.predicted_size import predicted_bytes
from search_spaces.sizes.tensor_table import layer_of
from tests.support.examples import segment
from workers.calibration.divergence import Divergence, measuring_batches
from workers.checkpoints.model_files import bytes_on_disk, read_checkpoint, read_config
from workers.compression.mixed_widths import sensitivity
from workers.compression.mixed_widths.mixed import compress
from workers.compression.quantization import gptq
from workers.loading.load import load_model, load_tokenizer
from workers.plan.compression_context import CompressionContext
from workers.stored_forms.quantization_config import bits_of
from workers.stored_forms.single_weights import StoredWeights
from workers.translation.prompts import PROMPTS

PAIRS = [segment(f"Source {n} is here.", f"Quelle {n} ist da!") for n in range(48)]
TIES = (("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",))


@pytest.fixture(scope="module")
def folder(save_llama: Any) -> Path:
    saved: Path = save_llama(initializer_range=0.1, num_hidden_layers=2, intermediate_size=160, vocab_size=2048)
    return saved


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> CompressionContext:
    store = tmp_path_factory.mktemp("store")
    return CompressionContext(
        PAIRS, PROMPTS["alma"], torch.device("cpu"), 0, store=store, parent_key="llama", calibration_tokens=1024
    )


@pytest.fixture(autouse=True)
def few_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.compression.mixed_widths.swaps.MOST_MEASURED", 5)
    monkeypatch.setattr("workers.compression.mixed_widths.swaps.SHORTLIST", 4)


def widths_of(out: Path) -> dict[str, int]:
    config = read_config(out)
    stems = [name.removesuffix(".weight_packed") for name in read_checkpoint(out).tensors if "weight_packed" in name]
    found = {stem: bits_of(stem, config) for stem in stems}
    return {stem: bits for stem, bits in found.items() if bits is not None}


@pytest.mark.parametrize(("score", "bits"), [("kl", 2.5), ("fisher", 3.3), ("error", 5.0)])
def test_the_written_folder_has_the_predicted_bytes_and_tied_groups(
    folder: Path, tmp_path: Path, context: CompressionContext, score: Any, bits: float
) -> None:
    step = MixedWidths(bits=bits, group_size=32, score=score)
    compress(folder, tmp_path, step, context)
    assert bytes_on_disk(tmp_path) == pytest.approx(predicted_bytes(read_checkpoint(folder), (step,)), rel=0.005)
    widths = widths_of(tmp_path)
    assert len(widths) == 2 * 7
    assert len(set(widths.values())) > 1
    for layer in range(2):
        for names in TIES:
            assert len({widths[stem] for stem in widths if layer_of(stem + ".") == layer and stem.endswith(names)}) == 1


@pytest.mark.parametrize("score", ["kl", "fisher"])
def test_widths_below_four_bits_may_have_zero_points(
    folder: Path, tmp_path: Path, context: CompressionContext, score: Any
) -> None:
    step = MixedWidths(bits=3.4, group_size=32, score=score, zero_points=True)
    compress(folder, tmp_path, step, context)
    assert bytes_on_disk(tmp_path) == pytest.approx(predicted_bytes(read_checkpoint(folder), (step,)), rel=0.005)
    widths, stored = widths_of(tmp_path), read_checkpoint(tmp_path).tensors
    assert {bits < 4 for bits in widths.values()} == {True, False}
    assert all((f"{stem}.weight_zero_point" in stored) == (bits < 4) for stem, bits in widths.items())
    assert torch.isfinite(load_model(tmp_path, "cpu")(torch.tensor([[1, 40, 7]])).logits).all()
    # It is no other candidate than before where it has none.
    plain = replace(step, zero_points=False)
    assert predicted_bytes(read_checkpoint(folder), (plain,)) < predicted_bytes(read_checkpoint(folder), (step,))
    assert "asym" in step.short_label() and "asym" not in plain.short_label()


@pytest.mark.parametrize("bits", [2.0, 8.0])
def test_where_one_choice_is_left_it_is_gptq(
    folder: Path, tmp_path: Path, context: CompressionContext, bits: float
) -> None:
    (tmp_path / "mixed").mkdir()
    (tmp_path / "gptq").mkdir()
    compress(folder, tmp_path / "mixed", MixedWidths(bits=bits, group_size=32, score="error"), context)
    gptq.compress(folder, tmp_path / "gptq", GPTQ(bits=int(bits), group_size=32), context)
    mixed, uniform = (StoredWeights(tmp_path / name, context.device) for name in ("mixed", "gptq"))
    for name in read_checkpoint(folder).targets():
        assert torch.equal(mixed.read(name)[0], uniform.read(name)[0]), name


def test_one_profile_serves_every_budget(
    folder: Path, tmp_path: Path, context: CompressionContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "first").mkdir()
    compress(folder, tmp_path / "first", MixedWidths(bits=3.0, group_size=32, score="error"), context)

    def fail(*_: Any) -> None:
        raise AssertionError("a profile was taken again")

    monkeypatch.setattr(sensitivity, "_build", fail)
    for step in (
        MixedWidths(bits=4.0, group_size=32, score="fisher"),
        MixedWidths(bits=3.0, group_size=32, score="kl"),
    ):
        out = tmp_path / step.score
        out.mkdir()
        compress(folder, out, step, context)
    with pytest.raises(AssertionError, match="taken again"):
        compress(folder, tmp_path, MixedWidths(bits=3.0, group_size=-1, score="error"), context)


def test_the_same_step_writes_the_same_folder(folder: Path, tmp_path: Path, context: CompressionContext) -> None:
    step = MixedWidths(bits=3.0, group_size=32)
    written = []
    for name in ("one", "two"):
        out = tmp_path / name
        out.mkdir()
        # Another store: everything is taken anew.
        report = compress(folder, out, step, replace(context, store=tmp_path / f"store-{name}"))
        written.append((report, {file.name: file.read_bytes() for file in out.iterdir()}))
    assert written[0] == written[1]


def test_swaps_lower_the_measured_divergence_and_the_report_says_what_the_folder_has(
    folder: Path, tmp_path: Path, context: CompressionContext
) -> None:
    report = compress(folder, tmp_path, MixedWidths(bits=3.0, group_size=32), context)
    said = re.search(r"KL ([\d.]+) before and ([\d.]+) after (\d+) swaps, (\d+) measured", "; ".join(report.notes))
    assert said is not None
    before, after = float(said[1]), float(said[2])
    assert after <= before
    assert int(said[4]) <= 5
    shown = measuring_batches(load_tokenizer(folder), context)
    found = Divergence(load_model(folder, "cpu"), shown).of(load_model(tmp_path, "cpu"))
    assert found == pytest.approx(after, abs=2e-5)
    assert re.match(r"widths: \d+ groups at \d bits", report.notes[0])


@pytest.mark.parametrize("tied", [True, False])
def test_embeddings_are_given_a_width_out_of_the_same_budget(
    save_llama: Any, tmp_path: Path, context: CompressionContext, tied: bool
) -> None:
    # The vocabulary counts with 8 bits: what it gives up below that goes to the layers.
    folder = save_llama(
        initializer_range=0.1, num_hidden_layers=2, hidden_size=128, intermediate_size=320,
        tie_word_embeddings=tied, vocab_size=1024 if tied else 512,
    )  # fmt: skip
    context = replace(context, parent_key=f"tied {tied}")
    step = MixedWidths(bits=2.5, group_size=32, embeddings=True)
    report = compress(folder, tmp_path, step, context)
    assert bytes_on_disk(tmp_path) == pytest.approx(predicted_bytes(read_checkpoint(folder), (step,)), rel=0.005)
    widths = widths_of(tmp_path)
    vocabulary = [bits for stem, bits in widths.items() if layer_of(stem + ".") is None]
    assert len(vocabulary) == (1 if tied else 2)
    assert len(set(vocabulary)) == 1
    assert f"embeddings at {vocabulary[0]}" in report.notes[0]
    layers = [bits for stem, bits in widths.items() if layer_of(stem + ".") is not None]
    assert (vocabulary[0] == 4) == (sum(layers) / len(layers) > 3)
    said = re.search(r"before and ([\d.]+) after", report.notes[-1])
    assert said is not None
    shown = measuring_batches(load_tokenizer(folder), context)
    found = Divergence(load_model(folder, "cpu"), shown).of(load_model(tmp_path, "cpu"))
    assert found == pytest.approx(float(said[1]), abs=2e-5)


def test_a_budget_that_nothing_fills_names_those_that_can_be_filled(
    save_llama: Any, tmp_path: Path, context: CompressionContext
) -> None:
    folder = save_llama(num_hidden_layers=1, intermediate_size=512)
    context = replace(context, parent_key="one layer")
    step = MixedWidths(bits=7.3, group_size=32, score="error")
    with pytest.raises(CandidateError, match="possible budgets nearby") as caught:
        compress(folder, tmp_path, step, context)
    possible = [float(text) for text in re.findall(r"\d\.\d{4}", str(caught.value))]
    assert len(possible) == 2
    assert possible[0] < 7.3 < possible[1]
    for bits in possible:
        compress(folder, tmp_path, MixedWidths(bits=bits, group_size=32, score="error"), context)


def test_a_profile_needs_a_store(folder: Path, tmp_path: Path, context: CompressionContext) -> None:
    with pytest.raises(StudyError, match="store"):
        compress(folder, tmp_path, MixedWidths(bits=3.0), replace(context, store=None))
