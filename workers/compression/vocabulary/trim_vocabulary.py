"""Removal of the tokens that the study's data use least: embeddings, head and tokenizer shrink together."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from search_spaces.errors import ModelFilesError
from search_spaces.methods.pruners import TrimVocabulary
from search_spaces.sizes.pruned import after_trim_vocabulary, has_a_row_a_token
from search_spaces.sizes.tensor_table import Checkpoint, is_embedding
from workers.checkpoints.model_files import TOKENIZER, TOKENIZER_SOURCES, read_checkpoint, read_config
from workers.compression.vocabulary.choice import choose
from workers.compression.vocabulary.token_ids import (
    ids_with_a_role,
    renumbered_added_tokens,
    renumbered_config,
    renumbered_tokenizer_config,
)
from workers.compression.vocabulary.token_usage import Usage, usage_of
from workers.compression.vocabulary.tokenizer_checks import refuse_changed_text, refuse_other_ids
from workers.compression.vocabulary.tokenizer_model import read_token_model
from workers.compression.vocabulary.tokenizer_trimming import ids_with_a_place, in_the_form_of, trimmed_tokenizer
from workers.loading.load import load_tokenizer
from workers.plan.compression_context import CompressionContext, Report
from workers.stored_forms.checkpoint import copy_small_files, stored_tensors, write_config, write_tensors

GENERATION_CONFIG = "generation_config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
ADDED_TOKENS = "added_tokens.json"


@dataclass(frozen=True, slots=True)
class Kept:
    """rows: the old ids of the rows that stay, rising: row i of the new tables was row rows[i]. new_ids: old id -> new
    id of every token that stays, those that never had a row (numbered after the rows) among them."""

    rows: tuple[int, ...]
    new_ids: Mapping[int, int]


def compress(parent: Path, out: Path, step: TrimVocabulary, context: CompressionContext) -> Report:
    """Write the checkpoint with a vocabulary of exactly `step.tokens` to `out` (https://arxiv.org/abs/2010.05609).

    Raises CandidateError for a number that can't be kept, StudyError without calibration data, and ModelFilesError for
    a tokenizer that can't be trimmed.
    """
    before = read_checkpoint(parent)
    after_trim_vocabulary(before, step)
    tokenizer = load_tokenizer(parent, context.trust_remote_code)
    usage = usage_of(tokenizer, context)
    kept = kept_tokens(parent, before, tokenizer, usage, step.tokens)
    write_tensors(out, trimmed_tensors(parent, kept.rows, context.device))
    copy_small_files(parent, out)
    _rewrite_small_files(out, kept)
    trimmed = load_tokenizer(out, context.trust_remote_code)
    refuse_other_ids(tokenizer, trimmed, kept.new_ids)
    dropped = refuse_changed_text(tokenizer, trimmed, usage, kept.new_ids)
    lost = before.parameters - read_checkpoint(out).parameters
    return Report(targeted=lost, changed=lost, notes=(_note(_rows(before), step.tokens, dropped),))


def kept_tokens(parent: Path, checkpoint: Checkpoint, tokenizer: Any, usage: Usage, size: int) -> Kept:
    """The choice of `size` rows of the embedding table, and the ids they get."""
    if not tokenizer.is_fast:
        raise ModelFilesError(f"{parent}: transformers loads no fast tokenizer; trim_vocabulary needs one")
    spec = json.loads(tokenizer.backend_tokenizer.to_str())
    rows = _rows(checkpoint)
    ids: dict[str, int] = tokenizer.get_vocab()
    tokens = {number: token for token, number in ids.items()}
    added = set(tokenizer.added_tokens_decoder) | {token["id"] for token in spec["added_tokens"]}
    rowless = sorted(number for number in tokens if number >= rows)
    if not added.issuperset(rowless):
        raise ModelFilesError(f"{parent}: the tokenizer has more tokens than the {rows} rows of the embedding table")
    needed = ids_with_a_role(checkpoint.config) | ids_with_a_role(_read_json(parent / GENERATION_CONFIG))
    needed |= ids_with_a_place(spec) | set(tokenizer.all_special_ids) | usage.prompt
    needed = {number for number in needed if 0 <= number < rows}
    bare = {number for number in needed if number not in tokens}
    chosen = choose(
        read_token_model(spec),
        whole=[tokens[number] for number in added if number < rows],
        required=[tokens[number] for number in needed - bare],
        weights={tokens[number]: weight for number, weight in usage.weights.items()},
        size=size,
        bare=len(bare),
    )
    stay = tuple(sorted(bare.union(ids[token] for token in chosen)))
    return Kept(stay, {old: new for new, old in enumerate([*stay, *rowless])})


def trimmed_tensors(folder: Path, rows: tuple[int, ...], device: torch.device) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor as it is stored; of embeddings, head and its bias only these rows."""
    index = torch.tensor(rows, device=device)
    for name, tensor in stored_tensors(folder, device):
        yield name, tensor.index_select(0, index) if has_a_row_a_token(name) else tensor


def _rewrite_small_files(out: Path, kept: Kept) -> None:
    new_ids, size = kept.new_ids, len(kept.rows)
    write_config(out, renumbered_config(read_config(out), new_ids, size))
    _rewrite(out / GENERATION_CONFIG, lambda config: renumbered_config(config, new_ids, size))
    _rewrite(out / TOKENIZER_CONFIG, lambda config: renumbered_tokenizer_config(config, new_ids))
    _rewrite(out / ADDED_TOKENS, lambda tokens: renumbered_added_tokens(tokens, new_ids))
    _rewrite(out / TOKENIZER, lambda spec: trimmed_tokenizer(spec, new_ids))
    for name in TOKENIZER_SOURCES:
        (out / name).unlink(missing_ok=True)


def _rewrite(file: Path, change: Any) -> None:
    if file.is_file():
        text = file.read_text(encoding="utf-8")
        file.write_text(in_the_form_of(text, change(json.loads(text))) + text[len(text.rstrip()) :], encoding="utf-8")


def _rows(checkpoint: Checkpoint) -> int:
    return next(tensor.shape[0] for name, tensor in checkpoint.tensors.items() if is_embedding(name))


def _read_json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _note(before: int, after: int, dropped: float) -> str:
    return (
        f"vocabulary cut from {before} to {after} tokens; {before - after} went, and {dropped:.2%} of the tokens of "
        "calibration text left out of the count are spelt with others"
    )
