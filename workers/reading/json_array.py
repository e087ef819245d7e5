"""Take one JSON array of objects apart while it is read, so that no more of it than a chunk is in memory at a time."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from workers.reading.errors import DataError
from workers.reading.json_objects import checked_object

_GAP = re.compile(r"[ \t\r\n]*")
# A JSON token that is cut off by the end of a chunk is reported no further before it; a string, where it begins.
_LONGEST_TOKEN = 16


def array_elements(chunks: Iterable[bytes], path: Path) -> Iterator[tuple[int, object]]:
    """Each element of the array in a UTF-8 content: (line that it begins on, 1-based; value).

    Raises DataError for an array that is broken: what follows the fault can't be told apart.
    """
    window = _Window(chunks, path)
    window.skip_gap()
    window.skip("[")
    window.skip_gap()
    first = True
    while not (first and window.at_sign("]")):
        line = window.line()
        yield line, window.value()
        first = False
        window.skip_gap()
        if window.at_sign("]"):
            break
        if not window.at_sign(","):
            raise window.broken("an element must be followed by , or ]", line)
        window.skip(",")
        window.skip_gap()
    closing = window.line()
    window.skip("]")
    window.skip_gap()
    if not window.ended():
        raise window.broken("nothing may follow its ]", closing)


class _Window:
    """The part of a text that is in memory, and how far it has been read."""

    def __init__(self, chunks: Iterable[bytes], path: Path) -> None:
        self._chunks = iter(chunks)
        self._path = path
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._json = json.JSONDecoder(object_pairs_hook=checked_object)
        self._text = ""
        self._at = 0
        self._counted = 0
        self._line = 1
        self._received = 1

    def line(self) -> int:
        """The line that the next character is on."""
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    def skip_gap(self) -> None:
        while gap := _GAP.match(self._text, self._at):
            self._at = gap.end()
            if self._at < len(self._text) or not self._more():
                return

    def at_sign(self, sign: str) -> bool:
        return self._text.startswith(sign, self._at)

    def skip(self, sign: str) -> None:
        self._at += len(sign)

    def ended(self) -> bool:
        return self._at == len(self._text)

    def value(self) -> object:
        """The JSON value that begins here, and on to what follows it."""
        while True:
            try:
                value, end = self._json.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                inside = error.pos + _LONGEST_TOKEN < len(self._text) and not error.msg.startswith("Unterminated")
                if inside or not self._more():
                    raise self.broken(error.msg) from None
            except RecursionError as error:
                raise self.broken(str(error)) from None
            else:
                # A number may go on in the next chunk.
                if end < len(self._text) or not self._more():
                    self._at = end
                    return value

    def broken(self, detail: str, line: int | None = None) -> DataError:
        rule = f"the JSON array is cut off or damaged ({detail})"
        way_out = "Fetch it again, or write one object a line: only then can --skip-bad-rows pass over a bad row."
        found = self._text[self._at :][:1000]
        return DataError(self._path, line or self.line(), found or "the end of the file", rule, way_out)

    def _more(self) -> bool:
        """Put the next chunk behind what has not been read yet; False when there is none."""
        for chunk in self._chunks:
            if text := self._decoded(chunk):
                self.line()
                self._text = self._text[self._at :] + text
                self._at = self._counted = 0
                return True
        self._decoded(b"", final=True)
        return False

    def _decoded(self, chunk: bytes, final: bool = False) -> str:
        try:
            text = self._utf8.decode(chunk, final)
        except UnicodeDecodeError as error:
            line = self._received + error.object.count(b"\n", 0, error.start)
            around = error.object[max(0, error.start - 20) : error.start + 20].decode("utf-8", errors="replace")
            rule = f"the text must be UTF-8 (byte 0x{error.object[error.start]:02x} is not)"
            raise DataError(self._path, line, around, rule, "Convert the file to UTF-8.") from None
        self._received += text.count("\n")
        return text
