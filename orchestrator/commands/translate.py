"""`mtpareto translate`: lines in, as many translated lines out, by a kept model or any model's folder."""

from __future__ import annotations

import logging
import os
import sys
import time
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.commands.line_reader import LineReader
from orchestrator.environment import prepare
from orchestrator.finish.kept_models import kept_model, split_named
from orchestrator.number_format import spell_seconds
from orchestrator.results.picking import described
from search_spaces.wording import pluralize
from workers.checkpoints.gguf_header import is_gguf
from workers.loading.opening import folder_of, origin_of, read_named
from workers.runtime.artefact_store import ArtefactStore
from workers.translation.prompt_file import Asking, pair_of, read_asking

if TYPE_CHECKING:
    from workers.translation.line_translator import LineTranslator, TranslatedLine

log = logging.getLogger(__name__)

# Batches that are read and translated together: the longest lines first, so that a batch is refilled as lines end.
READ_AHEAD = 4
# Seconds that a line waits for others to come.
PATIENCE = 0.2
# Seconds between two lines of progress where the standard error is no terminal.
EVERY = 10.0
# Numbers of lines that a warning names.
MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class TranslateRequest:
    """What to translate with. None takes what the study had, or else the default of a study."""

    model: str
    """A model's folder, a GGUF file, or RUN@PICK."""
    source: str
    """Language code."""
    target: str
    """Language code."""
    batch_size: int | None = None
    max_new_tokens: int | None = None
    beams: int | None = None
    prompt: str | None = None
    device_map: str = "auto"
    trust_remote_code: bool = False


def translate_stream(request: TranslateRequest, lines: LineReader, out: int) -> int:
    """Translate all that comes, and write each line to the descriptor `out` as its batch ends; returns the exit code.

    Ends when who reads has closed the other end. Raises UserError, with nothing written, for what can't be done.
    """
    prepare(None)
    pair = pair_of(request.source, request.target)
    folder, asking, trusted = _named(request)
    if asking.pairs and pair not in asking.pairs:
        log.warning("the study measured %s, and not %s", ", ".join(asking.pairs), pair)
    if asking.decoding.prompt == "few-shot" and pair not in {one.langs for one in asking.examples}:
        log.warning("there is no example for %s: a few-shot prompt asks zero-shot", pair)
    from workers.translation.line_translator import LineTranslator

    # What a library prints must not stand among the lines.
    with redirect_stdout(sys.stderr):
        translator = LineTranslator(
            folder, asking, request.source, request.target, request.device_map, request.trust_remote_code or trusted
        )
        progress = Progress()
        try:
            _all_lines(translator, lines, out, READ_AHEAD * asking.decoding.batch_size, progress)
        except BrokenPipeError:
            progress.end("stopped: nobody reads the translations any longer")
            return 0
    progress.end(None)
    return 0


def _all_lines(translator: LineTranslator, lines: LineReader, out: int, most: int, progress: Progress) -> None:
    while batch := lines.take(most, PATIENCE):
        found = translator(batch)
        _write(out, "".join(f"{line.text}\n" for line in found).encode())
        progress.add(found)


def _write(out: int, text: bytes) -> None:
    while text:
        text = text[os.write(out, text) :]


def _named(request: TranslateRequest) -> tuple[Path, Asking, bool]:
    """The model's folder, how it is asked, and whether its study trusts its code."""
    trusted = False
    folder, pick = (_of_gguf(request.model), None) if is_gguf(request.model) else split_named(request.model)
    if pick is None:
        asking = read_asking(folder) or Asking()
    else:
        kept = kept_model(folder, pick)
        print(f"model     {described(kept.point)}", file=sys.stderr)
        folder, asking, trusted = kept.folder, kept.asking, kept.spec.trust_remote_code
    asked = {
        name: value
        for name in ("batch_size", "max_new_tokens", "beams", "prompt")
        if (value := getattr(request, name)) is not None
    }
    return folder, replace(asking, decoding=replace(asking.decoding, **asked)), trusted


def _of_gguf(name: str) -> Path:
    """The folder of a GGUF file, made once in the user's cache."""
    header = read_named(name)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mtpareto" / "gguf"
    say = partial(print, file=sys.stderr, flush=True)
    say(f"model: {origin_of(name)}")
    ArtefactStore(cache).sweep()
    return folder_of(header, cache, say)


class Progress:
    """How many lines are done, on the standard error: in place on a terminal, else a line every few seconds; and what
    was cut, at the end."""

    def __init__(self) -> None:
        self._began = self._said = time.monotonic()
        self._in_place = sys.stderr.isatty()
        self._done = 0
        self._cut: list[int] = []
        self._parted: list[int] = []

    def add(self, lines: list[TranslatedLine]) -> None:
        """These lines are written."""
        for line in lines:
            self._done += 1
            if line.truncated:
                self._cut.append(self._done)
            if line.pieces > 1:
                self._parted.append(self._done)
        now = time.monotonic()
        if self._in_place:
            sys.stderr.write(f"\r{self._so_far(now)}\x1b[K")
            sys.stderr.flush()
        elif now - self._said >= EVERY:
            print(self._so_far(now), file=sys.stderr)
            self._said = now

    def end(self, why: str | None) -> None:
        """Nothing follows. why: what ended it before the last line."""
        if self._in_place and self._done:
            sys.stderr.write("\n")
        if why:
            print(why, file=sys.stderr)
        print(self._so_far(time.monotonic()), file=sys.stderr)
        if self._parted:
            log.warning("too long for the model's context, and translated in pieces: %s", _lines(self._parted))
        if self._cut:
            log.warning("cut at the length limit: %s; raise --max-new-tokens", _lines(self._cut))

    def _so_far(self, now: float) -> str:
        return f"{pluralize(self._done, 'line')} translated in {spell_seconds(now - self._began)}"


def _lines(numbers: list[int]) -> str:
    """`lines 3 and 8`, or `12 lines (3, 8, 9, 11, 20, …)`."""
    named = ", ".join(map(str, numbers[:MOST_NAMED]))
    if len(numbers) <= MOST_NAMED:
        return f"{'line' if len(numbers) == 1 else 'lines'} {named}"
    return f"{len(numbers):,} lines ({named}, …)"
