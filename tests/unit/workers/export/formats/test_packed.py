"""The compressed-tensors form holds the kept weights bit for bit, and transformers loads it by that library."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from search_spaces.errors import StudyError
from search_spaces.methods.pruners import Magnitude
from search_spaces.methods.quantizers import FP8, RTN, W8A8, BitsAndBytes, MixedWidths, QuantizeEmbeddings
from search_spaces.methods.registry import Step
from tests.unit.orchestrator.commands.exporting.test_export import adapted
from tests.unit.workers.export.formats.test_gguf_file import IDS, made
from workers.export.formats.grids import WeightForm
from workers.export.formats.packed import laid_on, packed_schemes, write_packed
from workers.loading.load import load_model
from workers.stored_forms.integer_grid import Grid, QuantizedWeight
from workers.stored_forms.quantization_config import WeightScheme

LAYER = "model.layers.0.self_attn"


def widths(folder: Path) -> set[int]:
    groups = json.loads((folder / "config.json").read_text())["quantization_config"]["config_groups"].values()
    return {group["weights"]["num_bits"] for group in groups}


@pytest.mark.parametrize(
    ("steps", "expected", "said"),
    [
        ((RTN(bits=4),), {4}, []),
        ((RTN(bits=3, symmetric=False, group_size=128),), {4}, ["weights of 3 bits lie on a grid of 4"]),
        ((RTN(bits=2, group_size=-1), QuantizeEmbeddings(bits=8)), {4}, ["weights of 2 bits", "embeddings are"]),
        ((Magnitude(sparsity=0.25), RTN(bits=8)), {8}, []),
        ((MixedWidths(bits=4.5, score="error", embeddings=True),), {4, 8}, ["embeddings are"]),
    ],
)
def test_transformers_loads_what_was_kept(
    steps: tuple[Step, ...], expected: set[int], said: list[str], tmp_path: Path
) -> None:
    kept = made(tmp_path, *steps)
    (out := tmp_path / "out").mkdir()
    notes = write_packed(kept, out)
    for start in said:
        assert any(note.startswith(start) for note in notes), notes
    assert widths(out) <= expected
    assert (out / "model.safetensors").is_file()
    ours = load_model(kept, "cpu")
    theirs = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
    with torch.inference_mode():
        found, expected_logits = theirs(IDS).logits, ours(IDS).logits
    # Decoded embeddings are rounded to bfloat16; all else is the same numbers.
    tolerance = 0.01 * expected_logits.abs().max() if "embeddings" in " ".join(notes) else 1e-4
    assert (found - expected_logits).abs().max() < tolerance


@pytest.mark.parametrize("step", [W8A8(), FP8()])
def test_layers_whose_inputs_are_quantized_go_out_as_they_are_stored(step: Step, tmp_path: Path) -> None:
    kept = made(tmp_path, step, QuantizeEmbeddings(bits=8))
    (out := tmp_path / "out").mkdir()
    assert write_packed(kept, out) == ["embeddings are decoded to bfloat16, for vLLM takes no packed ones"]
    (plain := tmp_path / "plain").mkdir()
    alone = load_file(made(plain, step) / "model.safetensors")
    written = load_file(out / "model.safetensors")
    assert written.keys() == alone.keys()
    layers = [name for name in alone if ".layers." in name]
    assert all(torch.equal(written[name].view(torch.uint8), alone[name].view(torch.uint8)) for name in layers)
    assert written["model.embed_tokens.weight"].dtype == torch.bfloat16


def test_weights_that_run_as_one_are_alike() -> None:
    forms = {
        f"{LAYER}.q_proj.weight": WeightForm((64, 256), 4, 128),
        f"{LAYER}.k_proj.weight": WeightForm((64, 256), 3, 64, False),
        f"{LAYER}.v_proj.weight": WeightForm((64, 256), 8, 256),
        f"{LAYER}.o_proj.weight": WeightForm((256, 64), 4, 64),
    }
    found = packed_schemes(forms)
    fused = WeightScheme(8, 64, False)
    assert [found[f"{LAYER}.{name}_proj.weight"] for name in "qkv"] == [fused] * 3
    assert found[f"{LAYER}.o_proj.weight"] == WeightScheme(4, -1, True)
    with pytest.raises(StudyError, match=r"group size of 48, and vLLM takes 32, 64, 128 or a scale for each row"):
        packed_schemes({f"{LAYER}.o_proj.weight": WeightForm((96, 96), 4, 48)})


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_wider_grid_changes_no_weight(symmetric: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    integers = torch.randint(-4, 4, (6, 256), generator=draw).to(torch.int8)
    scale = (torch.rand(6, 2, generator=draw) + 0.1).bfloat16()
    zero = None if symmetric else torch.randint(-4, 4, (6, 2), generator=draw).to(torch.int8)
    mask = torch.rand(6, 256, generator=draw) < 0.5
    weight = QuantizedWeight(integers, Grid(scale, zero), 3, mask)
    for scheme in (WeightScheme(8, 32, False), WeightScheme(4, 128, symmetric)):
        found = laid_on(weight, scheme)
        assert found.bits == scheme.bits
        assert found.grid.scale.shape[1] == 256 // scheme.group_size
        assert torch.equal(found.dequantized(), weight.dequantized())


def test_what_vllm_can_not_take_so_is_refused_with_the_way_out(tmp_path: Path) -> None:
    def refused(kept: Path, said: str) -> None:
        out = tmp_path / f"out-{len(list(tmp_path.iterdir()))}"
        out.mkdir()
        with pytest.raises(StudyError, match=said):
            write_packed(kept, out)

    for number, (steps, said) in enumerate(
        (
            ((BitsAndBytes(format="nf4"),), "bitsandbytes has a form of its own.*export without --format"),
            ((Magnitude(sparsity=0.25),), "no layer of it lies on a grid"),
            ((QuantizeEmbeddings(bits=8),), "no layer of it lies on a grid"),
        )
    ):
        (folder := tmp_path / str(number)).mkdir()
        refused(made(folder, *steps), said)
    (folder := tmp_path / "packed").mkdir()
    refused(adapted(made(folder, RTN(bits=4)), tmp_path / "adapted"), "--format merged-bf16 takes it")
