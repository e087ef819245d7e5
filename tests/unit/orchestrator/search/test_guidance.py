"""A guided search without Ray: the profile first, then what it says; the same again from a ledger; failures close
options."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from orchestrator.results.findings import ProbeFinding, TrialFinding
from orchestrator.search.guidance import LEAST_TAU, Guidance
from orchestrator.search.proposals import Proposal, Proposer
from orchestrator.search.searcher import ParetoSearcher
from orchestrator.statistics.frontier import Objectives
from orchestrator.statistics.hypervolume import hypervolume_over_log_bytes
from orchestrator.study.values import Target
from search_spaces.candidate import Candidate
from search_spaces.methods.pruners import RemoveHeads, TrimVocabulary
from search_spaces.methods.quantizers import GPTQ, HQQ, RTN, MixedWidths
from search_spaces.methods.registry import Step
from search_spaces.methods.trainers import Finetune
from search_spaces.outcome import Failure
from search_spaces.sizes.tensor_table import Checkpoint
from search_spaces.spaces.enumeration import Rows, enumerate_rows
from search_spaces.spaces.offers import offer_for
from search_spaces.spaces.registry import SPACES
from search_spaces.spaces.training_suggestions import BUDGETS, TRAINED
from tests.support.examples import BASE, llama_table
from tests.support.guided_searches import WHOLE, Searched, nats, quality, search, trainers
from workers.checkpoints.base_model import open_base
from workers.plan.evaluation_plan import PROFILE_SPLIT


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return open_base("models/captions", None, False, lambda *_: None).checkpoint


@pytest.fixture(scope="module")
def rows(checkpoint: Checkpoint) -> Rows:
    found = enumerate_rows(SPACES["joint"], offer_for(checkpoint), checkpoint)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def rows_trained(checkpoint: Checkpoint) -> Rows:
    found = enumerate_rows(SPACES["joint"], offer_for(checkpoint, training=True), checkpoint)
    assert found is not None
    return found


def test_the_profile_comes_first_and_takes_no_trial(checkpoint: Checkpoint) -> None:
    done = search(checkpoint, 12)
    splits = [proposal.split for proposal in done.proposals]
    probes = splits.count(PROFILE_SPLIT)
    assert splits == ["dev", *[PROFILE_SPLIT] * probes, *["dev"] * 11]
    assert probes == 11
    assert all(len(one.candidate.steps) == 1 for one in done.proposals if one.split == PROFILE_SPLIT)


def test_eight_bits_and_mixed_widths_are_told_and_not_probed(rows: Rows) -> None:
    probed = Guidance(rows, int(rows.bytes[0]), 0.5).probes
    assert {step.bits for (step,) in probed if isinstance(step, GPTQ)} == {4, 3, 2}
    assert not any(isinstance(step, MixedWidths) or getattr(step, "bits", 0) == 8 for (step,) in probed)
    # Of five vocabularies the largest and the smallest.
    assert [step.tokens for (step,) in probed if isinstance(step, TrimVocabulary)] == [6016, 1024]


def test_a_guided_search_finds_a_frontier_without_holes(checkpoint: Checkpoint) -> None:
    done = search(checkpoint, 16)
    points = {one.candidate: quality(one.candidate.steps) / WHOLE for one in done.dev}
    useful = sorted(checkpoint.bytes / one.predicted_bytes for one in done.dev if points[one.candidate] > 0.8)
    assert max(useful) > 4.5
    assert len([one for one in done.dev if points[one.candidate] < 0.5 and one.why]) <= 1
    assert all(smaller < 2.2 * larger for larger, smaller in pairwise(useful))
    assert len({one.candidate.digest for one in done.dev}) == len(done.dev) == 16


def test_why_stands_in_the_proposal(checkpoint: Checkpoint) -> None:
    done = search(checkpoint, 12)
    chosen = [one for one in done.dev if one.why]
    assert len(chosen) >= 9
    for one in chosen:
        assert set(one.why) == {"kept", "low", "high", "gain", "seconds"}
        assert one.why["low"] <= one.why["kept"] <= one.why["high"]
    assert not done.dev[0].why


@pytest.mark.parametrize("after", [1, 4, 14, 15, 18, 22])
def test_a_search_that_was_stopped_proposes_what_it_would_have(checkpoint: Checkpoint, after: int) -> None:
    whole = search(checkpoint, 16)
    begun = search(checkpoint, 16, stop_after=after)
    resumed = search(checkpoint, 16, known=begun.records)
    keys = [record.key for record in whole.records]
    assert [record.key for record in resumed.records] == keys


@pytest.mark.parametrize("side_by_side", [2, 8])
def test_trials_side_by_side_are_all_different(checkpoint: Checkpoint, side_by_side: int) -> None:
    done = search(checkpoint, 20, side_by_side=side_by_side)
    counted = Counter(proposal.key for proposal in done.proposals)
    assert max(counted.values()) == 1
    assert len(done.dev) == 20


def test_a_probe_that_fails_takes_its_option_out(checkpoint: Checkpoint) -> None:
    def refuses(proposal: Proposal) -> Failure | None:
        (step,) = proposal.candidate.steps or (None,) if len(proposal.candidate.steps) < 2 else (None,)
        if proposal.split == PROFILE_SPLIT and isinstance(step, RemoveHeads):
            return Failure("not_finite", "divergence", "logits are not finite")
        return None

    done = search(checkpoint, 16, fails=refuses)
    chosen = [one.candidate.steps for one in done.dev if one.why]
    assert not any(isinstance(step, RemoveHeads) for steps in chosen for step in steps)
    assert len(done.dev) == 16


def test_the_sampler_has_a_share(checkpoint: Checkpoint) -> None:
    done = search(checkpoint, 24)
    sampled = [at for at, one in enumerate(done.dev) if not one.why]
    # The baseline, and each eighth after the first twelve.
    assert sampled == [0, 15, 23]


def test_others_have_no_share_of_a_search_for_a_target(rows: Rows) -> None:
    plain, aimed = (Guidance(rows, int(rows.bytes[0]), 0.5, target) for target in (None, 0.95))
    assert [begun for begun in range(32) if plain.leaves_to_others(begun, waiting=False)] == [15, 23, 31]
    assert [begun for begun in range(32) if plain.leaves_to_others(begun, waiting=True)] == [7, 15, 23, 31]
    assert not any(aimed.leaves_to_others(begun, waiting) for begun in range(32) for waiting in (False, True))


def test_a_search_ends_where_nothing_is_expected_to_add_enough_in_its_time(checkpoint: Checkpoint) -> None:
    whole, soon = (search(checkpoint, 20, least_rate=rate) for rate in (1e-9, 1.0))
    assert len(whole.dev) == 20 and not whole.proposer.gain_is_spent
    # Gains are believed once 12 rows are known.
    assert 12 <= len(soon.dev) <= 14 and soon.proposer.gain_is_spent and not soon.proposer.aim_is_met
    assert [one.candidate for one in soon.dev] == [one.candidate for one in whole.dev[: len(soon.dev)]]
    # One that goes on stops as well.
    again = search(checkpoint, 20, known=soon.records, least_rate=1.0)
    assert again.dev == [] and again.proposer.gain_is_spent


def test_training_enters_where_it_pays(checkpoint: Checkpoint) -> None:
    done = search(checkpoint, 24, training=True)
    whole, untrained = done.dev[0].predicted_bytes, search(checkpoint, 24)
    chosen = [one for one in done.dev if one.why]
    trained = [one for one in chosen if trainers(one.candidate.steps)]
    # Before anything was trained only where much is lost: elsewhere it takes its seconds and wins little.
    assert 0 < len(trained) < len(chosen)
    assert all(whole / one.predicted_bytes > 5.0 for one in trained[:3])

    def best(at: Searched) -> float:
        small = [one for one in at.dev if whole / one.predicted_bytes >= 6.0]
        return max(quality(one.candidate.steps) / WHOLE for one in small)

    assert best(done) > best(untrained) + 0.03


def test_budgets_rise_beyond_the_samplers_and_go_on_after_a_stop(checkpoint: Checkpoint) -> None:
    done = search(checkpoint, 26, training=True)
    budgets = [max((step.tokens for step in trainers(one.candidate.steps)), default=0) for one in done.dev]
    longest = 4 * BUDGETS[-1]
    assert max(budgets[: budgets.index(longest)]) == BUDGETS[-1], "a quarter of it was tried before"
    first = next(one for one in done.dev if one.why and trainers(one.candidate.steps))
    assert [(step.tokens, step.beams) for step in trainers(first.candidate.steps)] == [(BUDGETS[-1], 0)]
    cut = [record.candidate for record in done.records].index(done.dev[budgets.index(longest)].candidate) + 1
    again = search(checkpoint, 26, known=done.records[:cut], training=True)
    assert [one.candidate for one in again.dev] == [one.candidate for one in done.dev[budgets.index(longest) + 1 :]]


def test_references_stay_in_the_loss_where_they_are_learnt_to_help(checkpoint: Checkpoint) -> None:
    def share(references: float) -> float:
        """Of the trainings after the first four how many have references in their loss."""
        done = search(checkpoint, 32, training=True, references=references)
        trained = [step for one in done.dev if one.why for step in trainers(one.candidate.steps)]
        assert len(trained) >= 8
        later = [step.reference_share > 0.0 for step in trained[4:]]
        return sum(later) / len(later)

    assert share(0.03) > 0.6
    assert share(-0.03) < 0.3


def test_no_training_is_begun_that_would_outlast_the_budget(rows_trained: Rows) -> None:
    guidance = Guidance(rows_trained, int(rows_trained.bytes[0]), 0.5)
    for steps in guidance.probes:
        guidance.probed(steps, nats(steps), 1.0)
    guidance.tell((), int(rows_trained.bytes[0]), 1.0, None, 3.0, stands=True)
    chosen = []
    for left in (math.inf, 30.0):
        closed: list[tuple[Step, ...]] = []
        while len(closed) < 40 and (found := guidance.propose(closed, left)) is not None:
            closed.append(found[1])
        chosen.append(closed)
    assert any(trainers(steps) for steps in chosen[0])
    assert chosen[1] and not any(trainers(steps) for steps in chosen[1])


def test_where_training_is_slow_none_is_begun_that_would_outlast_the_budget(rows_trained: Rows) -> None:
    def trained(tokens_s: float) -> int:
        guidance = Guidance(rows_trained, int(rows_trained.bytes[0]), 0.5, tokens_s=tokens_s)
        for steps in guidance.probes:
            guidance.probed(steps, nats(steps), 1.0)
        guidance.tell((), int(rows_trained.bytes[0]), 1.0, None, 3.0, stands=True)
        begun: list[tuple[Step, ...]] = []
        while len(begun) < 40 and (found := guidance.propose(begun, 400.0)) is not None:
            begun.append(found[1])
        return sum(bool(trainers(steps)) for steps in begun)

    fast, slow = 15_000.0, 2_000.0
    assert trained(fast) > 0
    assert trained(slow) == 0


def test_every_row_is_known_by_its_steps_whatever_trains_it_behind_which_width(rows_trained: Rows) -> None:
    guidance = Guidance(rows_trained, int(rows_trained.bytes[0]), 0.5)
    for row in range(0, len(rows_trained.bytes), 97):
        assert guidance._row(rows_trained.steps(row)) == row


def test_a_training_at_another_rate_than_the_rows_is_none_of_them(rows_trained: Rows) -> None:
    guidance = Guidance(rows_trained, int(rows_trained.bytes[0]), 0.5)
    few = (GPTQ(bits=3, group_size=64, symmetric=False),)
    found = [guidance._row((*few, Finetune(tokens=4_000_000, batch=128, rate=rate))) for rate in (1e-4, 2e-5)]
    assert found[0] is not None and found[1] is None


def test_what_training_does_and_takes_is_learnt(rows_trained: Rows) -> None:
    def told(left: float) -> tuple[float, float]:
        """Expected quality and seconds of two bits trained for longer, after a short training left so much."""
        guidance = Guidance(rows_trained, int(rows_trained.bytes[0]), 0.5)
        for steps in guidance.probes:
            guidance.probed(steps, nats(steps), 1.0)
        guidance.tell((), int(rows_trained.bytes[0]), 1.0, None, 3.0, stands=True)
        names = list(rows_trained.axes)
        trainings_of = {option[TRAINED]: at for at, option in enumerate(rows_trained.axes["training"])}

        def row_of(**options: int) -> int:
            return int((rows_trained.options == [options.get(name, 0) for name in names]).all(axis=1).argmax())

        for quantizer in (3, 4):
            row = row_of(quantizer=quantizer, training=trainings_of["1M"])
            steps = rows_trained.steps(row)
            found = left * nats(steps[:-1])
            guidance.tell(steps, int(rows_trained.bytes[row]), 1.0 - found / 4, found, 104.0, stands=True)
        # Nothing else is left to propose.
        wanted = row_of(quantizer=4, training=trainings_of["4M"])
        for other in range(len(rows_trained.bytes)):
            if other != wanted:
                guidance.close(rows_trained.steps(other))
        proposed = guidance.propose([])
        assert proposed is not None
        return proposed[2].kept, proposed[2].seconds

    helped, seconds = told(0.2)
    assert helped > told(0.6)[0] + 0.01
    # A quarter of the tokens took a hundred seconds.
    assert 300 < seconds < 500


def test_others_have_no_turn_while_they_took_more_than_their_share_of_the_time(rows: Rows) -> None:
    whole, unknown = int(rows.bytes[0]), (HQQ(bits=3, group_size=128),)
    guidance = Guidance(rows, whole, 0.5)

    def turns() -> list[int]:
        return [begun for begun in range(16, 32) if guidance.leaves_to_others(begun, waiting=False)]

    guidance.tell((), whole, 1.0, None, 10.0, stands=True)
    guidance.tell(unknown, whole // 2, 0.9, 0.1, 60.0, stands=True, given=True)
    assert turns() == [23, 31], "what the study names is nobody's"
    guidance.tell(unknown, whole // 2, 0.9, 0.1, 30.0, stands=True)
    assert turns() == []
    guidance.tell(rows.steps(1), int(rows.bytes[1]), 0.99, 0.01, 140.0, stands=True)
    assert turns() == [23, 31]
    assert not guidance.leaves_to_others(23, False, pending=[rows.steps(2), unknown])
    assert guidance.leaves_to_others(23, False, pending=[rows.steps(2)])


def test_anchors_that_train_stay_and_others_go(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Guidance, "may_gain", lambda guidance, steps, size: True)
    done = search(checkpoint, 24, training=True)
    # The sampler's turns: each eighth.
    turns = [one.candidate.steps for one in done.dev[1:] if not one.why]
    assert len(turns) == 3
    assert all(trainers(steps) for steps in turns)


def test_no_anchor_is_trained_for_a_point_that_a_smaller_one_makes_needless(checkpoint: Checkpoint, rows: Rows) -> None:
    # Here 4 bits cost next to nothing, and are smaller than any of those anchors.
    done = search(checkpoint, 15, training=True)
    assert all(one.why for one in done.dev[1:])
    guidance = Guidance(rows, int(rows.bytes[0]), 0.5)
    guidance.tell((), 1000, 1.0, None, 1.0, stands=True)
    guidance.tell((GPTQ(bits=4),), 400, 0.985, 0.05, 1.0, stands=True)
    guidance.tell((GPTQ(bits=3),), 200, 0.99, 0.05, 1.0, stands=False)
    assert [guidance.may_gain((), size) for size in (300, 399, 400, 999)] == [True, True, False, False]


@pytest.mark.parametrize("after", [16, 20])
def test_a_search_with_training_that_was_stopped_proposes_what_it_would_have(
    checkpoint: Checkpoint, after: int
) -> None:
    whole = search(checkpoint, 16, training=True)
    begun = search(checkpoint, 16, training=True, stop_after=after)
    resumed = search(checkpoint, 16, training=True, known=begun.records)
    assert [record.key for record in resumed.records] == [record.key for record in whole.records]


def test_without_a_baseline_it_waits(checkpoint: Checkpoint) -> None:
    proposer = Proposer(BASE, checkpoint, SPACES["joint"], trials=16, seed=0, guided=True)
    first = proposer.propose()
    assert isinstance(first, Proposal)
    assert first.candidate == Candidate(BASE)
    while isinstance(one := proposer.propose(), Proposal):
        proposer.tell(one.number, ProbeFinding(nats(one.candidate.steps), 1.0))
    assert one == "wait"
    proposer.tell(first.number, TrialFinding(Objectives(WHOLE, first.predicted_bytes)))
    assert isinstance(proposer.propose(), Proposal)


def test_a_profile_that_orders_nothing_is_not_believed(rows: Rows) -> None:
    guidance = Guidance(rows, int(rows.bytes[0]), 0.5)
    for steps in guidance.probes:
        guidance.probed(steps, nats(steps), 1.0)
    assert guidance.ready
    guidance.tell((), int(rows.bytes[0]), 1.0, None, 1.0, stands=True)
    for _ in range(14):
        found = guidance.propose([])
        assert found is not None
        # The smaller its damage should be, the larger it is.
        guidance.tell(found[1], 1_000_000, 0.9, 1.0 / nats(found[1]), 1.0, stands=True)
    assert not guidance.believed
    assert LEAST_TAU == 0.5
    assert [begun for begun in range(20) if guidance.leaves_to_others(begun, waiting=False)] == [13, 15, 17, 19]


def test_of_what_was_trained_the_profile_is_not_asked(rows_trained: Rows) -> None:
    guidance = Guidance(rows_trained, int(rows_trained.bytes[0]), 0.5)
    for steps in guidance.probes:
        guidance.probed(steps, nats(steps), 1.0)
    guidance.tell((), int(rows_trained.bytes[0]), 1.0, None, 1.0, stands=True)
    assert guidance.propose([]) is not None
    at = list(rows_trained.axes).index("training")
    trained = [row for row in range(0, len(rows_trained.bytes), 97) if rows_trained.options[row, at]]
    for row in trained[:20]:
        steps = rows_trained.steps(row)
        # The more it was harmed, the better it ends.
        guidance.tell(steps, int(rows_trained.bytes[row]), 0.9, 0.01 / nats(steps[:-1]), 1.0, stands=True)
    assert guidance.believed


def test_a_candidate_of_no_row_counts_for_the_frontier(rows: Rows) -> None:
    def gain(with_other: bool) -> float:
        guidance = Guidance(rows, int(rows.bytes[0]), 0.5)
        for steps in guidance.probes:
            guidance.probed(steps, nats(steps), 1.0)
        guidance.tell((), int(rows.bytes[0]), 1.0, None, 1.0, stands=True)
        if with_other:
            other: Any = (GPTQ(bits=4, group_size=32),)
            guidance.tell(other, int(rows.bytes.min()), 1.0, 0.01, 1.0, stands=True)
        found = guidance.propose([])
        assert found is not None
        return found[2].gain

    assert gain(with_other=True) < 0.1 * gain(with_other=False)


def test_a_probe_whose_worker_was_lost_holds_nothing_up(checkpoint: Checkpoint) -> None:
    proposer = Proposer(BASE, checkpoint, SPACES["joint"], trials=16, seed=0, guided=True)
    searcher = ParetoSearcher(proposer, 0, on_lost=lambda proposal, attempts, last: None, begun=lambda proposal: 1)
    searcher.set_max_concurrency(20)
    configs: dict[str, dict[str, Any]] = {}
    while isinstance(config := searcher.suggest(f"trial-{len(configs)}"), dict):
        configs[f"trial-{len(configs)}"] = config
    assert Counter(config["split"] for config in configs.values()) == {"dev": 1, PROFILE_SPLIT: 11}
    for number, (name, config) in enumerate(configs.items()):
        if config["split"] == "dev":
            result = {"done": True, "failed": 0, "quality": WHOLE, "bytes": checkpoint.bytes}
        else:
            result = {"done": True, "failed": 0, "divergence": 0.1 * number, "bytes": 1, "seconds": 1.0}
        searcher.on_trial_complete(name, None if number == 3 else result, error=number == 3)
    chosen = searcher.suggest("next")
    assert isinstance(chosen, dict)
    assert chosen["why"]


@pytest.mark.parametrize("share", [0.99, 0.95, 0.8])
def test_a_target_is_found_and_the_search_stops(checkpoint: Checkpoint, rows: Rows, share: float) -> None:
    done = search(checkpoint, 60, aim=Target("chrf", share))
    assert done.proposer.aim_is_met
    assert len(done.dev) <= 20
    assert all(one.why for one in done.dev[1:])
    found = done.proposer.smallest_in_aim()
    assert found is not None
    assert quality(found.steps) >= share * WHOLE
    size = next(one.predicted_bytes for one in done.dev if one.candidate == found)
    every = [int(rows.bytes[row]) for row in range(len(rows.bytes)) if quality(rows.steps(row)) >= share * WHOLE]
    assert size <= 1.06 * min(every)


def test_a_target_search_that_was_stopped_ends_as_it_would_have(checkpoint: Checkpoint) -> None:
    aim = Target("chrf", 0.95)
    whole = search(checkpoint, 60, aim=aim)
    begun = search(checkpoint, 60, aim=aim, stop_after=18)
    resumed = search(checkpoint, 60, known=begun.records, aim=aim)
    assert [record.key for record in resumed.records] == [record.key for record in whole.records]
    again = search(checkpoint, 60, known=whole.records, aim=aim)
    assert not again.proposals


def test_the_worst_pair_counts_where_it_is_the_aim(checkpoint: Checkpoint) -> None:
    whole = TrialFinding(Objectives(50.0, 100), by_pair={"en-de": 60.0, "en-cs": 40.0})
    found = TrialFinding(Objectives(48.0, 50), by_pair={"en-de": 60.0, "en-cs": 36.0})
    for aim, kept in ((Target("worst_pair", 0.95), None), (Target("chrf", 0.95), (RTN(bits=8),))):
        proposer = Proposer(
            BASE, checkpoint, SPACES["joint"], trials=16, seed=0, guided=True, aim=aim, given=[(RTN(bits=8),)]
        )
        for result in (whole, found):
            proposal = proposer.propose()
            assert isinstance(proposal, Proposal)
            proposer.tell(proposal.number, result)
        smallest = proposer.smallest_in_aim()
        assert smallest is not None
        assert smallest.steps == (kept or ())


def test_nothing_larger_than_asked_is_chosen(checkpoint: Checkpoint) -> None:
    done = search(checkpoint, 16, max_bytes=3_000_000)
    assert all(one.predicted_bytes <= 3_000_000 for one in done.dev if one.why)
    assert sum(bool(one.why) for one in done.dev) >= 12


def test_nothing_that_can_not_fit_is_chosen_or_asked_about_twice(checkpoint: Checkpoint) -> None:
    asked: list[tuple[tuple[Step, ...], int]] = []

    def fits(steps: tuple[Step, ...], size: int) -> bool:
        asked.append((steps, size))
        return size <= 3_000_000

    done = search(checkpoint, 16, fits=fits)
    assert all(one.predicted_bytes <= 3_000_000 for one in done.dev if one.candidate.steps)
    assert sum(bool(one.why) for one in done.dev) >= 12
    listed = len({steps for steps, _ in asked})
    assert len(asked) < 1.05 * listed, "each row once, as the search begins, and each that is chosen"


def volume(done: Searched, whole: int) -> float:
    points = [Objectives(quality(one.candidate.steps), one.predicted_bytes) for one in done.dev]
    return hypervolume_over_log_bytes(points, Objectives(WHOLE, whole), 0.5)


@pytest.mark.parametrize(("space", "probes"), [("bit-width", 7), ("mixed", 6), ("sparsity", 5)])
def test_a_dozen_of_a_guided_search_finds_as_much_as_anchors_and_a_sampler(
    checkpoint: Checkpoint, space: str, probes: int
) -> None:
    guided, plain = (search(checkpoint, 12, space=space, guided=one) for one in (True, False))
    assert [one.split for one in guided.proposals].count(PROFILE_SPLIT) == probes
    assert len(guided.dev) == len(plain.dev) == 12
    assert volume(guided, checkpoint.bytes) >= volume(plain, checkpoint.bytes)


def test_other_group_sizes_are_told_from_what_lies_around_them(checkpoint: Checkpoint) -> None:
    found = enumerate_rows(SPACES["bit-width"], offer_for(checkpoint), checkpoint)
    assert found is not None
    guidance = Guidance(found, checkpoint.bytes, 0.5)
    assert {step.short_label() for (step,) in guidance.probes} == {
        "gptq 4-bit g64", "gptq 3-bit g64", "gptq 2-bit g64", "gptq 3-bit g64 asym", "gptq 2-bit g64 asym",
        "awq 4-bit g64", "emb 4-bit g64 gptq",
    }  # fmt: skip
    for steps in guidance.probes:
        guidance.probed(steps, nats(steps), 1.0)
    harm = guidance._harm_of("quantizer", found.axes["quantizer"])
    at = {
        (one["quantizer"], one.get("quantizer.bits"), one.get("quantizer.group_size")): float(nats_of)
        for one, nats_of in zip(found.axes["quantizer"], harm, strict=True)
        if one.get("quantizer.symmetric")
    }
    # AWQ takes more than GPTQ of the same size, and says nothing of what lies between four bits and three.
    assert at["awq", 4, 64] == pytest.approx(1.2 * at["gptq", 4, 64])
    assert at["gptq", 4, 64] <= at["gptq", 4, 128] < at["gptq", 3, 32] < at["gptq", 3, 64] < at["gptq", 3, 128]
    assert at["gptq", 3, 128] < at["gptq", 2, 32] < at["gptq", 2, 64]
    assert ("gptq", 4, 32) not in at and ("gptq", 2, 128) not in at
    assert at["rtn", 8, 64] < at["gptq", 4, 64] / 40


def test_what_differs_in_kind_is_told_apart(checkpoint: Checkpoint) -> None:
    for space, axis, kind in (("sparsity", "sparsity", "2:4"), ("mixed", "quantizer", True)):
        found = enumerate_rows(SPACES[space], offer_for(checkpoint), checkpoint)
        assert found is not None
        guidance = Guidance(found, checkpoint.bytes, 0.5)
        apart = [kind in option.values() for option in found.axes[axis]]
        for steps in guidance.probes:
            row = guidance._row(steps)
            assert row is not None
            other = apart[found.options[row, list(found.axes).index(axis)]]
            guidance.probed(steps, 7.0 if other else nats(steps), 1.0)
        harm = guidance._harm_of(axis, found.axes[axis])
        assert [nats_of == pytest.approx(7.0) for nats_of in harm] == apart


@pytest.mark.parametrize("space", ["depth", "width"])
def test_a_space_of_few_candidates_is_tried_whole_without_a_profile(checkpoint: Checkpoint, space: str) -> None:
    found = enumerate_rows(SPACES[space], offer_for(checkpoint), checkpoint)
    assert found is not None
    done = search(checkpoint, 12, space=space)
    assert all(one.split == "dev" and not one.why for one in done.proposals)
    listed = done.dev[1 : len(found.bytes)]
    assert {one.candidate.steps for one in listed} == {found.steps(row) for row in range(1, len(found.bytes))}
    sizes = [one.predicted_bytes for one in listed]
    assert sizes == sorted(sizes, reverse=True)
    # What stops by itself has to know what to expect.
    assert search(checkpoint, 12, space=space, aim=Target("chrf", 0.9)).proposer.aim_is_met


def test_a_space_that_trials_nearly_suffice_for_needs_no_profile(checkpoint: Checkpoint) -> None:
    # 20 candidates and five probes: with 15 trials of its own a search can try as many without them.
    few, enough = (search(checkpoint, trials, space="sparsity") for trials in (15, 16))
    assert any(one.split == PROFILE_SPLIT for one in few.proposals)
    assert not any(one.split == PROFILE_SPLIT for one in enough.proposals)
    again = search(
        checkpoint, 16, space="sparsity", known=search(checkpoint, 16, space="sparsity", stop_after=9).records
    )
    assert [record.key for record in again.records] == [record.key for record in enough.records]


def test_the_largest_size_holds_where_a_space_is_tried_whole(checkpoint: Checkpoint) -> None:
    whole = enumerate_rows(SPACES["width"], offer_for(checkpoint), checkpoint)
    assert whole is not None
    most = int(sorted(whole.bytes)[3])
    done = search(checkpoint, 5, space="width", max_bytes=most)
    assert len(done.dev) == 5 and all(one.predicted_bytes <= most for one in done.dev[1:])


@pytest.mark.parametrize("space", ["bit-width", "mixed", "sparsity", "depth", "width"])
def test_a_target_is_sought_in_every_space_that_is_known_whole(checkpoint: Checkpoint, space: str) -> None:
    found = enumerate_rows(SPACES[space], offer_for(checkpoint), checkpoint)
    assert found is not None
    done = search(checkpoint, 40, space=space, aim=Target("chrf", 0.9))
    reached = [int(found.bytes[row]) for row in range(len(found.bytes)) if quality(found.steps(row)) >= 0.9 * WHOLE]
    best = done.proposer.smallest_in_aim()
    assert best is not None and done.proposer.aim_is_met and len(done.dev) < 20
    size = next(one.predicted_bytes for one in done.dev if one.candidate == best)
    assert size <= 1.03 * min(reached)


def test_a_model_that_offers_nothing_has_nothing_to_guide() -> None:
    bare = llama_table(layers=1)
    for space, aim in (("depth", None), ("width", None), ("depth", Target("chrf", 0.9))):
        done = search(bare, 12, space=space, aim=aim)
        assert [one.candidate.steps for one in done.dev] == [()]
