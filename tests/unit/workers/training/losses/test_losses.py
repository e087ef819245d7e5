"""Losses: values and gradients are those of the plain formulas, over the vocabulary and over a teacher's likeliest."""

from __future__ import annotations

import itertools

import pytest
import torch

from workers.training.losses import divergences as losses
from workers.training.losses.cached import Likeliest, cached_divergence, likeliest, log_outcomes
from workers.training.losses.divergences import SKEW, cross_entropy, divergence, forward_kl, reverse_kl, skew_kl

TOKENS, VOCABULARY = 7, 50
NAMES = ("forward_kl", "reverse_kl", "skew_kl")


@pytest.fixture(autouse=True)
def three_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "_ROWS_BYTES", 3 * 4 * VOCABULARY)


@pytest.fixture
def student() -> torch.Tensor:
    torch.manual_seed(0)
    return (3 * torch.randn(TOKENS, VOCABULARY, dtype=torch.float64)).requires_grad_()


@pytest.fixture
def teacher() -> torch.Tensor:
    torch.manual_seed(1)
    return 3 * torch.randn(TOKENS, VOCABULARY, dtype=torch.float64)


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.tensor([0, 7, 49, 12, 12, 3, 30])


def plain(name: str, q: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """The formulas as the papers write them; q, p: probabilities (tokens, outcomes)."""
    mixed = SKEW * p + (1 - SKEW) * q
    terms = {"forward_kl": p * (p / q).log(), "reverse_kl": q * (q / p).log(), "skew_kl": p * (p / mixed).log()}
    return terms[name].sum(-1)


def bucketed(probabilities: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Probabilities of the ids and of all others together."""
    others = torch.ones_like(probabilities).scatter(1, ids, 0.0)
    rest = (probabilities * others).sum(-1, keepdim=True)
    return torch.cat([probabilities.gather(1, ids), *([rest] if ids.shape[1] < VOCABULARY else [])], -1)


def same(found: torch.Tensor, expected: torch.Tensor, student: torch.Tensor) -> None:
    """Same values, and the same gradient when every token's loss is weighed differently."""
    weights = torch.linspace(-1, 2, TOKENS, dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    (slope,) = torch.autograd.grad((found * weights).sum(), student)
    (wanted,) = torch.autograd.grad((expected * weights).sum(), student)
    torch.testing.assert_close(slope, wanted, rtol=1e-10, atol=1e-12)


def test_cross_entropy_is_the_plain_formula(student: torch.Tensor, ids: torch.Tensor) -> None:
    same(cross_entropy(student, ids), torch.nn.functional.cross_entropy(student, ids, reduction="none"), student)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_divergences_are_the_plain_formulas(
    name: str, share: float, student: torch.Tensor, teacher: torch.Tensor, ids: torch.Tensor
) -> None:
    expected = (1 - share) * plain(name, student.softmax(-1), teacher.softmax(-1))
    expected = expected + share * torch.nn.functional.cross_entropy(student, ids, reduction="none")
    same(divergence(name, student, teacher, ids, share), expected, student)


def test_each_divergence_has_its_name(student: torch.Tensor, teacher: torch.Tensor) -> None:
    for name, function in (("forward_kl", forward_kl), ("reverse_kl", reverse_kl), ("skew_kl", skew_kl)):
        assert torch.equal(function(student, teacher), divergence(name, student, teacher))
        assert torch.all(function(teacher, teacher).abs() < 1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("k", [1, 5, VOCABULARY - 1, VOCABULARY])
def test_cached_divergences_are_the_plain_formulas_over_buckets(
    name: str, k: int, student: torch.Tensor, teacher: torch.Tensor, ids: torch.Tensor
) -> None:
    said = likeliest(teacher, k)
    q = bucketed(student.softmax(-1), said.ids)
    expected = 0.7 * plain(name, q, said.outcomes().double().exp())
    expected = expected + 0.3 * torch.nn.functional.cross_entropy(student, ids, reduction="none")
    same(cached_divergence(name, student, said, ids, share=0.3), expected, student)


@pytest.mark.parametrize("name", NAMES)
def test_buckets_never_say_more_than_the_vocabulary(
    name: str, student: torch.Tensor, teacher: torch.Tensor, ids: torch.Tensor
) -> None:
    # The data processing inequality: merging outcomes brings distributions nearer, each step a little more.
    exact = divergence(name, student, teacher)
    by_k = [cached_divergence(name, student, likeliest(teacher, k), ids) for k in (2, 10, 40, VOCABULARY)]
    for fewer, more in itertools.pairwise(by_k):
        assert torch.all(fewer <= more + 1e-6)
    assert torch.all(by_k[0] < exact)
    torch.testing.assert_close(by_k[-1], exact, rtol=1e-5, atol=1e-6)


def test_likeliest_keeps_the_whole_mass(teacher: torch.Tensor) -> None:
    said = likeliest(teacher.float(), 5)
    probabilities = teacher.softmax(-1).float()
    assert said.tail is not None
    assert torch.equal(said.ids, probabilities.topk(5).indices)
    torch.testing.assert_close(said.logs.exp().sum(-1) + said.tail.exp(), torch.ones(TOKENS))
    rounded = Likeliest(said.ids, said.logs.bfloat16().float(), said.tail)
    torch.testing.assert_close(rounded.outcomes().exp().sum(-1), torch.ones(TOKENS))
    assert torch.equal(said.rows(slice(2, 4)).ids, said.ids[2:4])
    assert likeliest(teacher.float(), VOCABULARY).tail is None


def test_a_tail_of_almost_nothing_is_exact() -> None:
    # 1 less the others would be 0 in float32, and its logarithm infinite.
    logits = torch.tensor([[60.0, 0.0, 1.0, -2.0]], requires_grad=True)
    found, _ = log_outcomes(logits, torch.tensor([[0]]), torch.tensor([0]))
    exact = torch.tensor([0.0, 1.0, -2.0]).logsumexp(0) - 60.0
    torch.testing.assert_close(found[0, 1], exact)
    found[0, 1].backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad[0, 1:], torch.tensor([0.0, 1.0, -2.0]).softmax(0))


def test_large_logits_stay_finite(ids: torch.Tensor) -> None:
    student = torch.full((TOKENS, VOCABULARY), -1e4).scatter_(1, ids[:, None], 1e4).requires_grad_()
    teacher = student.detach().flip(-1)
    for name in ("forward_kl", "skew_kl"):
        found = divergence(name, student, teacher, ids, 0.5)
        found.sum().backward()
        assert torch.isfinite(found).all()
    assert student.grad is not None and torch.isfinite(student.grad).all()


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_logits_lose_only_their_own_rounding(
    name: str, student: torch.Tensor, teacher: torch.Tensor, ids: torch.Tensor
) -> None:
    half = student.detach().bfloat16().requires_grad_()
    exact = half.detach().double().requires_grad_()
    whole, few = teacher.bfloat16(), likeliest(teacher, 9)
    for found, expected in (
        (divergence(name, half, whole, ids, 0.2), divergence(name, exact, whole, ids, 0.2)),
        (cached_divergence(name, half, few, ids), cached_divergence(name, exact, few, ids)),
    ):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
        (slope,) = torch.autograd.grad(found.sum(), half)
        (wanted,) = torch.autograd.grad(expected.sum(), exact)
        torch.testing.assert_close(slope.double(), wanted, rtol=2e-2, atol=1e-5)


@pytest.mark.parametrize("kind", ["cross_entropy", "live", "cached"])
def test_a_loss_keeps_one_tensor_of_the_vocabularys_size(
    kind: str, student: torch.Tensor, teacher: torch.Tensor, ids: torch.Tensor
) -> None:
    logits = student.detach().bfloat16().requires_grad_()
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        if kind == "cross_entropy":
            cross_entropy(logits, ids)
        elif kind == "live":
            divergence("skew_kl", logits, teacher.bfloat16(), ids, 0.5)
        else:
            cached_divergence("skew_kl", logits, likeliest(teacher, 2), ids, 0.5)
    large = [size for size in kept.values() if size >= logits.nbytes]
    assert large == [logits.nbytes]


def test_a_gradient_can_be_taken_once(student: torch.Tensor, ids: torch.Tensor) -> None:
    total = cross_entropy(student, ids).sum()
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()


def test_logits_of_another_width_are_refused(student: torch.Tensor, teacher: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"\(7, 50\), the teacher's \(7, 49\)"):
        forward_kl(student, teacher[:, :-1])
    with pytest.raises(ValueError, match="needs the reference's ids"):
        divergence("forward_kl", student, teacher, share=0.5)
