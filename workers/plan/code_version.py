"""Which code made an artefact: a hash over the modules that carry a step out, and all that these import.

Comments, docstrings, strings under fields, blank lines and white space at a line's end change no result and are left
out. Only the text is read, so that a driver without torch gets the same answer as a worker, and every Python version
too.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import io
import tokenize
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# mlflow_tracking and the orchestrator are never imported by what these hold.
PACKAGES = ("search_spaces", "workers")


def code_version(modules: Iterable[str]) -> str:
    """Twelve hex digits over these modules and every module of this project that they import, at whatever depth and
    also inside functions. modules: dotted names, such as `workers.packed.load`; raises ValueError for one that does not
    exist."""
    return _hash_of(frozenset(modules))


@functools.lru_cache(maxsize=256)
def _hash_of(modules: frozenset[str]) -> str:
    hasher = hashlib.sha256()
    for name in sorted(imported_by(modules)):
        hasher.update(f"{name}\0{_code_of(name)}\0".encode())
    return hasher.hexdigest()[:12]


def imported_by(modules: Iterable[str]) -> frozenset[str]:
    """The modules themselves, what they import of this project, directly or not, and the packages that hold these."""
    found: set[str] = set()
    ahead = list(modules)
    if missing := [name for name in ahead if _file_of(name) is None]:
        raise ValueError(f"there is no module {missing[0]} under {ROOT}")
    while ahead:
        name = ahead.pop()
        if name in found or _file_of(name) is None:
            continue
        found.add(name)
        ahead += _imports_of(name)
        if "." in name:
            ahead.append(name.rpartition(".")[0])
    return frozenset(found)


def without_comments(source: str) -> str:
    """Python source without what the module's docstring names."""
    lines = [line.encode() for line in source.splitlines()]
    tree = ast.parse(source)
    for node in (tree, *statements_in(tree)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            _blank_strings(lines, node.body)
    text = b"\n".join(lines).decode() + "\n"
    kept = text.splitlines()
    tokens = tokenize.generate_tokens(io.StringIO(text).readline) if "#" in text else ()
    for token in tokens:
        if token.type == tokenize.COMMENT:
            row, column = token.start
            kept[row - 1] = kept[row - 1][:column]
    return "\n".join(line.rstrip() for line in kept if line.strip())


def _blank_strings(lines: list[bytes], body: list[ast.stmt]) -> None:
    """Take away docstrings and the strings under fields; where a body holds nothing else, `...` stands for it. Columns
    count bytes."""
    for text in filter(_is_string, body):
        assert text.end_lineno is not None and text.end_col_offset is not None
        first, last = text.lineno - 1, text.end_lineno - 1
        before, after = lines[first][: text.col_offset], lines[last][text.end_col_offset :]
        lines[first : last + 1] = [before + (b"..." if len(body) == 1 else b"") + after] + [b""] * (last - first)


def _is_string(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


@functools.cache
def _code_of(name: str) -> str:
    file = _file_of(name)
    return without_comments(file.read_text(encoding="utf-8")) if file else ""


@functools.cache
def _imports_of(name: str) -> tuple[str, ...]:
    file = _file_of(name)
    return tuple(imports_in(ast.parse(file.read_text(encoding="utf-8")))) if file else ()


def imports_in(tree: ast.AST) -> Iterator[str]:
    """Dotted names that a module may import; of `from a import b` both a and a.b. Imports for type checkers alone are
    left out."""
    for node in statements_in(tree, _for_type_checkers):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None and not node.level, "this project imports by absolute names"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def statements_in(tree: ast.AST, left_out: Callable[[ast.AST], bool] = lambda node: False) -> Iterator[ast.AST]:
    """What a tree holds at whatever depth, in no order, but for expressions, which hold neither statements nor
    docstrings; and but for what is left out and all inside it."""
    ahead = [tree]
    while ahead:
        for _, value in ast.iter_fields(ahead.pop()):
            for node in value if isinstance(value, list) else ():
                if isinstance(node, ast.stmt | ast.excepthandler | ast.match_case) and not left_out(node):
                    ahead.append(node)
                    yield node


def _file_of(name: str) -> Path | None:
    """The file of a module or package of this project; None for any other name."""
    if name.partition(".")[0] not in PACKAGES:
        return None
    path = ROOT.joinpath(*name.split("."))
    files = (path / "__init__.py", path.with_suffix(".py"))
    return next((file for file in files if file.is_file()), None)
