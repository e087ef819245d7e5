"""A tokenizer as GGUF's metadata: byte-level vocabularies with merges, and sentencepiece's with scores.

What was written must cut texts in llama.cpp's way as the model's own tokenizer does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from search_spaces.errors import StudyError
from workers.checkpoints.gguf_header import read_gguf
from workers.checkpoints.model_files import TOKENIZER
from workers.export.formats.gguf_pieces import SPACE, Pieces
from workers.loading.gguf_tokenizer import CONTROL, CUTS, OWN, is_byte_level, read_tokenizer

NORMAL, UNKNOWN, UNUSED, BYTE = 1, 2, 5, 6
UNUSED_NAME = "[PAD{}]"
MERGED = "--format merged-bf16 keeps it"
# What tokenizers are apt to cut otherwise: cases, digits, punctuation, spaces, line breaks, scripts, marks.
SAMPLES = (
    "Hello, World! It's 3.14 and 12345 o'clock; don't.",
    "two  spaces\n\nand\tlines \n",
    "Žluťoučký kůň, straße, Ελληνικά, Русский, 中文字符, 日本語です, हिन्दी, العربية, 한국어",
    "naïve café — “quoted” … 50 % £3 🙂👍🏽",
)


def write_vocabulary(writer: Any, folder: Path, size: int) -> None:
    """Write tokens, merges or scores, special tokens and the chat template. size: rows of the embeddings.

    Raises StudyError for a tokenizer that is not written as GGUF here.
    """
    from workers.loading.load import load_tokenizer

    file = folder / TOKENIZER
    if not file.is_file():
        raise StudyError(f"{folder} has no {TOKENIZER}, of which GGUF's vocabulary is made; {MERGED}")
    record = json.loads(file.read_text(encoding="utf-8"))
    tokenizer = load_tokenizer(folder)
    if record["model"].get("type") != "BPE":
        raise StudyError(
            f"its tokenizer is of the type {record['model'].get('type')}, and those of BPE are written as GGUF here; "
            f"{MERGED}"
        )
    by_bytes = any(part.get("type") == "ByteLevel" for part in _cutters(record))
    tokens, kinds = _tokens(record, tokenizer, size, by_bytes)
    writer.add_tokenizer_model("gpt2" if by_bytes else "llama")
    writer.add_tokenizer_pre(_cut(record) if by_bytes else "default")
    writer.add_token_list(tokens)
    merges = [pair.split(" ", 1) if isinstance(pair, str) else pair for pair in record["model"]["merges"]]
    if by_bytes:
        writer.add_token_merges([" ".join(pair) for pair in merges])
    else:
        writer.add_token_scores(_scores(tokens, merges))
        writer.add_add_space_prefix(_begins_with_space(tokenizer))
    writer.add_token_types(kinds)
    _write_special(writer, folder, tokenizer, size)


def refuse_other_tokens(file: Path, folder: Path, texts: Iterable[str]) -> None:
    """Raise StudyError where the vocabulary in a GGUF file cuts these texts, or our samples, otherwise than the model's
    own tokenizer."""
    from workers.loading.load import load_tokenizer

    header = read_gguf(file)
    ours = load_tokenizer(folder)
    if is_byte_level(header.metadata):
        theirs = read_tokenizer(header)

        def cut(text: str) -> list[int]:
            return list(theirs(text, add_special_tokens=False).input_ids)
    else:
        cut = Pieces(header.metadata).cut
    for text in (*SAMPLES, *texts):
        if ours(text, add_special_tokens=False).input_ids != cut(text):
            raise StudyError(
                f"the tokenizer does not pass through GGUF: {text[:60]!r} would become other tokens in llama.cpp; "
                f"{MERGED}"
            )


def _tokens(record: dict[str, Any], tokenizer: Any, size: int, by_bytes: bool) -> tuple[list[str], list[int]]:
    """Every row's token and its type."""
    names = {number: token for token, number in record["model"]["vocab"].items()}
    special: dict[int, bool] = {one["id"]: bool(one["special"]) for one in record["added_tokens"]}
    names |= {one["id"]: one["content"] for one in record["added_tokens"]}
    if over := [number for number in names if number >= size]:
        raise StudyError(f"its tokenizer has {len(over):,} tokens more than the model has embeddings; {MERGED}")
    tokens, kinds = [], []
    for number in range(size):
        tokens.append(names.get(number, UNUSED_NAME.format(number)))
        if number not in names:
            kinds.append(UNUSED)
        elif number == tokenizer.unk_token_id and not by_bytes:
            kinds.append(UNKNOWN)
        elif number in special:
            kinds.append(CONTROL if special[number] else OWN)
        else:
            kinds.append(BYTE if not by_bytes and _is_byte(names[number]) else NORMAL)
    return tokens, kinds


def _is_byte(token: str) -> bool:
    return len(token) == 6 and token.startswith("<0x") and token.endswith(">")


def _cutters(record: dict[str, Any]) -> list[dict[str, Any]]:
    """What cuts text before it is merged, in order."""
    found = record.get("pre_tokenizer") or {}
    return list(found.get("pretokenizers", [found]))


def _cut(record: dict[str, Any]) -> str:
    """llama.cpp's name of the rule by which text is cut before it is merged."""
    parts = _cutters(record)
    expressions = [part["pattern"].get("Regex") for part in parts if part.get("type") == "Split"]
    others = [part["type"] for part in parts if part.get("type") not in ("Split", "ByteLevel")]
    if not others and not expressions and parts[-1].get("use_regex", True):
        return "gpt-2"
    known = {expression: name for name, expression in CUTS.items() if expression is not None}
    if not others and len(expressions) == 1 and expressions[0] in known:
        return known[expressions[0]]
    raise StudyError(
        "its tokenizer cuts text by a rule that is not written as GGUF here (those of GPT-2, Llama 3 and Qwen 2 are); "
        f"{MERGED}"
    )


def _scores(tokens: list[str], merges: list[list[str]]) -> list[float]:
    """Of sentencepiece: the earlier a token is merged, the higher its score."""
    ranks: dict[str, int] = {}
    for rank, pair in enumerate(merges, start=1):
        ranks.setdefault("".join(pair), rank)
    return [-float(ranks.get(token, 0)) for token in tokens]


def _begins_with_space(tokenizer: Any) -> bool:
    found = tokenizer.convert_ids_to_tokens(tokenizer("a", add_special_tokens=False).input_ids)
    return bool(found and found[0].startswith(SPACE))


def _write_special(writer: Any, folder: Path, tokenizer: Any, size: int) -> None:
    from workers.translation.chat_template import read_template

    for name, add in (
        ("bos_token_id", writer.add_bos_token_id),
        ("eos_token_id", writer.add_eos_token_id),
        ("pad_token_id", writer.add_pad_token_id),
        ("unk_token_id", writer.add_unk_token_id),
    ):
        if (number := getattr(tokenizer, name)) is not None and number < size:
            add(number)
    ends = _ends(folder)
    if others := [number for number in ends if number != tokenizer.eos_token_id]:
        writer.add_eot_token_id(others[0])
    first = tokenizer("a").input_ids[:1]
    writer.add_add_bos_token(tokenizer.bos_token_id is not None and first == [tokenizer.bos_token_id])
    if (template := read_template(folder)) is not None:
        writer.add_chat_template(template.text)


def _ends(folder: Path) -> list[int]:
    file = folder / "generation_config.json"
    said = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id") if file.is_file() else None
    return said if isinstance(said, list) else [] if said is None else [said]
