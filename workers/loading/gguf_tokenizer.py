"""The tokenizer of a GGUF file, from its metadata."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workers.checkpoints.gguf_header import GgufHeader
from workers.checkpoints.model_files import TOKENIZER

# How byte-level vocabularies cut text before they merge, by llama.cpp's names (`tokenizer.ggml.pre`; the expressions
# are those of its src/llama-vocab.cpp). None: GPT-2's, which tokenizers' ByteLevel has.
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
CUTS: dict[str, str | None] = {
    "default": None,
    "gpt-2": None,
    "llama3": _LLAMA3,
    "llama-bpe": _LLAMA3,
    "qwen2": _QWEN2,
}
# Names of special tokens -> their key in the metadata.
SPECIAL = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "unk_token": "unknown"}
BYTE_LEVEL = "gpt2"
LLAMA3_CUTS = ("llama-bpe", "llama3")
# Of `tokenizer.ggml.token_type`: special tokens, and those that a user added.
CONTROL, OWN = 3, 4


def write_tokenizer(header: GgufHeader, out: Path) -> list[str]:
    """Write the tokenizer's files; returns what a person has to know of it."""
    tokenizer = read_tokenizer(header)
    tokenizer.save_pretrained(out)
    # transformers spreads it over lines, at half as many bytes again.
    tokenizer.backend_tokenizer.save(str(out / TOKENIZER), pretty=False)
    said = header.metadata
    cut = said.get("tokenizer.ggml.pre", "default")
    if is_byte_level(said) and cut not in CUTS:
        return [
            f"its tokenizer cuts text as {cut!r}, which is not known here: transformers' rule for "
            f"{header.architecture} is taken, so single words may become other tokens than in llama.cpp"
        ]
    return []


def read_tokenizer(header: GgufHeader) -> Any:
    """The file's tokenizer, with the special tokens that its metadata name: transformers' converter of Llama's has the
    first token for the last (seen on 5.17). Of no family's class, which would build it anew.

    Byte-level vocabularies whose cut is known are built here, all others by transformers.
    """
    from tokenizers import AddedToken
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    said = header.metadata
    if is_byte_level(said) and said.get("tokenizer.ggml.pre", "default") in CUTS:
        backend = _byte_level(said)
    else:
        backend = AutoTokenizer.from_pretrained(header.file.parent, gguf_file=header.file.name).backend_tokenizer
    tokens = said.get("tokenizer.ggml.tokens", ())
    kinds = said.get("tokenizer.ggml.token_type", ())
    added = [(token, kind == CONTROL) for token, kind in zip(tokens, kinds, strict=False) if kind in (CONTROL, OWN)]
    backend.add_tokens([AddedToken(token, normalized=False, special=special) for token, special in added])
    numbers = {name: said.get(f"tokenizer.ggml.{key}_token_id") for name, key in SPECIAL.items()}
    special = {name: tokens[at] for name, at in numbers.items() if at is not None and at < len(tokens)}
    adds = bool(said.get("tokenizer.ggml.add_bos_token", _adds_first(said)))
    _begin_with(backend, special.get("bos_token") if adds else None)
    context = said.get(f"{header.architecture}.context_length")
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **special,
        **({} if context is None else {"model_max_length": int(context)}),
        **({"chat_template": said["tokenizer.chat_template"]} if "tokenizer.chat_template" in said else {}),
        clean_up_tokenization_spaces=False,
    )


def is_byte_level(said: Mapping[str, Any]) -> bool:
    """Whether a vocabulary is of byte-level merges. said: the metadata."""
    return bool(said.get("tokenizer.ggml.model") == BYTE_LEVEL)


def _adds_first(said: Mapping[str, Any]) -> bool:
    """What llama.cpp does where the file does not say: sentencepiece vocabularies and Llama 3's begin with a token."""
    return said.get("tokenizer.ggml.model") == "llama" or said.get("tokenizer.ggml.pre") in LLAMA3_CUTS


def _byte_level(said: Mapping[str, Any]) -> Any:
    """A tokenizer of byte-level merges whose cut is one of CUTS."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    name = said.get("tokenizer.ggml.pre", "default")
    vocabulary = {token: number for number, token in enumerate(said["tokenizer.ggml.tokens"])}
    merges = [tuple(pair.split(" ", 1)) for pair in said.get("tokenizer.ggml.merges", ())]
    found = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=name in LLAMA3_CUTS))
    cut = CUTS[name]
    if cut is None:
        found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    else:
        by_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        found.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(cut), "isolated"), by_bytes])
    if name == "qwen2":
        # As upstream's; llama.cpp leaves it out.
        found.normalizer = normalizers.NFC()
    found.decoder = decoders.ByteLevel()
    return found


def _begin_with(backend: Any, first: str | None) -> None:
    """Have texts begin with this token, or with none."""
    from tokenizers import processors

    if first is None:
        backend.post_processor = processors.Sequence([])
        return
    backend.post_processor = processors.TemplateProcessing(
        single=[first, "$A"], pair=[first, "$A", "$B"], special_tokens=[(first, backend.token_to_id(first))]
    )
