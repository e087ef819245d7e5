"""The pages hold together: every relative link and every anchor has its target, and the README stays short."""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.support.paths import ROOT

MOST_LINES = 150
PAGES = [ROOT / f"{name}.md" for name in ("README", "ARCHITECTURE", "CONTRIBUTING", "CHANGELOG")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))

FENCED = re.compile(r"^(`{3,}|~{3,}).*?^\1\s*$", flags=re.DOTALL | re.MULTILINE)
CODE = re.compile(r"(`+)[^`].*?\1")
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")


def links(text: str) -> list[str]:
    """The targets of a page's links and images, without those in code."""
    return LINK.findall(CODE.sub("", FENCED.sub("", text)))


def slug(heading: str) -> str:
    """A heading's anchor by GitHub's rule: lower case, marks dropped, a hyphen for each space."""
    shown = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", shown).replace(" ", "-")


@lru_cache
def anchors(page: Path) -> frozenset[str]:
    """The anchors of a page's headings; a heading that is repeated is numbered from 1."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    seen: Counter[str] = Counter()
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6}\s+(.+?)\s*#*$", text, flags=re.MULTILINE):
        name = slug(heading)
        found.add(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return frozenset(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_has_its_target(page: Path) -> None:
    for link in links(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z][a-z+.-]*:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), f"{page.relative_to(ROOT)} links to {link}, which does not exist"
        if anchor:
            assert anchor in anchors(target), f"{page.relative_to(ROOT)} links to {link}: no heading is called so"


def test_the_readme_fits_its_length() -> None:
    lines = len((ROOT / "README.md").read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES, f"README.md has {lines} lines; move what is not needed first into docs/"


def test_slugs_are_those_of_github() -> None:
    assert slug("What a run's folder holds") == "what-a-runs-folder-holds"
    assert slug("`frontier.csv`, column by column") == "frontiercsv-column-by-column"
