"""Translation of segments by a causal LM: greedy, batched by length, cut and cleaned alike for every candidate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from search_spaces.errors import StudyError
from workers.decoding import Decoding, Hypothesis
from workers.prompts import Prompt
from workers.reading.segments import Segment


@dataclass(frozen=True, slots=True)
class Request:
    """A segment ready for the model: its prompt's token ids, and whether its source was cut to fit."""

    ids: tuple[int, ...]
    cut: bool


def translate(
    model: Any,
    tokenizer: Any,
    prompt: Prompt,
    segments: Sequence[Segment],
    examples: Sequence[Segment],
    decoding: Decoding,
    context: int | None,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Hypothesis]:
    """One hypothesis a segment, in the segments' order.

    context: the model's positions in tokens (None: no limit known). progress is told how many are done.
    """
    requests = [prepare(segment, tokenizer, prompt, examples, decoding, context) for segment in segments]
    order = sorted(range(len(requests)), key=lambda position: (len(requests[position].ids), position))
    hypotheses: dict[int, Hypothesis] = {}
    for start in range(0, len(order), decoding.batch_size):
        at = order[start : start + decoding.batch_size]
        hypotheses.update(
            zip(at, _translate_batch(model, tokenizer, prompt, [requests[i] for i in at], decoding), strict=True)
        )
        progress(len(hypotheses))
    return [hypotheses[position] for position in range(len(segments))]


def prepare(
    segment: Segment,
    tokenizer: Any,
    prompt: Prompt,
    examples: Sequence[Segment],
    decoding: Decoding,
    context: int | None,
) -> Request:
    """The prompt's ids; a source too long for the context loses its end, until prompt and translation fit.

    Raises StudyError when the length limit alone fills the context.
    """
    ids = _encode(segment, tokenizer, prompt, examples)
    if context is None or len(ids) <= context - decoding.max_new_tokens:
        return Request(ids, cut=False)
    room = context - decoding.max_new_tokens
    source = tokenizer(segment.source, add_special_tokens=False)["input_ids"]
    around = len(ids) - len(source)
    keep = room - around
    while keep > 0:
        shorter = _with_source(segment, tokenizer.decode(source[:keep]).strip())
        ids = _encode(shorter, tokenizer, prompt, examples)
        if len(ids) <= room:
            return Request(ids, cut=True)
        keep -= max(len(ids) - room, 1)
    way_out = f"ask for fewer than {context - around} new tokens" if context > around else "choose another --prompt"
    raise StudyError(
        f"max_new_tokens={decoding.max_new_tokens} and a prompt of {around} tokens leaves no room for a source in a "
        f"context of {context} tokens; {way_out}"
    )


def _translate_batch(
    model: Any, tokenizer: Any, prompt: Prompt, requests: Sequence[Request], decoding: Decoding
) -> list[Hypothesis]:
    stops = stop_ids(model, tokenizer)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else stops[0]
    width = max(len(request.ids) for request in requests)
    rows = [[pad] * (width - len(request.ids)) + list(request.ids) for request in requests]
    mask = [[0] * (width - len(request.ids)) + [1] * len(request.ids) for request in requests]
    with torch.inference_mode():
        output = model.generate(
            torch.tensor(rows, device=model.device),
            attention_mask=torch.tensor(mask, device=model.device),
            max_new_tokens=decoding.max_new_tokens,
            do_sample=False, num_beams=1, temperature=None, top_p=None, top_k=None,
            eos_token_id=stops, pad_token_id=pad,
        )  # fmt: skip
    continuations = output[:, width:].tolist()
    return [
        _hypothesis(tokenizer, prompt, request, ids, stops, decoding)
        for request, ids in zip(requests, continuations, strict=True)
    ]


def _hypothesis(
    tokenizer: Any, prompt: Prompt, request: Request, ids: list[int], stops: Sequence[int], decoding: Decoding
) -> Hypothesis:
    end = next((position for position, token in enumerate(ids) if token in stops), None)
    kept = ids if end is None else ids[:end]
    raw = tokenizer.decode(kept, skip_special_tokens=True)
    text = prompt.clean(raw)
    ended_by_line = prompt.one_line and "\n" in raw.strip()
    reached_limit = end is None and len(ids) >= decoding.max_new_tokens and not ended_by_line
    return Hypothesis(text, len(kept), request.cut or reached_limit)


def stop_ids(model: Any, tokenizer: Any) -> list[int]:
    """The token ids that end a translation: the generation config's, and the tokenizer's own."""
    configured = model.generation_config.eos_token_id
    ids = [] if configured is None else list(configured) if isinstance(configured, (list, tuple)) else [configured]
    if tokenizer.eos_token_id is not None:
        ids.append(tokenizer.eos_token_id)
    if not ids:
        raise StudyError(
            "neither the model nor its tokenizer names a stop token; add eos_token_id to generation_config.json"
        )
    return list(dict.fromkeys(ids))


def _encode(segment: Segment, tokenizer: Any, prompt: Prompt, examples: Sequence[Segment]) -> tuple[int, ...]:
    text = prompt.render(segment, tokenizer, examples)
    return tuple(tokenizer(text, add_special_tokens=prompt.special_tokens)["input_ids"])


def _with_source(segment: Segment, source: str) -> Segment:
    return Segment(
        segment.id, segment.langs, source, segment.references, segment.doc_id, segment.domain, segment.human_score
    )
