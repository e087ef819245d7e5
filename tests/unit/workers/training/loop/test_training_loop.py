"""The training loop: what a step is, how a training goes on, and what it tells on the way."""

from __future__ import annotations

import copy
import multiprocessing
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tests.support.tiny_models import tiny_model
from tests.support.tiny_training import VOCABULARY, TinyLearner, tiny_pairs, tiny_task, train_slowly, weights
from workers.runtime.training_progress import MEASURED_SECONDS, Progress, StepWindow, evaluation_due
from workers.training.data.batches import micro_batches
from workers.training.data.prefetching import Prefetcher, prepare_step
from workers.training.data.sampling import choose_rows
from workers.training.data.tokenized_pairs import TokenizedPairs
from workers.training.loop.checkpoints import find_checkpoints
from workers.training.loop.history import History
from workers.training.loop.learner import Learner
from workers.training.loop.one_device import train
from workers.training.loop.optimizer import adamw, apply_gradients
from workers.training.loop.schedules import rate_share


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> TokenizedPairs:
    return tiny_pairs(tmp_path_factory.mktemp("pairs"))


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def trained(pairs: TokenizedPairs, checkpoints: Path, learner: nn.Module | None = None, **changes: Any) -> Any:
    """(weights, Trained) of a tiny training."""
    learner = learner if learner is not None else TinyLearner()
    done = train(tiny_task(learner, pairs, checkpoints, **changes))
    return weights(learner), done


def test_a_training_is_adamw_on_the_mean_loss_of_each_steps_target_tokens(
    pairs: TokenizedPairs, tmp_path: Path
) -> None:
    learner = TinyLearner(dropout=0.0)
    plain = copy.deepcopy(learner)
    matrices = [parameter for parameter in plain.parameters() if parameter.requires_grad and parameter.ndim == 2]
    others = [parameter for parameter in plain.parameters() if parameter.requires_grad and parameter.ndim != 2]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.0)
    tokens = steps = 0
    while tokens < 2000:
        batch = micro_batches(pairs, choose_rows(pairs, steps, 3, 7), 10**6)
        count = sum(one.target_tokens for one in batch)
        (sum(plain(one).sum for one in batch) / count).backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * rate_share("wsd", 3, steps, tokens, 2000)
        optimizer.step()
        optimizer.zero_grad()
        tokens += sum(one.tokens for one in batch)
        steps += 1
    got, done = trained(pairs, tmp_path, learner)
    assert (done.tokens, done.steps) == (tokens, steps)
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(got[name], parameter.detach(), rtol=1e-4, atol=1e-5)
    assert not learner.training and all(parameter.grad is None for parameter in learner.parameters())


def test_smaller_micro_batches_are_the_same_step(pairs: TokenizedPairs, tmp_path: Path) -> None:
    whole, _ = trained(pairs, tmp_path / "whole", TinyLearner(dropout=0.0))
    learner = TinyLearner(dropout=0.0)
    parts, _ = trained(pairs, tmp_path / "parts", learner, micro_tokens=90)
    assert max(learner.sizes) <= 90
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-3, atol=1e-4)


def test_the_budget_ends_with_the_step_that_reaches_it_and_0_is_once_through(
    pairs: TokenizedPairs, tmp_path: Path
) -> None:
    _, done = trained(pairs, tmp_path / "one", tokens=1)
    assert done.steps == 1 and done.tokens > 1
    _, once = trained(pairs, tmp_path / "once", tokens=0, batch=5)
    assert once.tokens >= pairs.tokens
    assert once.steps == pytest.approx(len(pairs) / 5, abs=1)


def test_training_lowers_the_loss_and_leaves_what_is_frozen_and_torchs_generators(
    pairs: TokenizedPairs, tmp_path: Path
) -> None:
    torch.manual_seed(5)
    learner = TinyLearner()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    got, done = trained(pairs, tmp_path, learner, tokens=6000)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(got["frozen"], torch.ones(3))
    losses = [point.loss for point in done.curve if point.loss is not None]
    assert losses[-1] < losses[0] - 0.3
    assert done.curve[0].tokens == 0 and done.curve[-1].tokens == done.tokens


def test_a_learner_of_nothing_to_train_is_refused(pairs: TokenizedPairs, tmp_path: Path) -> None:
    learner = TinyLearner()
    for parameter in learner.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to train"):
        trained(pairs, tmp_path, learner)


def test_a_killed_training_goes_on_and_ends_bitwise_where_it_would_have(pairs: TokenizedPairs, tmp_path: Path) -> None:
    outs = [tmp_path / "one.safetensors", tmp_path / "other.safetensors"]

    # One process imports torch, and each training is a fork of it. What other tests set in this one, such as threads,
    # decides the last bits of a sum.
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["tests.support.tiny_training", "workers.training.loop.one_device"])

    def started(out: Path, folder: str = "killed") -> Any:
        process = server.Process(target=train_slowly, args=(pairs.folder, tmp_path / folder, out, 4000))
        process.start()
        return process

    def ended(process: Any) -> bool:
        process.join(120)
        return process.exitcode == 0

    process = started(outs[0])
    until = time.monotonic() + 120
    while not [one for one in find_checkpoints(tmp_path / "killed") if one.standing.steps >= 10]:
        assert process.is_alive() and time.monotonic() < until
        time.sleep(0.01)
    process.kill()
    process.join()
    assert not outs[0].exists()
    reached = find_checkpoints(tmp_path / "killed")[-1].standing.steps
    assert ended(started(tmp_path / "whole.safetensors", "whole"))
    assert 10 <= reached < find_checkpoints(tmp_path / "whole")[-1].standing.steps
    # Two workers go on with it at once, as two candidates with the same training may.
    assert all(ended(process) for process in [started(out) for out in outs])
    whole = load_file(tmp_path / "whole.safetensors")
    assert all(same(load_file(out), whole) for out in outs)


@pytest.mark.parametrize("schedule", ["wsd", "inverse_sqrt"])
def test_a_larger_budget_goes_on_from_a_smaller_ones_checkpoint_bitwise(
    pairs: TokenizedPairs, tmp_path: Path, schedule: str
) -> None:
    _, first = trained(pairs, tmp_path / "both", schedule=schedule, tokens=2000)
    learner = TinyLearner()
    on, second = trained(pairs, tmp_path / "both", learner, schedule=schedule, tokens=4000)
    scratch, alone = trained(pairs, tmp_path / "alone", schedule=schedule, tokens=4000)
    assert same(on, scratch)
    assert second.steps == alone.steps > first.steps
    steady = 1600 if schedule == "wsd" else 2000
    assert learner.calls <= alone.steps * (4000 - steady) / 4000 + 1


def test_a_llama_goes_on_from_a_smaller_budget_bitwise(pairs: TokenizedPairs, tmp_path: Path) -> None:
    step = tiny_task(TinyLearner(), pairs, tmp_path).step
    ends = []
    for folder, budgets in (("both", (1000, 2000)), ("alone", (2000,))):
        for tokens in budgets:
            learner = Learner(tiny_model("llama", vocab_size=VOCABULARY), step, None)
            done = trained(pairs, tmp_path / folder, learner, tokens=tokens, micro_tokens=80)[1]
        ends.append(weights(learner))
        losses = [point.loss for point in done.curve if point.loss is not None]
        assert losses[-1] < losses[0]
    assert same(*ends)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_trains_in_bfloat16_and_goes_on(pairs: TokenizedPairs, tmp_path: Path) -> None:
    device = torch.device("cuda", 0)
    for folder, budgets in (("both", (2000, 6000)), ("alone", (6000,))):
        for tokens in budgets:
            learner = TinyLearner().to(device)
            state = torch.cuda.get_rng_state(device)
            done = trained(pairs, tmp_path / folder, learner, device=device, tokens=tokens, rate=1e-2)[1]
            assert torch.equal(torch.cuda.get_rng_state(device), state)
        losses = [point.loss for point in done.curve if point.loss is not None]
        assert done.tokens >= 6000 and losses[-1] < losses[0]
    spoilt = TinyLearner(spoil=lambda call: call == 13).to(device)
    _, back = trained(pairs, tmp_path / "spoilt", spoilt, device=device)
    assert len(back.notes) == 1
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights(spoilt).values())


def test_a_smaller_budget_does_not_go_on_from_where_a_larger_one_was_past_its_decay(
    pairs: TokenizedPairs, tmp_path: Path
) -> None:
    trained(pairs, tmp_path / "both", tokens=4000)
    smaller, done = trained(pairs, tmp_path / "both", tokens=2000)
    scratch, _ = trained(pairs, tmp_path / "alone", tokens=2000)
    assert same(smaller, scratch)
    assert done.tokens < 2200


def test_a_training_that_has_ended_is_not_done_again(pairs: TokenizedPairs, tmp_path: Path) -> None:
    first, done = trained(pairs, tmp_path, held_out=lambda: 31.0)
    learner = TinyLearner()
    again, told = trained(pairs, tmp_path, learner, held_out=lambda: pytest.fail("scored again"))
    assert same(first, again)
    assert learner.calls == 0
    assert (told.tokens, told.steps, told.curve) == (done.tokens, done.steps, done.curve)


def test_held_out_quality_is_taken_before_on_the_way_and_after_in_eval_mode(
    pairs: TokenizedPairs, tmp_path: Path
) -> None:
    learner = TinyLearner()
    scores: list[float] = []

    def held_out() -> float:
        assert not learner.training and not torch.is_grad_enabled()
        torch.rand(5)
        scores.append(30.0 + len(scores))
        return scores[-1]

    got, done = trained(pairs, tmp_path / "scored", learner, held_out=held_out)
    assert (done.chrf_before, done.chrf_after) == (30.0, scores[-1])
    assert [point.chrf for point in done.curve if point.chrf is not None] == scores
    assert 5 <= len(scores) <= 7
    unscored, other = trained(pairs, tmp_path / "unscored")
    assert same(got, unscored)
    assert (other.chrf_before, other.chrf_after) == (None, None)


def test_held_out_quality_takes_no_more_than_a_tenth_of_the_time() -> None:
    assert evaluation_due(200, 1000, whole_s=100.0, evaluation_s=2.0, count=3)
    assert not evaluation_due(199, 1000, whole_s=100.0, evaluation_s=2.0, count=0)
    assert not evaluation_due(200, 1000, whole_s=100.0, evaluation_s=4.0, count=2)


def test_reports_come_about_once_a_second_with_speed_loss_and_time_left(pairs: TokenizedPairs, tmp_path: Path) -> None:
    told: list[Progress] = []
    now = [0.0]

    class Ticking(TinyLearner):
        def forward(self, batch: Any) -> Any:
            now[0] += 0.3
            return super().forward(batch)

    _, done = trained(
        pairs, tmp_path, Ticking(), report=told.append, clock=lambda: now[0], held_out=lambda: 40.0, checkpoint_steps=0,
        tokens=6000,
    )  # fmt: skip
    assert len(told) == pytest.approx(done.steps * 0.3, rel=0.3)
    assert [one.tokens for one in told] == sorted({one.tokens for one in told})
    last = told[-1]
    assert (last.name, last.tokens, last.of, last.chrf, last.left_s) == ("finetune", done.tokens, 6000, 40.0, 0.0)
    for one in told[:-1]:
        assert one.tokens_s == pytest.approx(done.tokens / done.steps / 0.3, rel=0.5)
        assert one.left_s is None or one.left_s == pytest.approx((6000 - one.tokens) / one.tokens_s)
        assert 0.0 < one.loss < 5.0
    # A step takes 0.3 s, and a time left is told from the tenth second after the first step on.
    known = [one.left_s is not None for one in told]
    assert known == sorted(known) and known.count(False) * 1.2 == pytest.approx(MEASURED_SECONDS, abs=1.5)


def test_a_slow_first_look_and_one_alone_tell_no_time_left() -> None:
    told: list[Progress] = []
    now = [0.0]
    history = History("finetune", 1000, told.append, lambda: now[0])
    for tokens, seconds in ((10, 60.0), (110, 9.0), (210, 2.0), (310, 2.0)):
        now[0] += seconds
        history.add(StepWindow(tokens - history_tokens(told), 5, 5.0, seconds), tokens)
    assert [one.left_s for one in told] == [None, None, pytest.approx(790 / 50), pytest.approx(690 / 50)]
    history.add(StepWindow(690, 5, 5.0, 0.1), 1000)
    assert told[-1].left_s == 0.0


def history_tokens(told: list[Progress]) -> int:
    return told[-1].tokens if told else 0


def test_a_step_that_is_not_finite_leaves_weights_and_moments_as_they_are() -> None:
    weight = nn.Parameter(torch.ones(3, 3))
    optimizer = adamw({"weight": weight}, 0.1)
    weight.grad = torch.full((3, 3), 5.0)
    assert apply_gradients(optimizer, 0.1).item() == pytest.approx(15.0)
    before = {"weight": weight.detach().clone()} | {name: one.clone() for name, one in optimizer.state[weight].items()}
    for bad in (float("nan"), float("inf")):
        weight.grad = torch.full((3, 3), bad)
        apply_gradients(optimizer, 0.1)
        assert same({"weight": weight.detach(), **optimizer.state[weight]}, before)


def test_only_matrices_decay_and_scales_are_none() -> None:
    named = {
        "weight": nn.Parameter(torch.ones(2, 2)),
        "norm.weight": nn.Parameter(torch.ones(2)),
        "proj.weight_scale": nn.Parameter(torch.ones(2, 2)),
    }
    groups = adamw(named, 0.5).param_groups
    assert [(len(group["params"]), group["weight_decay"]) for group in groups] == [(1, 0.5), (2, 0.0)]
    assert groups[0]["params"][0] is named["weight"]


def test_work_is_prepared_ahead_in_order_and_a_threads_error_is_raised(pairs: TokenizedPairs) -> None:
    def make(step: int) -> Any:
        if step == 6:
            raise OSError("the pairs are gone")
        return prepare_step(pairs, step, batch=4, seed=1, micro_tokens=64, fewest=64, packs=False, pinned=False)

    feed = Prefetcher(make, 3)
    try:
        for step in (3, 4, 5):
            rows = [row for batch in feed.next().batches for row in batch.rows]
            assert sorted(rows) == sorted(choose_rows(pairs, step, 4, 1))
        with pytest.raises(OSError, match="are gone"):
            feed.next()
    finally:
        feed.close()
