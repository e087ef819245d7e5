"""HQQ's kernel against plain torch: on a GPU as it ships, on a CPU with TRITON_INTERPRET=1."""

from __future__ import annotations

import os

import pytest
import torch

pytest.importorskip("triton")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if not INTERPRETED and not torch.cuda.is_available():
    pytest.skip("Triton's kernels need a GPU or TRITON_INTERPRET=1", allow_module_level=True)

from workers.compression.kernels.hqq_kernels import fit_on_gpu  # noqa: E402
from workers.compression.quantization import hqq  # noqa: E402
from workers.compression.quantization.hqq import p_norm  # noqa: E402
from workers.stored_forms.integer_grid import Grid, fit_grid  # noqa: E402

DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
ALTERNATION = {"norm": hqq.NORM, "beta": hqq.BETA, "kappa": hqq.KAPPA, "iterations": hqq.ITERATIONS}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])
@pytest.mark.parametrize(("bits", "group_size"), [(4, 64), (3, 32), (2, 128), (8, 64)])
def test_a_group_is_fitted_as_well_as_by_torch(bits: int, group_size: int, symmetric: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    weight = (torch.distributions.StudentT(4.0).sample((41, 256)) * 0.02).to(dtype)
    # A group of zeros has no scale of its own.
    weight[3, :group_size] = 0
    # On a CPU `fit` is torch's way.
    expected = hqq.fit(weight, bits, group_size, symmetric)
    start = fit_grid(weight, bits, group_size, symmetric)
    on_device = Grid(start.scale.to(DEVICE), None if start.zero_point is None else start.zero_point.to(DEVICE))
    found = Grid(fit_on_gpu(weight.to(DEVICE), on_device, bits, **ALTERNATION).cpu(), start.zero_point)
    # Triton's interpreter cuts a bfloat16 off where a GPU rounds it.
    assert INTERPRETED or (found.scale == expected.scale).float().mean() > 0.98
    harm, wanted = p_norm(weight, found, bits), p_norm(weight, expected, bits)
    assert INTERPRETED or torch.allclose(harm, wanted, rtol=2e-3, atol=1e-7)
    assert float(harm.sum()) == pytest.approx(float(wanted.sum()), rel=0.05 if INTERPRETED else 2e-3)
    assert float(harm.sum()) < float(p_norm(weight, start, bits).sum())
