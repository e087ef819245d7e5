"""`mtpareto translate`: lines in, as many translated lines out, by a kept model or any model's folder."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.commands.translation.processes import Loading, translate_on
from orchestrator.commands.translation.progress import Progress
from orchestrator.environment import prepare
from orchestrator.finish.kept_models import kept_model, split_named
from orchestrator.results.picking import described
from search_spaces.errors import StudyError
from workers.checkpoints.gguf_header import is_gguf
from workers.loading.opening import folder_of, origin_of, read_named
from workers.loading.placing import AUTO
from workers.runtime.artefact_store import ArtefactStore
from workers.translation.line_reader import LineReader
from workers.translation.prompt_file import Asking, pair_of, read_asking

if TYPE_CHECKING:
    from workers.translation.line_translator import TranslatedLine

log = logging.getLogger(__name__)

# Batches that are read and translated together: the longest lines first, so that a batch is refilled as lines end.
READ_AHEAD = 4
# Seconds that a line waits for others to come.
PATIENCE = 0.2


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
    device_map: str = AUTO
    devices: str | None = None
    """Devices with commas, each of which gets the whole model; None is every GPU that holds it."""
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
    trusted = trusted or request.trust_remote_code
    devices = _devices(request, folder, trusted)
    most = READ_AHEAD * asking.decoding.batch_size
    progress = Progress()

    def write(found: list[TranslatedLine]) -> None:
        _write(out, "".join(f"{line.text}\n" for line in found).encode())
        progress.add(found)

    loading = Loading(folder, asking, request.source, request.target, trusted)
    try:
        if len(devices) > 1:
            print(f"devices   {', '.join(devices)}, a process each", file=sys.stderr)
            translate_on(devices, loading, lambda: lines.take(most, PATIENCE), write, progress.begin)
        else:
            # What a library prints must not stand among the lines.
            with redirect_stdout(sys.stderr):
                translator = loading.load(devices[0] if devices else request.device_map)
                progress.begin()
                while batch := lines.take(most, PATIENCE):
                    write(translator(batch))
    except BrokenPipeError:
        progress.end("stopped: nobody reads the translations any longer")
        return 0
    progress.end(None)
    return 0


def _devices(request: TranslateRequest, folder: Path, trusted: bool) -> list[str]:
    """The devices that get the whole model each; [] where `device_map` says where one model goes.

    Raises StudyError for what is no device of this machine.
    """
    if request.devices is None:
        if request.device_map != AUTO:
            return []
        from workers.loading.load import gpus_that_hold

        return gpus_that_hold(folder, trusted)
    if request.device_map != AUTO:
        raise StudyError(
            "--devices and --device-map both say where the model goes; --devices puts a whole one on each, and "
            "--device-map spreads one"
        )
    from workers.loading.spread import known_device

    return [known_device(name.strip()) for name in request.devices.split(",")]


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
