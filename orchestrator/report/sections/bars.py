"""Stacked bars, of bytes by part and of seconds by stage; the numbers stand beside them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from orchestrator.report.html_parts import text

COLOURS = 8


def stacked(parts: Mapping[str, float], order: Sequence[str], whole: float, spelt: Mapping[str, str]) -> str:
    """One bar. parts: name -> amount. order: all names that bars of this kind have, which gives each its colour. whole:
    what the bar's full width stands for. spelt: name -> the amount in words, for the title."""
    pieces = "".join(
        f'<span class="piece part-{at % COLOURS}" style="width:{100 * parts[name] / whole:.3f}%" '
        f'title="{text(name)}: {text(spelt[name])}"></span>'
        for at, name in enumerate(order)
        if parts.get(name, 0) > 0
    )
    return f'<div class="bar">{pieces}</div>'


def key(order: Sequence[str], shown: Collection[str] | None = None) -> str:
    """Which colour is which. shown: the names to list; None is all."""
    entries = "".join(
        f'<li><span class="swatch part-{at % COLOURS}"></span>{text(name)}</li>'
        for at, name in enumerate(order)
        if shown is None or name in shown
    )
    return f'<ul class="key">{entries}</ul>'
