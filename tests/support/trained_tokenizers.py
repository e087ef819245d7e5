"""Small tokenizers trained on the shipped calibration pairs, one of every family that is trimmed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.support.paths import ROOT
from workers.compression.vocabulary.tokenizer_model import BYTES
from workers.reading.dataset import read_dataset

PAIRS = read_dataset(ROOT / "data" / "calibration.jsonl.gz").segments[::5]
SPECIAL = ["<unk>", "<s>", "</s>"]


def texts() -> list[str]:
    return [text for pair in PAIRS for text in (pair.source, pair.references[0])]


def byte_level(ignore_merges: bool = False) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts(), trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, show_progress=False)
    )
    if ignore_merges:
        spec = json.loads(tokenizer.to_str())
        tokenizer = Tokenizer.from_str(json.dumps({**spec, "model": {**spec["model"], "ignore_merges": True}}))
    # Behind the merges, as Llama 3 and Qwen have them.
    tokenizer.add_special_tokens(["<s>", "</s>"])
    bos = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", bos)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def merged_pieces() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A vocabulary in the order of Llama 2: special tokens, bytes, merged tokens, characters."""
    from tokenizers import Tokenizer, models, normalizers, trainers

    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.train_from_iterator(texts(), trainers.BpeTrainer(vocab_size=500, show_progress=False))
    model = json.loads(trained.to_str())["model"]
    merges = [(left, right) for left, right in model["merges"]]
    merged = list(dict.fromkeys(left + right for left, right in merges))
    tokens = [*SPECIAL, *sorted(BYTES), *merged, *(token for token in model["vocab"] if len(token) == 1)]
    return {token: number for number, token in enumerate(tokens)}, merges


def llama() -> Any:
    from transformers import LlamaTokenizer

    vocabulary, merges = merged_pieces()
    return LlamaTokenizer(vocab=vocabulary, merges=merges, add_bos_token=True)


def gemma() -> Any:
    from transformers import GemmaTokenizer

    vocabulary, merges = merged_pieces()
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *list(vocabulary)[len(SPECIAL) :]]
    return GemmaTokenizer(
        vocab={token: number for number, token in enumerate(tokens)}, merges=merges, add_bos_token=True
    )


def unigram() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    trained = Tokenizer(models.Unigram())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trained.train_from_iterator(texts(), trainers.UnigramTrainer(vocab_size=500, show_progress=False))
    pieces = [(token, score) for token, score in json.loads(trained.to_str())["model"]["vocab"]]
    vocabulary = [*((token, 0.0) for token in (*SPECIAL, *sorted(BYTES))), *pieces]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def whole_words() -> Any:
    """Words of the vocabulary are found whole and not merged, as in Llama 3."""
    return byte_level(ignore_merges=True)


TOKENIZERS: dict[str, Callable[[], Any]] = {
    "whole_words": whole_words,
    "byte_level": byte_level,
    "llama": llama,
    "gemma": gemma,
    "unigram": unigram,
}
