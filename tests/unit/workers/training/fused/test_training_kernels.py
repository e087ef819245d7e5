"""Norms, gates and losses as kernels against plain torch: on a GPU, or on a CPU with TRITON_INTERPRET=1."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest
import torch
from torch.nn import functional

pytest.importorskip("triton")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if not INTERPRETED and not torch.cuda.is_available():
    pytest.skip("Triton's kernels need a GPU or TRITON_INTERPRET=1", allow_module_level=True)

from tests.support.tiny_models import tiny_model  # noqa: E402
from workers.training.fused import modules  # noqa: E402
from workers.training.fused.gate_kernels import SiluGate  # noqa: E402
from workers.training.fused.loss_kernels import token_losses  # noqa: E402
from workers.training.fused.norm_kernels import RmsNorm  # noqa: E402
from workers.training.fused.rotation_kernels import Rotate  # noqa: E402
from workers.training.losses.divergences import cross_entropy, forward_kl  # noqa: E402

DEVICE = torch.device("cpu" if INTERPRETED else "cuda")


def same(found: torch.Tensor, wanted: torch.Tensor, tolerance: float = 2e-5) -> None:
    torch.testing.assert_close(found.float(), wanted.float(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize(("rows", "width"), [(3, 96), (600, 40), (1, 1024), (0, 64)])
def test_norm(rows: int, width: int, offset: float) -> None:
    torch.manual_seed(0)
    x = (3 * torch.randn(rows, width, device=DEVICE)).requires_grad_()
    weight = torch.rand(width, device=DEVICE).requires_grad_()
    found = RmsNorm.apply(x, weight, 1e-6, offset, torch.float32)
    wanted = functional.rms_norm(x, (width,), weight + offset, 1e-6)
    same(found, wanted)
    upstream = torch.randn_like(wanted)
    slopes = torch.autograd.grad((found * upstream).sum(), (x, weight))
    for one, other in zip(slopes, torch.autograd.grad((wanted * upstream).sum(), (x, weight)), strict=True):
        same(one, other, 2e-4)


def test_a_frozen_weight_of_a_norm_has_no_gradient() -> None:
    x = torch.randn(5, 32, device=DEVICE, requires_grad=True)
    RmsNorm.apply(x, torch.ones(32, device=DEVICE), 1e-6, 0.0, torch.float32).sum().backward()
    assert x.grad is not None


def test_gate() -> None:
    torch.manual_seed(0)
    gate, up = (torch.randn(7, 700, device=DEVICE, requires_grad=True) for _ in range(2))
    found, wanted = SiluGate.apply(gate, up), functional.silu(gate) * up
    same(found, wanted)
    for one, other in zip(
        torch.autograd.grad(found.square().sum(), (gate, up)),
        torch.autograd.grad(wanted.square().sum(), (gate, up)),
        strict=True,
    ):
        same(one, other)


@pytest.mark.parametrize(("heads", "width", "batch"), [(3, 8, 2), (14, 64, 1), (1, 20, 2)])
def test_rotation(heads: int, width: int, batch: int) -> None:
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    torch.manual_seed(0)
    lying = torch.randn(batch, 5, heads, width, device=DEVICE, requires_grad=True)
    x = lying.transpose(1, 2)
    cos, sin = torch.randn(2, batch, 5, width, device=DEVICE).unbind()
    found, wanted = Rotate.apply(x, cos, sin), apply_rotary_pos_emb(x, x, cos, sin)[0]
    same(found, wanted)
    upstream = torch.randn_like(wanted)
    slopes = [torch.autograd.grad((one * upstream).sum(), lying)[0] for one in (found, wanted)]
    same(*slopes)
    same(Rotate.apply(x, cos[:1], sin[:1]), apply_rotary_pos_emb(x, x, cos[:1], sin[:1])[0])


@pytest.mark.parametrize("vocabulary", [50, 5000])
@pytest.mark.parametrize(("has_teacher", "share"), [(True, 0.0), (True, 0.3), (False, 1.0)])
def test_losses(vocabulary: int, has_teacher: bool, share: float) -> None:
    torch.manual_seed(0)
    student = (4 * torch.randn(6, vocabulary)).requires_grad_()
    teacher = 4 * torch.randn(6, vocabulary)
    teacher[:, ::3] = -1e4
    ids = torch.randint(vocabulary, (6,))
    wanted = share * cross_entropy(student, ids) if share else torch.zeros(6)
    if has_teacher:
        wanted = wanted + (1 - share) * forward_kl(student, teacher)
    (slope,) = torch.autograd.grad(wanted.sum(), student)
    losses, gradient = token_losses(
        student.detach().to(DEVICE), teacher.to(DEVICE) if has_teacher else None, ids.to(DEVICE), share, True
    )
    same(losses.cpu(), wanted.detach(), 1e-4)
    assert gradient is not None
    same(gradient.cpu(), slope)
    again, none = token_losses(
        student.detach().to(DEVICE), teacher.to(DEVICE) if has_teacher else None, ids.to(DEVICE), share, False
    )
    assert none is None and torch.equal(again, losses)


def test_a_loss_that_is_not_finite_stays_so() -> None:
    student = torch.randn(2, 40, device=DEVICE)
    student[1, 7] = float("nan")
    losses, _ = token_losses(student, torch.randn(2, 40, device=DEVICE), None, 0.0, True)
    assert losses.isfinite().tolist() == [True, False]


def test_a_teacher_of_the_same_family_leaves_the_file_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules, "runs_kernels", lambda device: True)
    student, teacher = (tiny_model("llama", seed).to(DEVICE) for seed in (0, 1))
    file = sys.modules[type(student).__module__]
    plain = getattr(file, modules.ROTATION)
    with modules.fused([student, teacher]):
        assert getattr(file, modules.ROTATION) is not plain
    assert getattr(file, modules.ROTATION) is plain


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3"])
def test_a_model_says_and_learns_the_same(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules, "runs_kernels", lambda device: True)
    model: Any = tiny_model(family).to(DEVICE)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(parameter, 0.2, 0.7)
    ids = torch.arange(24, device=DEVICE).view(2, 12) + 3
    model.train()
    wanted = model(input_ids=ids).logits
    wanted.square().mean().backward()
    slopes = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    with modules.fused([model]):
        changed = {type(module).__name__ for module in model.modules() if "forward" in vars(module)}
        assert model.training
        file = sys.modules[type(model).__module__]
        assert getattr(file, modules.ROTATION).__module__ == modules.__name__
        found = model(input_ids=ids).logits
        found.square().mean().backward()
    assert not [module for module in model.modules() if "forward" in vars(module)]
    assert getattr(file, modules.ROTATION).__module__ == file.__name__
    assert any(name.endswith("RMSNorm") for name in changed)
    assert any(name.endswith("MLP") for name in changed) == (family in ("llama", "qwen2", "qwen3"))
    same(found, wanted, 1e-3)
    for name, parameter in model.named_parameters():
        same(parameter.grad, slopes[name], 1e-3)
