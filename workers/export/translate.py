"""Translates lines with the exported model beside this file: a line out for each line in, in order.

This file is copied beside an exported model, with the modules that it imports; it needs torch and transformers, and
what requirements.txt names. Progress and warnings go to the standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, redirect_stdout
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from line_reader import LineReader
from long_lines import joined, pieces_of
from stored_weights import is_stored_apart, load_stored
from thinking import opened_by, without_thinking

HERE = Path(__file__).resolve().parent
# Batches that are read and translated together, the longest lines first.
READ_AHEAD = 4
# Seconds that a line waits for others to come.
PATIENCE = 0.2
# Of the new tokens, the share that the source of a line's piece may have.
PIECE_SHARE = 2
# A line break as tokenizers spell it in their vocabularies.
LINE_BREAKS = ("\n", "\u010a", "<0x0A>")
EVERY = 10.0
# Numbers of lines that a warning names.
MOST_NAMED = 5


class Line(NamedTuple):
    """A line's translation. pieces: how many its source was cut into; 0 for an empty line, 1 for one that was not cut.
    truncated: it reached the length limit."""

    text: str
    pieces: int
    truncated: bool


def main() -> int:
    """Read the arguments, load the model, translate."""
    options = arguments()
    asked = json.loads((HERE / "prompt.json").read_text(encoding="utf-8"))
    for name in ("batch_size", "max_new_tokens", "beams"):
        if (value := getattr(options, name)) is not None:
            if value < 1:
                return refuse(f"{name} is {value}; it must be at least 1")
            asked[name] = value
    pair = pair_of(options.lang_pair, asked)
    if pair is None:
        return refuse(f"this model was exported for {', '.join(asked['requests'])}, and not for {options.lang_pair}")
    with ExitStack() as files:
        try:
            source = files.enter_context(options.input.open("rb")) if options.input else sys.stdin.buffer
            out = files.enter_context(options.output.open("wb")) if options.output else sys.stdout.buffer
        except OSError as error:
            return refuse(f"{error.filename} can't be opened: {error.strerror}")
        # What a library prints must not stand among the lines.
        files.enter_context(redirect_stdout(sys.stderr))
        trusted = options.trust_remote_code or asked["trust_remote_code"]
        model, tokenizer = load(HERE, trusted), load_tokenizer(HERE, trusted)
        try:
            translator = Translator(asked, pair, model, tokenizer)
        except ValueError as error:
            return refuse(str(error))
        try:
            run(translator, LineReader(source.fileno()), out.fileno(), READ_AHEAD * asked["batch_size"])
        except BrokenPipeError:
            say("stopped: nobody reads the translations any longer")
    return 0


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lang-pair", required=True, help="codes of two or three letters, such as ces-deu or cs-de")
    parser.add_argument("--batch-size", type=int, help="lines at a time")
    parser.add_argument("--max-new-tokens", type=int, help="a translation's limit")
    parser.add_argument("--beams", type=int, help="1 is greedy")
    parser.add_argument("--input", type=Path, help="a file of lines (default: the standard input)")
    parser.add_argument("--output", type=Path, help="a file for their translations (default: the standard output)")
    parser.add_argument("--trust-remote-code", action="store_true", help="run code that came with the model")
    return parser.parse_args()


def pair_of(named: str, asked: dict[str, Any]) -> str | None:
    """The pair of `requests` that these codes name, such as ces-deu or eng-zho_Hant; None where there is none."""
    parts = named.lower().replace("_", "-").split("-")
    for end in range(1, len(parts)):
        found = [asked["codes"].get("-".join(code)) for code in (parts[:end], parts[end:])]
        if (pair := f"{found[0]}-{found[1]}") in asked["requests"]:
            return pair
    return None


def run(translator: Translator, lines: LineReader, out: int, together: int) -> None:
    """Translate every line, some batches of them at a time, and write each as its batches end."""
    began = said = time.monotonic()
    done, told = 0, -1
    cut: list[int] = []
    parted: list[int] = []
    while batch := lines.take(together, PATIENCE):
        found = translator(batch)
        write(out, "".join(f"{line.text}\n" for line in found).encode())
        cut += [done + number for number, line in enumerate(found, start=1) if line.truncated]
        parted += [done + number for number, line in enumerate(found, start=1) if line.pieces > 1]
        done += len(found)
        if (now := time.monotonic()) - said >= EVERY:
            say(f"{done:,} lines translated in {now - began:.0f} s")
            said, told = now, done
    if told != done:
        say(f"{done:,} lines translated in {time.monotonic() - began:.0f} s")
    if parted:
        say(f"warning: too long for the model's context, and translated in pieces: {numbers(parted)}")
    if cut:
        say(f"warning: cut at the length limit: {numbers(cut)}; raise --max-new-tokens")


def write(out: int, text: bytes) -> None:
    """Write all of it to a descriptor."""
    while text:
        text = text[os.write(out, text) :]


def numbers(lines: Sequence[int]) -> str:
    """`lines 3, 8`, or `12 lines (3, 8, 9, 11, 20, …)`."""
    named = ", ".join(map(str, lines[:MOST_NAMED]))
    if len(lines) <= MOST_NAMED:
        return f"{'line' if len(lines) == 1 else 'lines'} {named}"
    return f"{len(lines):,} lines ({named}, …)"


class Translator:
    """The model and one language pair; called with lines, it gives as many translations."""

    def __init__(self, asked: dict[str, Any], pair: str, model: Any, tokenizer: Any) -> None:
        """asked: what prompt.json holds. Raises ValueError where no source fits into the model's context."""
        self._asked = asked
        self._request = asked["requests"][pair]
        self._target = pair.split("-")[1]
        self._batch_size = asked["batch_size"]
        self._model, self._tokenizer = model, tokenizer
        self._stops = stop_ids(self._model, self._tokenizer, asked)
        self._line_ends = line_break_ids(self._tokenizer) if asked["one_line"] else frozenset()
        self._opened = opened_by(self._request["before"] + self._request["after"]) if asked["chat"] else ""
        if not self._fits("word"):
            raise ValueError(f"{asked['max_new_tokens']} new tokens leave no room for a source; ask for fewer")

    def __call__(self, lines: Sequence[str]) -> list[Line]:
        """A translation a line, in order; the model is not asked for lines of white space alone."""
        pieces = [self._pieces(line.strip()) for line in lines]
        sources = [piece for of_line in pieces for piece in of_line]
        answers = iter(self._answers(sources))
        found = []
        for of_line in pieces:
            texts = list(islice(answers, len(of_line)))
            whole = joined([text for text, _ in texts], self._target)
            found.append(Line(" ".join(whole.split()), len(of_line), any(cut for _, cut in texts)))
        return found

    def _pieces(self, text: str) -> list[str]:
        """What is asked for: the line, or its sentences where its prompt does not fit into the model's context."""
        if not text:
            return []
        return [text] if self._fits(text) else pieces_of(text, self._is_piece)

    def _fits(self, text: str) -> bool:
        context = self._asked["context"]
        return context is None or len(self._ids(text)) <= context - self._asked["max_new_tokens"]

    def _is_piece(self, text: str) -> bool:
        source = len(self._tokenizer(text, add_special_tokens=False)["input_ids"])
        return PIECE_SHARE * source <= self._asked["max_new_tokens"] and self._fits(text)

    def _ids(self, text: str) -> list[int]:
        prompt = self._request["before"] + text + self._request["after"]
        found: list[int] = self._tokenizer(prompt, add_special_tokens=self._asked["special_tokens"])["input_ids"]
        return found

    def _answers(self, sources: Sequence[str]) -> list[tuple[str, bool]]:
        """What the model says to each source, cleaned, and whether it was cut."""
        prompts = [self._ids(source) for source in sources]
        done: dict[int, list[int]] = {}
        while len(done) < len(prompts):
            left = [at for at in range(len(prompts)) if at not in done]
            try:
                for batch in self._batches(prompts, sorted(left, key=lambda at: (-len(prompts[at]), at))):
                    done.update(zip(batch, self._generated([prompts[at] for at in batch]), strict=True))
            except torch.OutOfMemoryError:
                if self._batch_size == 1:
                    raise
                self._batch_size //= 2
                say(f"warning: out of memory, continuing with {self._batch_size} lines at a time")
        return [self._cleaned(done[at], source) for at, source in enumerate(sources)]

    def _batches(self, prompts: Sequence[list[int]], order: Sequence[int]) -> Iterator[list[int]]:
        batch: list[int] = []
        for at in order:
            unlike = self._asked["unpadded"] and batch and len(prompts[at]) != len(prompts[batch[-1]])
            if batch and (len(batch) == self._batch_size or unlike):
                yield batch
                batch = []
            batch.append(at)
        if batch:
            yield batch

    def _generated(self, prompts: Sequence[list[int]]) -> list[list[int]]:
        """The new tokens of each prompt, up to the one that ends it."""
        width = max(map(len, prompts))
        pad = self._stops[0]
        ids = [[pad] * (width - len(prompt)) + prompt for prompt in prompts]
        mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        beams = self._asked["beams"]
        with torch.inference_mode():
            output = self._model.generate(
                torch.tensor(ids, device=self._model.device),
                attention_mask=torch.tensor(mask, device=self._model.device),
                max_new_tokens=self._asked["max_new_tokens"],
                do_sample=False,
                num_beams=beams,
                temperature=None,
                top_p=None,
                top_k=None,
                num_return_sequences=1,
                return_dict_in_generate=False,
                eos_token_id=self._stops,
                pad_token_id=pad,
                stopping_criteria=[self._at_line_end(width)] if self._line_ends and beams == 1 else None,
            )
        return [self._ended(row) for row in output[:, width:].tolist()]

    def _at_line_end(self, width: int) -> Callable[..., torch.Tensor]:
        """A stopping criterion: a row ends at a line break that follows another token."""
        ends = torch.tensor(sorted(self._line_ends), device=self._model.device)

        def ended(ids: torch.Tensor, scores: Any, **more: Any) -> torch.Tensor:
            breaks = torch.isin(ids[:, width:], ends)
            return breaks[:, -1] & ~breaks.all(dim=1)

        return ended

    def _ended(self, row: list[int]) -> list[int]:
        """A row's tokens without what `generate` fills it up with: all up to its first end, that end included."""
        for place, token in enumerate(row):
            if token in self._stops:
                return row[: place + 1]
        return row

    def _cleaned(self, ids: list[int], source: str) -> tuple[str, bool]:
        end = next((place for place, token in enumerate(ids) if token in self._stops), None)
        kept = ids if end is None else ids[:end]
        raw = self._said(kept, source)
        mark = self._asked["turn_end"]
        before, ended_by_turn, _ = raw.partition(mark) if mark else (raw, "", "")
        text = before.strip()
        ended_by_line = self._asked["one_line"] and "\n" in text
        if self._asked["one_line"]:
            text = text.split("\n", 1)[0]
        at_limit = end is None and len(ids) >= self._asked["max_new_tokens"]
        return " ".join(text.split()), bool(at_limit and not ended_by_line and not ended_by_turn)

    def _said(self, ids: list[int], source: str) -> str:
        """The text without special tokens, and without what the model thought first."""
        raw = str(self._tokenizer.decode(ids, skip_special_tokens=True))
        if not self._asked["chat"]:
            return raw
        said = str(self._tokenizer.decode(ids, skip_special_tokens=False))
        answer = str(without_thinking(said, self._opened, source)[0])
        if answer == said:
            return raw
        for token in self._tokenizer.all_special_tokens:
            answer = answer.replace(token, "")
        return answer


def load(folder: Path, trust_remote_code: bool) -> Any:
    """The model in eval mode: bfloat16 on the first GPU, else float32 on the CPU."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    # cuDNN's attention plans every new shape for half a second; torch's other kernels need no plan.
    torch.backends.cuda.enable_cudnn_sdp(False)
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    if is_stored_apart(folder):
        model = load_stored(folder, dtype, device, trust_remote_code)
    else:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            device_map={"": device},
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
        ).eval()
    # torch's attention leaves the bounds of Gemma 2's scores out.
    if getattr(model.config, "attn_logit_softcapping", None) and model.config._attn_implementation == "sdpa":
        model.set_attn_implementation("eager")
    return model


def load_tokenizer(folder: Path, trust_remote_code: bool) -> Any:
    """The model's tokenizer."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", trust_remote_code=trust_remote_code)
    # Said of every line that is then cut.
    tokenizer.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True
    return tokenizer


def stop_ids(model: Any, tokenizer: Any, asked: dict[str, Any]) -> list[int]:
    """The token ids that end a translation."""
    configured = model.generation_config.eos_token_id
    ids = [] if configured is None else list(configured) if isinstance(configured, (list, tuple)) else [configured]
    if tokenizer.eos_token_id is not None:
        ids.append(tokenizer.eos_token_id)
    return list(dict.fromkeys([*ids, *asked["turn_end_ids"]]))


def line_break_ids(tokenizer: Any) -> frozenset[int]:
    """The token ids that hold a line break."""
    ids = range(len(tokenizer))
    pieces = zip(ids, tokenizer.convert_ids_to_tokens(list(ids)), strict=True)
    return frozenset(id for id, piece in pieces if any(mark in piece for mark in LINE_BREAKS))


def say(line: str) -> None:
    """A line on the standard error."""
    print(line, file=sys.stderr, flush=True)


def refuse(why: str) -> int:
    """Say what is wrong; the exit code."""
    say(f"error: {why}")
    return 2


if __name__ == "__main__":
    sys.exit(main())
