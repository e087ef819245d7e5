"""Translation of segments by a causal LM: prompted, decoded, cut and cleaned alike for every candidate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any

from search_spaces.errors import StudyError
from workers.decoder.decode import Decoder
from workers.decoder.greedy import DecodeRequest
from workers.reading.segments import Segment
from workers.translation.decoding import Decoding, Hypothesis
from workers.translation.prompts import CHATS, Prompt
from workers.translation.thinking import opened_by, without_thinking
from workers.translation.turn_end import turn_end

# A line break as tokenizers spell it in their vocabularies: as it is, in byte-level BPE, and as a byte of its own.
LINE_BREAKS = ("\n", "\u010a", "<0x0A>")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A segment ready for the model: its prompt's token ids, and whether its source was cut to fit."""

    ids: tuple[int, ...]
    cut: bool


class Translator:
    """A model that translates one list of segments after another; what the decoder has captured stays between them."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        prompt: Prompt,
        examples: Sequence[Segment],
        decoding: Decoding,
        context: int | None,
    ) -> None:
        """context: the model's positions in tokens (None: no limit known)."""
        self._tokenizer = tokenizer
        self._prompt = prompt
        self._examples = examples
        self._decoding = decoding
        self._context = context
        self._turn_end = turn_end(tokenizer)
        self._stops = stop_ids(model, tokenizer)
        line_ends = line_break_ids(tokenizer) if prompt.one_line else frozenset()
        self._decoder = Decoder(model, self._stops, decoding.batch_size, decoding.beams, line_ends)

    def __call__(
        self, segments: Sequence[Segment], progress: Callable[[int], None] = lambda done: None
    ) -> list[Hypothesis]:
        """One hypothesis a segment, in the segments' order. progress is told how many are done.

        Where the prompt is of one line, a source of several is translated line by line, and has as many afterwards.
        """
        lines = [lines_of(segment, self._prompt) for segment in segments]
        asked = list(chain.from_iterable(lines))
        prepared = [
            prepare(
                line,
                self._tokenizer,
                prompt=self._prompt,
                examples=self._examples,
                decoding=self._decoding,
                context=self._context,
            )
            for line in asked
        ]
        limit = self._decoding.max_new_tokens
        shared = shared_beginnings([one.ids for one in prepared], [line.langs for line in asked])
        requests = [DecodeRequest(one.ids, limit, alike) for one, alike in zip(prepared, shared, strict=True)]
        answers = self._decoder.decode(requests, lambda done: progress(done * len(segments) // len(asked)))
        opened = self._opened_by_prompt(asked)
        found = (
            self._hypothesis(line, one, ids, opened) for line, one, ids in zip(asked, prepared, answers, strict=True)
        )
        return [
            join_lines(segment, list(islice(found, len(of_segment))))
            for segment, of_segment in zip(segments, lines, strict=True)
        ]

    def _opened_by_prompt(self, asked: Sequence[Segment]) -> str:
        """The mark of a block of thinking that the chat template begins for the model; empty for none."""
        if self._prompt.name not in CHATS or not asked:
            return ""
        return opened_by(self._prompt.render(asked[0], self._tokenizer, self._examples))

    def _hypothesis(self, segment: Segment, prepared: Prepared, ids: list[int], opened: str) -> Hypothesis:
        end = next((position for position, token in enumerate(ids) if token in self._stops), None)
        kept = ids if end is None else ids[:end]
        raw, thought = self._answer(kept, segment.source, opened)
        before, ended_by_turn, _ = raw.partition(self._turn_end.text) if self._turn_end.text else (raw, "", "")
        text = self._prompt.clean(before, segment.source)
        ended_by_line = self._prompt.one_line and "\n" in before.strip()
        at_limit = end is None and len(ids) >= self._decoding.max_new_tokens
        cut = prepared.cut or (at_limit and not ended_by_line and not ended_by_turn)
        return Hypothesis(text, len(kept), cut, thought)

    def _answer(self, ids: list[int], source: str, opened: str) -> tuple[str, bool]:
        """What the model said without special tokens, and without what it thought first; whether it did."""
        raw = str(self._tokenizer.decode(ids, skip_special_tokens=True))
        if self._prompt.name not in CHATS:
            return raw, False
        # The marks of thinking are special tokens in some families, and would be gone.
        said = str(self._tokenizer.decode(ids, skip_special_tokens=False))
        answer, thought = without_thinking(said, opened, source)
        if answer == said:
            return raw, False
        for token in self._tokenizer.all_special_tokens:
            answer = answer.replace(token, "")
        return answer, thought


def lines_of(segment: Segment, prompt: Prompt) -> list[Segment]:
    """What is asked for one at a time: the segment; where the prompt is of one line, each line of its source that is
    not blank."""
    if not prompt.one_line or "\n" not in segment.source.strip():
        return [segment]
    return [replace(segment, source=line.strip()) for line in segment.source.split("\n") if line.strip()]


def join_lines(segment: Segment, lines: Sequence[Hypothesis]) -> Hypothesis:
    """The hypothesis of a segment whose lines were asked for one at a time, broken and spaced as its source is."""
    if len(lines) == 1:
        return lines[0]
    texts = iter(line.text for line in lines)
    text = "\n".join(next(texts) if line.strip() else "" for line in segment.source.strip().split("\n"))
    return Hypothesis(text, sum(line.tokens for line in lines), any(line.truncated for line in lines))


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
    """One hypothesis a segment, in the segments' order: a `Translator` used once."""
    translator = Translator(
        model=model, tokenizer=tokenizer, prompt=prompt, examples=examples, decoding=decoding, context=context
    )
    return translator(segments, progress)


def prepare(
    segment: Segment,
    tokenizer: Any,
    prompt: Prompt,
    examples: Sequence[Segment],
    decoding: Decoding,
    context: int | None,
) -> Prepared:
    """The prompt's ids; a source too long for the context loses its end, until prompt and translation fit.

    Raises StudyError when the length limit alone fills the context.
    """
    ids = prompt_ids(segment, tokenizer, prompt, examples)
    if context is None or len(ids) <= context - decoding.max_new_tokens:
        return Prepared(ids, cut=False)
    room = context - decoding.max_new_tokens
    source = tokenizer(segment.source, add_special_tokens=False)["input_ids"]
    around = len(ids) - len(source)
    keep = room - around
    while keep > 0:
        shorter = replace(segment, source=tokenizer.decode(source[:keep]).strip())
        ids = prompt_ids(shorter, tokenizer, prompt, examples)
        if len(ids) <= room:
            return Prepared(ids, cut=True)
        keep -= max(len(ids) - room, 1)
    way_out = f"ask for fewer than {context - around} new tokens" if context > around else "choose another --prompt"
    raise StudyError(
        f"max_new_tokens={decoding.max_new_tokens} and a prompt of {around} tokens leaves no room for a source in a "
        f"context of {context} tokens; {way_out}"
    )


def shared_beginnings(prompts: Sequence[tuple[int, ...]], pairs: Sequence[str]) -> list[int]:
    """How many of its first ids each prompt has in common with all others of its language pair; 0 for one alone."""
    together: dict[str, list[tuple[int, ...]]] = {}
    for ids, pair in zip(prompts, pairs, strict=True):
        together.setdefault(pair, []).append(ids)
    # What the first and the last in order have in common, all between them have.
    common = {pair: _alike(min(group), max(group)) if len(group) > 1 else 0 for pair, group in together.items()}
    return [common[pair] for pair in pairs]


def _alike(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """How many of their first ids two prompts share."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (mine, theirs) in pairs if mine != theirs), min(len(one), len(other)))


def line_break_ids(tokenizer: Any) -> frozenset[int]:
    """The token ids that hold a line break."""
    ids = range(len(tokenizer))
    pieces = zip(ids, tokenizer.convert_ids_to_tokens(list(ids)), strict=True)
    return frozenset(id for id, piece in pieces if any(mark in piece for mark in LINE_BREAKS))


def stop_ids(model: Any, tokenizer: Any) -> list[int]:
    """The token ids that end a translation: the generation config's, the tokenizer's own, and the one with which the
    chat template ends a turn, which neither may name."""
    configured = model.generation_config.eos_token_id
    ids = [] if configured is None else list(configured) if isinstance(configured, (list, tuple)) else [configured]
    if tokenizer.eos_token_id is not None:
        ids.append(tokenizer.eos_token_id)
    ids += turn_end(tokenizer).ids
    if not ids:
        raise StudyError(
            "neither the model nor its tokenizer names a stop token; add eos_token_id to generation_config.json"
        )
    return list(dict.fromkeys(ids))


def prompt_ids(segment: Segment, tokenizer: Any, prompt: Prompt, examples: Sequence[Segment]) -> tuple[int, ...]:
    """The token ids of the prompt that asks for a segment."""
    text = prompt.render(segment, tokenizer, examples)
    return tuple(tokenizer(text, add_special_tokens=prompt.special_tokens)["input_ids"])
