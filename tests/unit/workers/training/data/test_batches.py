"""Micro-batches: every chosen sequence once, padded on the right, little of it padding, and within the limit."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from tests.support.paths import ROOT
from workers.loading.load import load_tokenizer
from workers.reading.training_data import training_data
from workers.training.data.batches import (
    TrainingBatch,
    fewest_tokens,
    halve_micro_tokens,
    micro_batches,
    micro_rows,
    packed_batches,
    padded_batch,
)
from workers.training.data.sampling import choose_rows
from workers.training.data.tokenized_pairs import TokenizedPairs, tokenize_pairs
from workers.translation.prompts import PROMPTS


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> TokenizedPairs:
    data = training_data([(str(ROOT / "data" / "calibration.jsonl.gz"), 1.0)], ["en-de", "en-fr", "de-en"])
    tokenizer = load_tokenizer(ROOT / "models" / "captions")
    return tokenize_pairs(data, tokenizer, "captions", PROMPTS["alma"], tmp_path_factory.mktemp("store"))


def test_a_batch_holds_its_sequences_with_their_targets(pairs: TokenizedPairs) -> None:
    batch = padded_batch(pairs, [5, 700, 31])
    for place, row in enumerate((5, 700, 31)):
        one = pairs.shown(row)
        length = len(one.ids)
        assert tuple(batch.ids[place, :length].tolist()) == one.ids and not batch.ids[place, length:].any()
        assert batch.mask[place].tolist() == [place_ < length for place_ in range(batch.ids.shape[1])]
        assert batch.target[place].nonzero().flatten().tolist() == list(range(one.target_start, length))
    assert batch.rows == (5, 700, 31) and (batch.ids.dtype, batch.mask.dtype) == (torch.int64, torch.bool)
    assert batch.tokens == sum(pairs.length(row) for row in batch.rows)
    assert batch.target_tokens == int(batch.target.sum()) > 0
    assert not batch.target[:, 0].any()  # nothing predicts the first token


def test_a_batch_moves_to_a_device(pairs: TokenizedPairs) -> None:
    moved = padded_batch(pairs, [1, 2]).to(torch.device("meta"))
    assert {one.device.type for one in (moved.ids, moved.mask, moved.target)} == {"meta"} and moved.rows == (1, 2)


@pytest.mark.parametrize("micro_tokens", [1, 200, 1024, 10**6])
def test_every_chosen_sequence_is_in_one_micro_batch_within_the_limit(pairs: TokenizedPairs, micro_tokens: int) -> None:
    rows = [*choose_rows(pairs, 3, 64, 0), 7, 7]  # a row may come twice in a step
    made = micro_batches(pairs, rows, micro_tokens)
    assert sorted(row for batch in made for row in batch.rows) == sorted(rows)
    for batch in made:
        assert batch.mask.numel() <= micro_tokens or len(batch.rows) == 1
    assert made[0].ids.shape[1] == max(map(pairs.length, rows))
    assert [batch.ids.shape[1] for batch in made] == sorted((batch.ids.shape[1] for batch in made), reverse=True)
    again = micro_batches(pairs, rows, micro_tokens)
    assert [batch.rows for batch in again] == [batch.rows for batch in made]


@pytest.mark.parametrize(("batch", "micro_tokens"), [(64, 1024), (64, 16_384), (256, 4096), (256, 16_384)])
def test_little_of_it_is_padding(pairs: TokenizedPairs, batch: int, micro_tokens: int) -> None:
    made = [one for step in range(8) for one in micro_batches(pairs, choose_rows(pairs, step, batch, 0), micro_tokens)]
    assert sum(one.tokens for one in made) > 0.9 * sum(one.mask.numel() for one in made)
    assert len(made) <= 8 * (1 + batch * 90 / min(micro_tokens, 2048))


def test_sequences_have_no_more_target_tokens_together_than_allowed(pairs: TokenizedPairs) -> None:
    rows = choose_rows(pairs, 0, 64, 0)
    made = micro_rows(pairs, rows, 10**6, most_targets=100)
    assert sorted(row for part in made for row in part) == sorted(rows)
    assert all(sum(map(pairs.targets, part)) <= 100 or len(part) == 1 for part in made)
    assert len(made) > len(micro_rows(pairs, rows, 10**6))
    assert [pairs.targets(row) for row in rows] == [padded_batch(pairs, [row]).target_tokens for row in rows]


def test_a_small_model_on_a_gpu_is_not_told_of_small_micro_batches() -> None:
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    assert [fewest_tokens(size, gpu) for size in (5 * 10**6, 10**9, 7 * 10**9, 10**13)] == [65536, 34000, 9291, 1024]
    assert fewest_tokens(5 * 10**6, cpu) == 1024


def test_a_limit_is_halved_until_it_is_below_what_was_too_large() -> None:
    assert [halve_micro_tokens(4096, too_large) for too_large in (4096, 4095, 700, 3)] == [2048, 2048, 512, 2]


def test_the_loss_is_over_the_same_tokens_however_a_step_is_cut(pairs: TokenizedPairs) -> None:
    rows = choose_rows(pairs, 0, 64, 0)

    def targets(made: list[TrainingBatch]) -> Any:
        return sorted(
            (row, tuple(ids[target].tolist()))
            for batch in made
            for row, ids, target in zip(batch.rows, batch.ids, batch.target, strict=True)
        )

    assert targets(micro_batches(pairs, rows, 300)) == targets(micro_batches(pairs, rows, 10**6))


@pytest.mark.parametrize("micro_tokens", [1, 300, 10**6])
def test_batches_without_padding_hold_every_sequence_within_the_limit(pairs: TokenizedPairs, micro_tokens: int) -> None:
    rows = [*choose_rows(pairs, 3, 64, 0), 7, 7]
    made = packed_batches(pairs, rows, micro_tokens)
    assert sorted(row for batch in made for row in batch.rows) == sorted(rows)
    for batch in made:
        packing = batch.packing
        assert packing is not None and batch.size == batch.tokens == len(packing.real) == len(packing.positions)
        assert batch.size <= micro_tokens or len(batch.rows) == 1
        assert packing.ends.tolist() == [0, *itertools.accumulate(map(pairs.length, batch.rows))]
        assert packing.longest == max(map(pairs.length, batch.rows))
        read = batch.ids.flatten()[packing.real]
        assert read.tolist() == [one for row in batch.rows for one in pairs.ids(row).tolist()]
        assert packing.positions.tolist() == [place for row in batch.rows for place in range(pairs.length(row))]
    # Moved with the rest.
    there = made[0].to(torch.device("meta")).packing
    assert there is not None and {one.device.type for one in (there.real, there.positions, there.ends)} == {"meta"}
