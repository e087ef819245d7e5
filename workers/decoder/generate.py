"""What the decoder falls back to: transformers' `generate` in batches sorted by length, for any architecture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from workers.decoder.greedy import DecodeRequest, longest_first
from workers.decoder.settings import reads_the_prompt


def generate(
    model: Any,
    requests: Sequence[DecodeRequest],
    stops: Sequence[int],
    batch_size: int,
    beams: int,
    done: dict[int, list[int]],
    progress: Callable[[int], None],
) -> None:
    """Put each request's new tokens into `done`; those in it already are left out.

    A batch runs to its longest limit, and each row is then cut to its own. Where a setting looks at the prompt, prompts
    that stand together are of one length and limit, so that none is padded.
    """
    order = longest_first(requests, done)
    pad = stops[0] if stops else 0
    for at in _batches(requests, order, batch_size, reads_the_prompt(model.generation_config)):
        batch = [requests[position] for position in at]
        width = max(len(request.ids) for request in batch)
        ids = [[pad] * (width - len(request.ids)) + list(request.ids) for request in batch]
        mask = [[0] * (width - len(request.ids)) + [1] * len(request.ids) for request in batch]
        with torch.inference_mode():
            output = model.generate(
                torch.tensor(ids, device=model.device),
                attention_mask=torch.tensor(mask, device=model.device),
                max_new_tokens=max(request.limit for request in batch),
                do_sample=False,
                num_beams=beams,
                temperature=None,
                top_p=None,
                top_k=None,
                num_return_sequences=1,
                return_dict_in_generate=False,
                eos_token_id=list(stops) or None,
                pad_token_id=pad,
            )
        for position, request, row in zip(at, batch, output[:, width:].tolist(), strict=True):
            done[position] = _ended(row[: request.limit], stops)
        progress(len(done))


def _batches(requests: Sequence[DecodeRequest], order: Sequence[int], size: int, unpadded: bool) -> Iterator[list[int]]:
    batch: list[int] = []
    for position in order:
        request = requests[position]
        if batch and (len(batch) == size or (unpadded and not _alike(request, requests[batch[-1]]))):
            yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch


def _alike(one: DecodeRequest, other: DecodeRequest) -> bool:
    return (len(one.ids), one.limit) == (len(other.ids), other.limit)


def _ended(tokens: list[int], stops: Sequence[int]) -> list[int]:
    end = next((place for place, token in enumerate(tokens) if token in stops), None)
    return tokens if end is None else tokens[: end + 1]
