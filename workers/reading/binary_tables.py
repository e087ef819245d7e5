"""Read tables that are no text: parquet, Arrow files, a folder that `datasets` saved, Excel workbooks."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from workers.reading.errors import DataError
from workers.reading.tally import JsonRow

BATCH_ROWS = 1024
STATE, SPLITS = "state.json", "dataset_dict.json"
_PARQUET, _ARROW_FILE, _ARROW_STREAM = b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"
_ZIP, _OLD_OFFICE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_AS_CSV = "Save it as CSV or TSV (UTF-8), with columns src, ref and langs."


def table_kind(path: Path) -> str | None:
    """What kind of table a file or folder is, by its first bytes; None for others, and for what can't be read.

    Raises DataError for office files that are not read, and for a folder of several splits.
    """
    if path.is_dir():
        return _folder_kind(path)
    try:
        with path.open("rb") as stream:
            head = stream.read(8)
    except OSError:
        return None
    if head.startswith(_PARQUET):
        return "parquet"
    if head.startswith(_ARROW_FILE) or (head.startswith(_ARROW_STREAM) and head[4:8] != b"\xff\xff\xff\xff"):
        return "arrow"
    if head.startswith(_OLD_OFFICE):
        raise DataError(path, None, None, "this is an old office file (.xls, .doc)", _AS_CSV)
    return _office_kind(path) if head.startswith(_ZIP) else None


def table_files(path: Path, kind: str) -> list[Path]:
    """The files that a table of this kind consists of."""
    return _arrow_files(path) if kind == "datasets" else [path]


def table_rows(path: Path, kind: str) -> Iterator[JsonRow]:
    """The rows of a table, as they are read; a row's line is its number. Raises DataError for a damaged file, and where
    the package that reads such tables is missing."""
    for number, fields in enumerate(_READERS[kind](path), start=1):
        yield JsonRow(number, number, fields)


def _folder_kind(path: Path) -> str | None:
    if (path / STATE).is_file():
        return "datasets"
    if (path / SPLITS).is_file():
        names = ", ".join(sorted(one.name for one in path.iterdir() if (one / STATE).is_file()))
        rule = f"this folder holds several data sets ({names})"
        raise DataError(path, None, None, rule, f"Name one of them, such as {path.name}/{names.split(', ')[0]}.")
    return None


def _office_kind(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return None
    if "xl/workbook.xml" in names:
        return "excel"
    if "mimetype" in names or "[Content_Types].xml" in names:
        raise DataError(path, None, None, "this is an office document that is not read", _AS_CSV)
    return None


def _parquet(path: Path) -> Iterator[dict[str, object]]:
    from pyarrow import parquet

    with path.open("rb") as stream:
        for batch in parquet.ParquetFile(stream).iter_batches(batch_size=BATCH_ROWS):
            yield from batch.to_pylist()


def _arrow(path: Path) -> Iterator[dict[str, object]]:
    from pyarrow import ipc

    with path.open("rb") as stream:
        is_file = stream.read(len(_ARROW_FILE)) == _ARROW_FILE
        stream.seek(0)
        if is_file:
            reader = ipc.open_file(stream)
            batches: Any = (reader.get_batch(number) for number in range(reader.num_record_batches))
        else:
            batches = ipc.open_stream(stream)
        for batch in batches:
            for start in range(0, batch.num_rows, BATCH_ROWS):
                yield from batch.slice(start, BATCH_ROWS).to_pylist()


def _saved(path: Path) -> Iterator[dict[str, object]]:
    for file in _arrow_files(path):
        yield from _arrow(file)


def _arrow_files(path: Path) -> list[Path]:
    """The files of a folder that `datasets`' save_to_disk wrote, in its order."""
    try:
        state = json.loads((path / STATE).read_text(encoding="utf-8"))
        names = [entry["filename"] for entry in state["_data_files"]]
    except (ValueError, KeyError, TypeError, OSError) as error:
        rule = f"{STATE} is not as `datasets` writes it ({error!r})"
        raise DataError(path, None, None, rule, "Save it again with save_to_disk, or as JSON lines.") from None
    if state.get("_indices_files") or state.get("_indices_data_files"):
        rule = "the data set is a selection of its rows that was not written out"
        raise DataError(path, None, None, rule, "Call flatten_indices() before save_to_disk.")
    missing = [name for name in names if not (path / name).is_file()]
    if missing or not names:
        raise DataError(path, None, None, f"the folder lacks {', '.join(missing) or 'data'}", "Copy it again.")
    return [path / name for name in names]


def _excel(path: Path) -> Iterator[dict[str, object]]:
    from openpyxl import load_workbook

    book = load_workbook(path, read_only=True, data_only=True)
    filled = [
        sheet for sheet in book.worksheets if any(any(row) for row in sheet.iter_rows(max_row=5, values_only=True))
    ]
    if len(filled) > 1:
        names = ", ".join(sheet.title for sheet in filled)
        raise DataError(path, None, None, f"the workbook has {len(filled)} sheets with data ({names})", _AS_CSV)
    for sheet in filled:
        rows = sheet.iter_rows(values_only=True)
        header = ["" if name is None else str(name) for name in next(rows)]
        for cells in rows:
            if any(cell is not None for cell in cells):
                yield {name: _text(cell) for name, cell in zip(header, cells, strict=True) if name}


def _text(cell: object) -> object:
    """A cell as text: Excel takes `1999` for a number."""
    return str(cell) if isinstance(cell, int | float) and not isinstance(cell, bool) else cell


_PACKAGES = {"parquet": "pyarrow", "arrow": "pyarrow", "datasets": "pyarrow", "excel": "openpyxl"}


def _guarded(
    read: Callable[[Path], Iterator[dict[str, object]]], kind: str
) -> Callable[[Path], Iterator[dict[str, object]]]:
    """The reader with what its package raises as DataError."""

    def rows(path: Path) -> Iterator[dict[str, object]]:
        package = _PACKAGES[kind]
        try:
            yield from read(path)
        except ModuleNotFoundError:
            way_out = f"pip install {package}, or save it as CSV, TSV (UTF-8) or JSON lines."
            raise DataError(
                path, None, None, f"this is {_WHAT[kind]}, and {package} is not installed", way_out
            ) from None
        except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
            if isinstance(error, DataError):
                raise
            rule = f"{_WHAT[kind]} that is cut off or damaged ({' '.join(str(error).split())[:80]})"
            raise DataError(path, None, None, rule, "Fetch it again.") from None

    return rows


_WHAT = {
    "parquet": "a parquet file",
    "arrow": "an Arrow file",
    "datasets": "a folder of `datasets`",
    "excel": "an Excel workbook",
}
_READERS = {
    kind: _guarded(read, kind)
    for kind, read in (("parquet", _parquet), ("arrow", _arrow), ("datasets", _saved), ("excel", _excel))
}
