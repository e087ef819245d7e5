"""Pairs that nobody wrote: a model goes on where its prompt has the source, and what it wrote is translated.

So a training reads more kinds of text than its pairs have, and forgets less of what they don't show. Chat models write
instructions when they are given what comes before one (Magpie, Xu et al. 2024, https://arxiv.org/abs/2406.08464); a
model of few bits that is trained on texts of the model itself stays closer to it than on a part of what that was
trained on (LLM-QAT, Liu et al. 2023, https://arxiv.org/abs/2305.17888).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from search_spaces.candidate import BaseModel
from workers.languages.codes import language_name, name_languages, split_pair
from workers.languages.detection import is_likeliest
from workers.loading.plain_folder import base_folder
from workers.plan.evaluation_plan import EvaluationPlan
from workers.reading.segments import Segment
from workers.reading.training_data import normalise_text
from workers.runtime.atomic_files import write_whole
from workers.runtime.callbacks import ProgressCallback, ignore_progress
from workers.runtime.training_progress import Progress
from workers.scoring.sanity import failed_checks
from workers.scoring.sanity_checks import CHECKS
from workers.translation.chat_template import template_of
from workers.translation.prompts import Prompt, choose_prompt

NAME = "synthetic pairs"
# Each token is drawn from so many, as likely as the writer finds them.
LIKELIEST = 50
# A source that has not ended by then is none.
LONGEST = 64
# Sequences are short, and more of them fit at a time than when documents are translated.
AT_ONCE = 4
# So many of each direction tell how readily it is written, and below which share of sound ones it is not.
FIRST, LEAST_SHARE = 64, 0.125
# The checks of a hypothesis that ask nothing of a source or a reference.
CHECKED = ("empty", "repeated", "wrong_script", "wrong_language", "truncated")
# Opening and closing ones, in which a model often puts the whole text.
QUOTES = (('"', '"'), ("'", "'"), ("“", "”"), ("„", "“"), ("«", "»"), ("「", "」"))
# Stands for the source in a prompt; no text has it.
MARK = "\ue000"


@dataclass(frozen=True, slots=True)
class Written:
    """What was written, and translated."""

    pairs: tuple[Segment, ...]
    """Sources with their translations as references, of the directions by turns."""
    asked: Mapping[str, int]
    """Direction -> how many sources were asked for."""

    def missing(self) -> dict[str, int]:
        """Direction -> how many pairs there are fewer than asked for."""
        found = Counter(pair.langs for pair in self.pairs)
        return {langs: count - found[langs] for langs, count in self.asked.items() if found[langs] < count}


def write_pairs(
    writer: BaseModel,
    translator: BaseModel,
    plan: EvaluationPlan,
    langs: Sequence[str],
    count: int,
    report: ProgressCallback = ignore_progress,
) -> Written:
    """So many pairs, as many of each two languages: sources that the writer draws, translated by the translator.

    langs: the directions that are trained. Of both directions of two languages the one is taken whose source language
    the writer writes more readily; a pair serves both. Both models are asked as the plan says, on a GPU where there is
    one; the seed is the plan's. Left out is what fails a sanity check, or is a source that the plan measures on. So
    there may be fewer. report: is told how many first sources were drawn, how many there are in the end, and how many
    are translated.
    """
    from workers.runtime.gpu_memory import release_memory
    from workers.translation.translator import Translator

    name_languages(plan.languages)
    model, tokenizer, prompt, _ = _opened(writer, plan)
    asked, sources = draw_sources(model, tokenizer, prompt, plan, langs, count, report)
    del model
    release_memory()
    model, tokenizer, prompt, context = _opened(translator, plan)
    translate = Translator(model, tokenizer, prompt, _examples(plan), plan.decoding, context)
    hypotheses = translate(sources, told(report, "translations", len(sources))) if sources else []
    measured = {normalise_text(segment.source) for data in plan.data.values() for segment in data.segments}
    pairs = (
        replace(source, references=(one.text,))
        for source, one in zip(sources, hypotheses, strict=True)
        if not failed_checks(source, one.text, one.truncated)
        and measured.isdisjoint({normalise_text(source.source), normalise_text(one.text)})
    )
    return Written(tuple(pairs), asked)


def draw_sources(
    model: Any,
    tokenizer: Any,
    prompt: Prompt,
    plan: EvaluationPlan,
    langs: Sequence[str],
    count: int,
    report: ProgressCallback = ignore_progress,
) -> tuple[dict[str, int], list[Segment]]:
    """How many sources are asked for of each direction that is taken, and the sources, by turns, no text twice. Fewer
    of a language that the model does not write: of which less than an eighth of what is drawn passes the checks."""
    import torch

    from workers.translation.translator import line_break_ids, stop_ids

    torch.manual_seed(plan.seed)
    heads = {one: head_ids(one, tokenizer, prompt, _examples(plan)) for one in langs}
    stops = sorted({*stop_ids(model, tokenizer), *line_break_ids(tokenizer)})
    draws = _Draws(model, tokenizer, prompt, heads, stops, AT_ONCE * plan.decoding.batch_size)
    tried, reached = told(report, "languages", FIRST * len(langs)), told(report, "sources", count)
    draws.draw([one for one in langs for _ in range(FIRST)], lambda: tried(draws.drawn.total()))
    taken = more_readily({one: len(draws.found[one]) for one in langs})
    asked = dict(zip(taken, shares_of(count, len(taken)), strict=True))

    def tell() -> None:
        reached(sum(min(len(draws.found[one]), asked[one]) for one in taken))

    tell()
    while wanted := due(asked, {one: len(draws.found[one]) for one in taken}, draws.drawn):
        draws.draw([one for one, times in wanted.items() for _ in range(times)], tell)
    kept = [draws.found[one][: asked[one]] for one in taken]
    return asked, [sources[turn] for turn in range(max(map(len, kept))) for sources in kept if turn < len(sources)]


def more_readily(sound: Mapping[str, int]) -> list[str]:
    """Of both directions of two languages the one of which more drawn sources were sound, of as many; those that come
    alone. sound: direction -> how many were."""
    taken: dict[frozenset[str], str] = {}
    for langs, count in sound.items():
        pair = frozenset(split_pair(langs))
        if pair not in taken or count > sound[taken[pair]]:
            taken[pair] = langs
    return list(taken.values())


def due(asked: Mapping[str, int], found: Mapping[str, int], drawn: Mapping[str, int]) -> dict[str, int]:
    """Direction -> how many sources to draw next; those that have enough, or never will, are left out."""
    draws: dict[str, int] = {}
    for langs, count in asked.items():
        share = found[langs] / drawn[langs]
        if found[langs] < count and share >= LEAST_SHARE:
            draws[langs] = math.ceil((count - found[langs]) / share)
    return draws


@dataclass(slots=True)
class _Draws:
    """What a model was made to write so far."""

    model: Any
    tokenizer: Any
    prompt: Prompt
    heads: Mapping[str, tuple[int, ...]]
    """Direction -> the ids of the prompt up to the source."""
    stops: Sequence[int]
    """Ids that end a source."""
    size: int
    """Sequences at a time."""
    found: dict[str, list[Segment]] = field(init=False)
    """Direction -> the sound sources."""
    drawn: Counter[str] = field(default_factory=Counter)
    """Direction -> how many were drawn."""
    known: set[str] = field(default_factory=set)
    """The texts of all sound ones."""

    def __post_init__(self) -> None:
        self.found = {langs: [] for langs in self.heads}

    def draw(self, directions: Sequence[str], progress: Callable[[], None] = lambda: None) -> None:
        """A source of each of these."""
        for start in range(0, len(directions), self.size):
            now = directions[start : start + self.size]
            texts = sample(self.model, self.tokenizer, [self.heads[langs] for langs in now], self.stops)
            for langs, (text, ended) in zip(now, texts, strict=True):
                self.drawn[langs] += 1
                source = source_of(langs, unquoted(self.prompt.clean(text)), self.drawn[langs])
                known = normalise_text(source.source)
                if ended and known not in self.known and is_sound(source):
                    self.known.add(known)
                    self.found[langs].append(source)
            progress()


def head_ids(langs: str, tokenizer: Any, prompt: Prompt, examples: Sequence[Segment]) -> tuple[int, ...]:
    """The ids of the prompt up to where the source begins, without the space before it."""
    text = prompt.render(source_of(langs, MARK), tokenizer, examples)
    head = text.partition(MARK)[0].rstrip(" ")
    return tuple(tokenizer(head, add_special_tokens=prompt.special_tokens)["input_ids"])


def source_of(langs: str, text: str, number: int = 0) -> Segment:
    """A source alone."""
    name = f"{langs}:{number}"
    return Segment(name, langs, text, ("",), doc_id=name, domain="")


def unquoted(text: str) -> str:
    """The text without the quotation marks that stand around all of it."""
    for opening, closing in QUOTES:
        inner = text.removeprefix(opening).removesuffix(closing)
        if len(text) - len(inner) == 2 and opening not in inner and closing not in inner:
            return inner.strip()
    return text


def is_sound(source: Segment) -> bool:
    """Whether it is a text in its language, by the checks that need no reference and, where that is too short for
    them, by what it is likeliest; and holds no translation, nor a quotation that does not end."""
    written, read = split_pair(source.langs)
    turned = replace(source, langs=f"{read}-{written}", source="")
    if any(CHECKS[name](turned, source.source, False) for name in CHECKED):
        return False
    if not is_likeliest(source.source, written, read) or source.source.count('"') % 2:
        return False
    return not any(f"{language_name(code)}:" in source.source for code in (written, read))


def sample(
    model: Any, tokenizer: Any, heads: Sequence[tuple[int, ...]], stops: Sequence[int]
) -> Iterator[tuple[str, bool]]:
    """What the model writes after each head, up to its first stop or line break, and whether it came to one. Where
    memory runs out, half of them at a time."""
    import torch

    from workers.decoder.generate import through_stop

    try:
        rows = _sampled(model, heads, stops)
    except torch.OutOfMemoryError:
        if len(heads) == 1:
            raise
        torch.cuda.empty_cache()
        half = len(heads) // 2
        yield from sample(model, tokenizer, heads[:half], stops)
        yield from sample(model, tokenizer, heads[half:], stops)
        return
    ends = frozenset(stops)
    for row in rows:
        tokens = through_stop(row, ends)
        # The token of a line break may begin with the full stop before it.
        text = tokenizer.decode(tokens, skip_special_tokens=True)
        yield text.split("\n", 1)[0].strip(), tokens[-1] in ends


def _sampled(model: Any, heads: Sequence[tuple[int, ...]], stops: Sequence[int]) -> list[list[int]]:
    from workers.decoder.generate import left_padded

    pad = stops[0]
    ids, mask = left_padded(heads, pad, model.device)
    output = model.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=LONGEST,
        do_sample=True,
        temperature=1.0,
        top_k=LIKELIEST,
        top_p=1.0,
        repetition_penalty=1.0,
        num_beams=1,
        num_return_sequences=1,
        return_dict_in_generate=False,
        eos_token_id=list(stops),
        pad_token_id=pad,
    )
    rows: list[list[int]] = output[:, ids.shape[1] :].tolist()
    return rows


def shares_of(count: int, parts: int) -> list[int]:
    """The count in so many parts that differ by at most one."""
    return [count // parts + (part < count % parts) for part in range(parts)]


def told(report: ProgressCallback, doing: str, of: int) -> Callable[[int], None]:
    """A progress of texts as a report of them."""
    return lambda done: report(Progress(NAME, done, of, 0.0, 0.0, None, None, doing=doing))


def save_pairs(pairs: Sequence[Segment], file: Path) -> None:
    """The pairs as JSON lines with `src`, `ref` and `langs`; a file that is there is replaced in one step."""
    rows = [{"src": pair.source, "ref": pair.references[0], "langs": pair.langs} for pair in pairs]
    write_whole(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _opened(base: BaseModel, plan: EvaluationPlan) -> tuple[Any, Any, Prompt, int | None]:
    """The model, its tokenizer, how it is asked, and the tokens of its context."""
    from workers.checkpoints.model_files import context_length, read_config
    from workers.loading.load import load_model, load_tokenizer

    folder = base_folder(base.name, base.revision, plan.store, plan.trust_remote_code)
    config = read_config(folder)
    tokenizer = load_tokenizer(folder, plan.trust_remote_code)
    prompt = choose_prompt(base.name, config, template_of(tokenizer), plan.decoding.prompt)
    model = load_model(folder, plan.device_map, plan.trust_remote_code)
    return model, tokenizer, prompt, context_length(config)


def _examples(plan: EvaluationPlan) -> Sequence[Segment]:
    return plan.calibration.segments if plan.calibration else ()
