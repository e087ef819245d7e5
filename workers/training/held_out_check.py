"""The gate of a training: chrF of validation pairs, translated by the model as it stands and as it would be stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from workers.checkpoints.model_files import context_length, read_config
from workers.loading.load import CPU_DTYPE, CUDA_DTYPE, load_model, load_tokenizer
from workers.plan.compression_context import CompressionContext
from workers.reading.segments import Segment
from workers.runtime.gpu_memory import release_memory
from workers.runtime.working import working
from workers.scoring.metrics import Interval, corpus_statistics, overall, paired_interval, scores_by_pair
from workers.training.model_forms.trainable import Trainable
from workers.training.model_forms.writing import plain_model
from workers.translation.decoding import DEFAULT_MAX_NEW_TOKENS, Decoding

TOGETHER = 128
# What a trial is at meanwhile.
TRANSLATING = "translating, validation pair"
# A translation may be so many times as long as the longest reference, and so many tokens more.
LENGTH_FACTOR = 2
LENGTH_MORE = 8
# Of n values a bootstrap's variance is (n - 1) / n of the true one: of one value nothing.
FEWEST_PAIRS = 20
FEWEST_OF_A_DIRECTION = 5


def held_out_chrf(trained: Trainable, segments: Sequence[Segment], context: CompressionContext) -> float:
    """Corpus chrF of greedy translations by a model in training, the mean over directions.

    A dense copy of the model translates, so that the fast decoder can, and no adapter or rounding is left out.
    """
    dtype = CUDA_DTYPE if context.device.type == "cuda" else CPU_DTYPE
    texts = _translations(plain_model(trained, context.device, dtype), trained.parent, segments, context)
    return _chrf(segments, texts)


def folder_chrf(folder: Path, segments: Sequence[Segment], context: CompressionContext) -> float:
    """The same of a model as it lies in a folder."""
    return _chrf(segments, _of_folder(folder, segments, context))


def changed_interval(before: Path, after: Path, segments: Sequence[Segment], context: CompressionContext) -> Interval:
    """The 95 % interval of what a training changed in validation chrF, by a paired bootstrap (`paired_interval`).

    before, after: the folders of the model as it was and as it is stored now. Each pair is drawn by itself, whatever
    document its file names.
    """
    was, now = (
        corpus_statistics("chrf", segments, _of_folder(folder, segments, context)) for folder in (before, after)
    )
    each = [replace(segment, doc_id=str(place)) for place, segment in enumerate(segments)]
    return paired_interval("chrf", each, now, was, context.seed)


def enough_to_judge(segments: Sequence[Segment]) -> bool:
    """Whether there are pairs enough, in each direction too, for a bootstrap to say what is chance."""
    counts = Counter(segment.langs for segment in segments)
    return len(segments) >= FEWEST_PAIRS and min(counts.values()) >= FEWEST_OF_A_DIRECTION


def _chrf(segments: Sequence[Segment], texts: Sequence[str]) -> float:
    return overall(scores_by_pair(("chrf",), segments, texts)["chrf"])


def _of_folder(folder: Path, segments: Sequence[Segment], context: CompressionContext) -> list[str]:
    return _translations(load_model(folder, str(context.device), context.trust_remote_code), folder, segments, context)


def _translations(model: Any, folder: Path, segments: Sequence[Segment], context: CompressionContext) -> list[str]:
    from workers.translation.translator import Translator

    tokenizer = load_tokenizer(folder, context.trust_remote_code)
    room = context_length(read_config(folder))
    longest = max(len(tokenizer(segment.references[0])["input_ids"]) for segment in segments)
    limit = min(LENGTH_FACTOR * longest + LENGTH_MORE, DEFAULT_MAX_NEW_TOKENS, (room or DEFAULT_MAX_NEW_TOKENS) // 2)
    decoding = Decoding(max_new_tokens=limit, batch_size=TOGETHER)
    examples = context.calibration if context.prompt.name == "few-shot" else ()
    translator = Translator(
        model=model, tokenizer=tokenizer, prompt=context.prompt, examples=examples, decoding=decoding, context=room
    )
    count = len(segments)
    working(TRANSLATING, 0, count)
    texts = [one.text for one in translator(segments, lambda done: working(TRANSLATING, done, count))]
    del translator, model
    release_memory()
    return texts
