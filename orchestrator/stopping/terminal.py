"""What a command writes to, which may go away under it: a closed terminal or pipe loses what is said, and nothing else.

Also where Ray's own messages go: what the process writes to its standard error by itself ends in a file.
"""

from __future__ import annotations

import os
import select
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

# Columns of what is written to a file or a pipe.
PIPED_WIDTH = 110
STDERR = 2
# A pipe that nobody reads must not hold up who says that it ends.
SAY_SECONDS = 0.5
SHOW_CURSOR = b"\x1b[?25h\r\n"


class Lasting:
    """A text stream whose other end may be closed: what is written then is lost, without an error."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return int(self._stream.write(text))
        except OSError:
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            return

    def is_on(self, descriptor: int) -> bool:
        """Whether it writes to this descriptor."""
        try:
            return bool(self._stream.fileno() == descriptor)
        except (OSError, ValueError):
            return False

    def put(self, stream: Any) -> Any:
        """Write to this stream from now on; returns the one before."""
        before, self._stream = self._stream, stream
        return before

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def lasting_streams() -> Iterator[None]:
    """Within it nothing that is printed can raise, and each line is written at once."""
    before = sys.stdout, sys.stderr
    for stream in before:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)
    sys.stdout, sys.stderr = Lasting(sys.stdout), Lasting(sys.stderr)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def say(descriptor: int, text: str) -> None:
    """Write a line past every buffer and lock, from any thread."""
    try:
        if select.select([], [descriptor], [], SAY_SECONDS)[1]:
            os.write(descriptor, (SHOW_CURSOR if os.isatty(descriptor) else b"") + text.encode() + b"\n")
    except OSError:
        return


class Noise:
    """Where the messages of Ray's libraries go, which write to the process's standard error past Python.

    Until a run's folder is there that is a file without a name. `terminal` is a descriptor of what standard error was.
    """

    def __init__(self) -> None:
        sys.stderr.flush()
        self.terminal = os.dup(STDERR)
        self._file: Any = tempfile.TemporaryFile()  # noqa: SIM115
        self._path: Path | None = None
        os.dup2(self._file.fileno(), STDERR)
        self._stderr = sys.stderr if isinstance(sys.stderr, Lasting) and sys.stderr.is_on(STDERR) else None
        if self._stderr is not None:
            self._before = self._stderr.put(open(self.terminal, "w", buffering=1, closefd=False))  # noqa: SIM115

    def move(self, path: Path) -> None:
        """Go on in this file, after what it holds."""
        kept = path.open("ab")
        self._file.seek(0)
        kept.write(self._file.read())
        kept.flush()
        os.dup2(kept.fileno(), STDERR)
        self._file.close()
        self._file, self._path = kept, path

    def end(self, tell: bool) -> None:
        """Put standard error back as it was; an empty file is removed. tell: show what was kept, where that is in no
        folder."""
        sys.stderr.flush()
        if self._stderr is not None:
            self._stderr.put(self._before)
        # `terminal` stays open: a thread that ends the process may be about to write to it.
        os.dup2(self.terminal, STDERR)
        if tell and self._path is None:
            self._file.seek(0)
            sys.stderr.write(self._file.read().decode(errors="replace"))
        self._file.close()
        if self._path is not None and self._path.is_file() and not self._path.stat().st_size:
            self._path.unlink()


def console(quiet: bool = False) -> Console:
    """Where a command says what it found."""
    from rich.console import Console

    return Console(quiet=quiet, width=None if sys.stdout.isatty() else PIPED_WIDTH)


def spell_resume(folder: Path) -> str:
    """What goes on with a search that was stopped."""
    return f"stopped before the end; resume with: mtpareto resume {folder}"
