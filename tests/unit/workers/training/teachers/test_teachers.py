"""Teachers: what they say is the model's own, at the right positions, live or cached; layer maps; vocabularies."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from search_spaces.errors import ModelFilesError, StudyError
from search_spaces.methods.trainers import Finetune
from tests.support.examples import segment
from tests.support.tiny_models import VOCABULARY, tiny_model
from tests.support.tiny_training import batch_of
from workers.benches.cache_bias import cache_bias
from workers.calibration.sequences import Shown
from workers.training.data.batches import TrainingBatch, padded_batch
from workers.training.data.pairs_file import pairs_writer
from workers.training.data.sampling import choose_rows
from workers.training.data.tokenized_pairs import TokenizedPairs
from workers.training.losses.divergences import divergence
from workers.training.losses.layer_map import mismatch, refuse_unknown_layers, spread, token_shares
from workers.training.losses.readout import Readout, refuse_other_logits
from workers.training.losses.vocabularies import refuse_other_vocabulary
from workers.training.teachers import cache_filling as filling
from workers.training.teachers.cache import TeacherCache, open_cache
from workers.training.teachers.cache_filling import fill_teacher_cache, rows_read
from workers.training.teachers.teacher import CachedTeacher, LiveTeacher, fill

CPU = torch.device("cpu")


BATCH = batch_of(([1, 40, 7, 90, 33, 2], 4), ([1, 12, 64, 2], 1), rows=(5, 3))
OTHER = batch_of(([1, 55, 20, 2], 2), ([1, 40, 7, 90, 33, 2], 4), rows=(8, 5))


def whole_logits(model: Any, batch: TrainingBatch) -> torch.Tensor:
    """The model's own logits at the predicting positions, each sequence by itself."""
    found = []
    for row in range(len(batch.ids)):
        length = int(batch.mask[row].sum())
        logits = model(input_ids=batch.ids[row : row + 1, :length]).logits[0]
        found += [logits[position - 1] for position in range(1, length) if batch.target[row, position]]
    return torch.stack(found)


@pytest.fixture(scope="module")
def teacher() -> LiveTeacher:
    return LiveTeacher(tiny_model("llama"))


@pytest.fixture(scope="module")
def student() -> Any:
    return tiny_model("llama", seed=1)


@pytest.fixture
def cache(tmp_path: Path) -> TeacherCache:
    return open_cache(tmp_path, {"teacher": "a"}, VOCABULARY, k=8)


def test_target_positions_are_those_before_target_tokens() -> None:
    # Row 0 is 6 wide and its translation begins at 4: predicted from 3 and 4. Row 1 begins at 1: from 0, 1 and 2.
    assert BATCH.predicting.tolist() == [3, 4, 6, 7, 8]
    # A first token has nothing before it that could predict it.
    assert batch_of(([1, 5, 2], 0)).predicting.tolist() == [0, 1]


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen3", "gemma3_text"])
def test_a_live_teacher_says_what_the_model_says(family: str) -> None:
    changes = {"final_logit_softcapping": 2.0} if family == "gemma3_text" else {}
    model = tiny_model(family, **changes)
    said = LiveTeacher(model).says(BATCH)
    torch.testing.assert_close(said.logits(slice(None)), whole_logits(model, BATCH).detach(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(said.logits(slice(1, 3)), said.logits(slice(None))[1:3])
    assert not said.states.requires_grad and not model.training


def test_a_live_teacher_gives_the_hidden_states_that_are_asked_for(teacher: LiveTeacher) -> None:
    said = teacher.says(BATCH, (0, 2))
    expected = teacher.readout.model(input_ids=BATCH.ids, output_hidden_states=True).hidden_states
    assert set(said.hidden) == {0, 2}
    torch.testing.assert_close(said.hidden[0], expected[1])
    torch.testing.assert_close(teacher.readout.decoder.norm(said.hidden[2]), expected[3])


def test_a_model_with_logits_of_its_own_kind_is_refused() -> None:
    model = tiny_model("llama")
    forward = model.forward

    def doubled(*arguments: Any, **keywords: Any) -> Any:
        output = forward(*arguments, **keywords)
        output.logits = 2 * output.logits
        return output

    model.forward = doubled
    with pytest.raises(ModelFilesError, match="LlamaForCausalLM does something to its logits"):
        LiveTeacher(model).says(BATCH)


def test_checking_leaves_each_module_in_its_mode() -> None:
    model = tiny_model("llama").train()
    model.model.layers[1].eval()
    refuse_other_logits(Readout(model), BATCH.ids)
    assert model.training and model.model.layers[0].mlp.training
    assert not model.model.layers[1].mlp.training


@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl", "skew_kl"])
def test_a_cached_teacher_is_the_live_one_in_buckets(
    name: str, teacher: LiveTeacher, student: Any, tmp_path: Path
) -> None:
    logits = whole_logits(student, BATCH).detach()
    ids = BATCH.ids.flatten()[BATCH.predicting + 1]
    live = teacher.says(BATCH).divergence(name, logits, ids, 0.25, slice(None))
    torch.testing.assert_close(
        live, divergence(name, logits, whole_logits(teacher.readout.model, BATCH), ids, 0.25), rtol=1e-4, atol=1e-5
    )
    whole = CachedTeacher(open_cache(tmp_path, {}, VOCABULARY, k=VOCABULARY), teacher)
    found = whole.says(BATCH).divergence(name, logits, ids, 0.25, slice(None))
    # bfloat16 log-probabilities have 8 bits.
    torch.testing.assert_close(found, live, rtol=1e-2, atol=1e-2)
    few = CachedTeacher(open_cache(tmp_path, {}, VOCABULARY, k=4), teacher).says(BATCH)
    lower = few.divergence(name, logits, ids, 0.0, slice(None))
    assert torch.all(lower <= teacher.says(BATCH).divergence(name, logits, ids, 0.0, slice(None)) + 1e-2)
    torch.testing.assert_close(few.divergence(name, logits[1:3], ids[1:3], 0.0, slice(1, 3)), lower[1:3])


def test_a_filled_cache_needs_no_teacher(teacher: LiveTeacher, cache: TeacherCache, tmp_path: Path) -> None:
    read: list[int] = []
    fill(cache, teacher, [BATCH, OTHER], CPU, read.append)
    assert read == [10, 20]
    cache.close()
    again = open_cache(tmp_path, {"teacher": "a"}, VOCABULARY, k=8)
    alone = CachedTeacher(again)
    for batch in (BATCH, OTHER):
        said, expected = alone.says(batch), teacher.likeliest(batch, 8)
        assert torch.equal(said.likeliest.ids, expected.ids)
        torch.testing.assert_close(said.likeliest.logs, expected.logs, rtol=2**-8, atol=0.0)
    with pytest.raises(StudyError, match="1 of 1 sequences are not in the teacher's cache"):
        alone.says(batch_of(([1, 5, 2], 1), rows=(77,)))
    with pytest.raises(ValueError, match="keeps no hidden states"):
        alone.says(BATCH, (0,))


@pytest.fixture
def pairs(tmp_path: Path) -> TokenizedPairs:
    """Seven pairs of 4 to 6 tokens, the last two of them the translation."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    with pairs_writer(folder, [("en-de", 1.0)]) as writer:
        for number in range(7):
            ids = tuple((7 * number + place) % VOCABULARY for place in range(4 + number % 3))
            writer.add(segment("-", "-"), Shown(ids, len(ids) - 2), 1.0)
        writer.finish("seven", {})
    return TokenizedPairs(folder)


def test_rows_are_those_that_training_reads(pairs: TokenizedPairs) -> None:
    first, second = (choose_rows(pairs, step=step, batch=2, seed=4) for step in (0, 1))
    tokens = sum(pairs.length(row) for row in first)
    assert rows_read(pairs, tokens=tokens, batch=2, seed=4) == first
    # The last step is whole.
    assert rows_read(pairs, tokens=tokens + 1, batch=2, seed=4) == list(dict.fromkeys([*first, *second]))
    assert sorted(rows_read(pairs, tokens=1000, batch=2, seed=4)) == list(range(7))


def test_only_what_is_lacking_is_asked(
    pairs: TokenizedPairs, teacher: LiveTeacher, cache: TeacherCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filling, "_SEQUENCES", 2)
    loads: list[int] = []
    seen: list[tuple[int, int]] = []

    def load() -> LiveTeacher:
        loads.append(1)
        return teacher

    for rows in ([0, 1, 2, 3], [5, 4, 3, 2, 1], [5, 0]):
        made = fill_teacher_cache(cache, pairs, rows, load, CPU, 12, lambda read, of: seen.append((read, of)))
    assert len(loads) == 2
    assert (19, 19) in seen and seen[-1] == (11, 11)
    assert cache.missing(range(7)) == [6]
    batch = padded_batch(pairs, [5, 1])
    found, expected = made.says(batch).likeliest, teacher.likeliest(batch, 8)
    torch.testing.assert_close(found.logs, expected.logs, rtol=2**-8, atol=1e-4)


class SmallMemory(LiveTeacher):
    """Has memory for batches of `limit` tokens with padding."""

    limit = 12

    def __init__(self) -> None:
        super().__init__(tiny_model("llama"))
        self.sizes: list[int] = []

    def likeliest(self, batch: TrainingBatch, k: int) -> Any:
        self.sizes.append(batch.ids.numel())
        if batch.ids.numel() > self.limit:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return super().likeliest(batch, k)


def test_a_teacher_that_memory_does_not_suffice_for_is_asked_for_less_at_a_time_and_says_the_same(
    pairs: TokenizedPairs, teacher: LiveTeacher, cache: TeacherCache, caplog: pytest.LogCaptureFixture
) -> None:
    small = SmallMemory()
    seen: list[tuple[int, int]] = []
    made = fill_teacher_cache(
        cache, pairs, list(range(7)), lambda: small, CPU, 64, lambda read, of: seen.append((read, of))
    )
    # All seven of 6, 5 and 4 tokens at once; five; two and then three; and from there on what 8 tokens hold.
    assert small.sizes == [42, 30, 12, 15, 5, 5, 8, 4]
    assert caplog.messages == [
        f"out of memory: the teacher is asked for {tokens} tokens at a time from here" for tokens in (32, 16, 8)
    ]
    assert seen[0] == (0, 34) and seen[-1] == (34, 34) and seen == sorted(seen)
    assert cache.missing(range(7)) == []
    for row in range(7):
        batch = padded_batch(pairs, [row])
        found, expected = made.says(batch).likeliest, teacher.likeliest(batch, 8)
        torch.testing.assert_close(found.logs, expected.logs, rtol=2**-8, atol=1e-4)


def test_one_sequence_that_memory_does_not_suffice_for_is_raised_and_what_was_asked_is_kept(
    pairs: TokenizedPairs, cache: TeacherCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = SmallMemory()
    monkeypatch.setattr(SmallMemory, "limit", 4)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        fill_teacher_cache(cache, pairs, [0, 1], lambda: small, CPU, 64)
    assert small.sizes == [10, 5]
    assert fill(cache, small, [padded_batch(pairs, [0]), padded_batch(pairs, [1, 2])], CPU) is not None
    assert cache.missing([0, 1, 2]) == [1, 2]


def test_what_is_cached_is_not_asked_again(
    teacher: LiveTeacher, cache: TeacherCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = CachedTeacher(cache, teacher)
    first = cached.says(BATCH)
    assert cache.missing([3, 5, 8]) == [8]
    cached.says(OTHER)
    monkeypatch.setattr(LiveTeacher, "says", None)
    again = cached.says(BATCH)
    assert torch.equal(first.likeliest.logs, again.likeliest.logs)
    cached.flush()


def test_bias_of_a_cache(teacher: LiveTeacher, student: Any, cache: TeacherCache, tmp_path: Path) -> None:
    step = Finetune(loss="forward_kl", reference_share=0.5)
    cached = CachedTeacher(cache, teacher)
    bias = cache_bias(student, step, teacher, cached, [BATCH, OTHER])
    assert bias.tokens == 9
    assert bias.live > bias.cached > 0
    assert bias.difference == pytest.approx(bias.cached - bias.live)
    ids = BATCH.ids.flatten()[BATCH.predicting + 1]
    whole = cache_bias(student, step, teacher, cached, [BATCH])
    logits = whole_logits(student, BATCH).detach()
    assert whole.live == pytest.approx(
        float(divergence("forward_kl", logits, whole_logits(teacher.readout.model, BATCH), ids).mean()), rel=1e-4
    )
    more = CachedTeacher(open_cache(tmp_path, {"teacher": "a"}, VOCABULARY, k=64), teacher)
    assert abs(cache_bias(student, step, teacher, more, [BATCH, OTHER]).difference) < abs(bias.difference)
    with pytest.raises(ValueError, match="no target token"):
        cache_bias(student, step, teacher, cached, [])
    with pytest.raises(ValueError, match="references needs no teacher"):
        cache_bias(student, Finetune(loss="references"), teacher, cached, [BATCH])


def test_layers_are_spread_evenly() -> None:
    assert spread(3, 3) == {0: 0, 1: 1, 2: 2}
    assert spread(3, 12) == {0: 3, 1: 7, 2: 11}
    assert spread(4, 6)[3] == 5
    refuse_unknown_layers({0: 5}, 1, 6)
    with pytest.raises(StudyError, match="0 -> 6, and the student has 1 layers, the teacher 6"):
        refuse_unknown_layers({0: 6}, 1, 6)


def test_hidden_states_of_padding_do_not_count() -> None:
    shares = token_shares(BATCH.mask, BATCH.target)
    torch.testing.assert_close(shares.sum(-1), torch.tensor([2.0, 3.0]))
    assert torch.all(shares[1, 4:] == 0)
    torch.manual_seed(0)
    own, theirs = torch.randn(2, 6, 8), torch.randn(2, 6, 8)
    expected = ((own - theirs).square().sum(-1) / theirs.square().sum(-1) * shares).sum()
    own[1, 4:] = float("inf")
    torch.testing.assert_close(mismatch(own, theirs, shares), expected)
    assert mismatch(theirs, theirs, shares) == 0


def test_other_vocabularies_are_refused_with_the_way_out(save_llama: Any, tmp_path: Path) -> None:
    teacher = save_llama()
    cached = Finetune(teacher="cached")
    refuse_other_vocabulary(save_llama(num_hidden_layers=1), teacher, cached)
    wider = save_llama(vocab_size=128)
    refuse_other_vocabulary(wider, teacher, Finetune())
    with pytest.raises(StudyError, match=r'takes a cached teacher, .* or use the loss "sequence"'):
        refuse_other_vocabulary(wider, teacher, cached)
    other = tmp_path / "other"
    shutil.copytree(teacher, other)
    tokenizer = json.loads((other / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    refuse_other_vocabulary(other, teacher, Finetune())
    with pytest.raises(StudyError, match="matches hidden states, which compares both token by token"):
        refuse_other_vocabulary(other, teacher, Finetune(hidden=0.5))
    vocabulary["§"] = vocabulary.pop("a")
    (other / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    with pytest.raises(StudyError, match=r"lacks 1 of the student's .* such as '§'; .* use the loss"):
        refuse_other_vocabulary(other, teacher, Finetune())
