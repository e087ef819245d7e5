"""A text in two vocabularies: what a teacher says is matched to the student's tokens where both mean the same."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from search_spaces.methods.trainers import Finetune
from tests.support.tiny_models import tiny_model
from tests.support.trained_tokenizers import PAIRS, TOKENIZERS
from workers.calibration.sequences import Shown, encode_pairs
from workers.compression.vocabulary.choice import choose
from workers.compression.vocabulary.tokenizer_model import read_token_model
from workers.compression.vocabulary.tokenizer_trimming import trimmed_tokenizer
from workers.training.data.batches import packed, padded_batch
from workers.training.data.pairs_file import pairs_writer
from workers.training.data.spelling import Speller
from workers.training.data.tokenized_pairs import TokenizedPairs
from workers.training.loop.learner import Learner
from workers.training.teachers.teacher import LiveTeacher
from workers.translation.prompts import PROMPTS

ALMA = PROMPTS["alma"]


def trimmed(teacher: Any, share: float) -> tuple[Any, list[int]]:
    """The tokenizer with so large a share of its tokens, and their old ids."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    spec = json.loads(teacher.backend_tokenizer.to_str())
    ids = teacher.get_vocab()
    added = list(teacher.get_added_vocab()) + list(teacher.all_special_tokens)
    kept = choose(read_token_model(spec), added, [], {}, int(share * len(ids)))
    stay = sorted(ids[token] for token in kept)
    new_ids = {old: new for new, old in enumerate(stay)}
    own = Tokenizer.from_str(json.dumps(trimmed_tokenizer(spec, new_ids)))
    made = PreTrainedTokenizerFast(
        tokenizer_object=own, bos_token=teacher.bos_token, eos_token=teacher.eos_token, unk_token=teacher.unk_token
    )
    return made, stay


def tokenized(folder: Path, tokenizer: Any, count: int = 12) -> TokenizedPairs:
    folder.mkdir()
    with pairs_writer(folder, sorted({(pair.langs, 1.0) for pair in PAIRS})) as writer:
        for pair, shown in zip(PAIRS[:count], encode_pairs(PAIRS[:count], tokenizer, ALMA), strict=True):
            writer.add(pair, Shown(shown.ids, shown.target_start), 1.0)
        writer.finish("0" * 16, {})
    return TokenizedPairs(folder)


def in_bytes(tokenizer: Any, ids: Any) -> bytes:
    def one(token: str) -> bytes:
        byte = re.fullmatch(r"<0x([0-9A-F]{2})>", token)
        return bytes([int(byte[1], 16)]) if byte else token.encode()

    return b"".join(map(one, tokenizer.convert_ids_to_tokens([int(number) for number in ids])))


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_what_is_matched_stands_behind_the_same_text_and_is_the_same_token(kind: str, tmp_path: Path) -> None:
    teacher = TOKENIZERS[kind]()
    own, stay = trimmed(teacher, 0.8)
    pairs = tokenized(tmp_path / "pairs", own)
    speller = Speller(pairs, own, teacher, ALMA, len(stay))
    assert speller.columns.tolist() == stay
    batch = speller(padded_batch(pairs, range(len(pairs))))
    assert batch.teacher is not None
    theirs, matched = batch.teacher.batch, batch.teacher.matched
    assert sorted([*matched.tolist(), *batch.teacher.others.tolist()]) == list(range(batch.target_tokens))
    assert len(theirs.predicting) == len(matched) and 0.5 < len(matched) / batch.target_tokens < 1.0
    width, their_width = batch.ids.shape[1], theirs.ids.shape[1]
    for place, there in zip(batch.predicting[matched].tolist(), theirs.predicting.tolist(), strict=True):
        row, at = divmod(place, width)
        their_row, their_at = divmod(there, their_width)
        assert row == their_row
        before, their_before = batch.ids[row, : at + 1], theirs.ids[row, : their_at + 1]
        assert in_bytes(own, before) == in_bytes(teacher, their_before)
        following = [int(batch.ids[row, at + 1])], [int(theirs.ids[row, their_at + 1])]
        assert own.convert_ids_to_tokens(following[0]) == teacher.convert_ids_to_tokens(following[1])


def test_of_the_same_tokens_under_other_ids_all_are_matched(tmp_path: Path) -> None:
    teacher = TOKENIZERS["byte_level"]()
    own, stay = trimmed(teacher, 0.9999)
    pairs = tokenized(tmp_path / "pairs", own)
    batch = Speller(pairs, own, teacher, ALMA, len(stay) + 2)(packed(padded_batch(pairs, [3, 1])))
    assert batch.teacher is not None and batch.teacher.batch.packing is not None
    spelt = own.convert_ids_to_tokens(batch.ids[0].tolist()) == teacher.convert_ids_to_tokens(
        batch.teacher.batch.ids[0].tolist()
    )
    assert spelt and len(batch.teacher.others) == 0


def test_a_student_learns_the_distribution_where_it_spells_alike_and_the_other_tokens(tmp_path: Path) -> None:
    tokenizer = TOKENIZERS["byte_level"]()
    own, stay = trimmed(tokenizer, 0.8)
    pairs = tokenized(tmp_path / "pairs", own)
    rows = torch.tensor(stay)
    whole = tiny_model("llama", vocab_size=len(tokenizer), tie_word_embeddings=False)
    student = tiny_model("llama", seed=1, vocab_size=len(stay) + 1, tie_word_embeddings=False)
    speller = Speller(pairs, own, tokenizer, ALMA, len(stay) + 1)
    learner = Learner(student.train(), Finetune(), LiveTeacher(whole, speller.columns))
    batch = speller(padded_batch(pairs, range(6)))
    loss = learner(batch)
    assert loss.tokens == batch.target_tokens
    assert batch.teacher is not None
    with torch.no_grad():
        theirs = batch.teacher.batch
        said = whole(input_ids=theirs.ids).logits.flatten(0, 1)[theirs.predicting][:, rows].log_softmax(-1)
        logs = student(input_ids=batch.ids).logits.flatten(0, 1)[batch.predicting].log_softmax(-1)
        ids = batch.ids.flatten()[batch.predicting + 1]
        matched, others = batch.teacher.matched, batch.teacher.others
        # The row of no token has a share of the student's and none of the teacher's.
        divergence = (said.exp() * (said - logs[matched][:, :-1])).sum()
        expected = divergence - logs[others, ids[others]].sum()
    torch.testing.assert_close(loss.sum.detach(), expected, rtol=1e-4, atol=1e-3)
    loss.sum.backward()
    assert all(weight.grad is not None for weight in student.parameters())
