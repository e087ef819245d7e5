"""What the decoder falls back to: transformers' `generate` in batches sorted by length, for any architecture."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
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
        ids, mask = left_padded([request.ids for request in batch], pad, model.device)
        with torch.inference_mode():
            output = model.generate(
                ids,
                attention_mask=mask,
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
        for position, request, row in zip(at, batch, output[:, ids.shape[1] :].tolist(), strict=True):
            done[position] = through_stop(row[: request.limit], stops)
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


def left_padded(prompts: Sequence[Sequence[int]], pad: int, device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The prompts' ids, filled up before them, and 1 where they are: int64 (prompts, longest) both."""
    width = max(map(len, prompts))
    ids = [[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def through_stop(tokens: list[int], stops: Collection[int]) -> list[int]:
    """The tokens up to the first stop, with it; all where there is none."""
    end = next((place for place, token in enumerate(tokens) if token in stops), None)
    return tokens if end is None else tokens[: end + 1]
