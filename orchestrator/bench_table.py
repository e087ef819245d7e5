"""The bench's figures with what each means and the mark it is held to: as a table in the terminal, and as a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

NOTE = "Marks of seconds and memory are for the shape mistral-7b on one H100."

# figure -> what it is, and the mark: at most (<=) or at least (>=) so much, or none.
FIGURES: dict[str, tuple[str, str]] = {
    "gptq4_s": ("seconds: the short calibration and GPTQ at 4 bits", "<= 30"),
    "gptq4_1m_s": ("seconds: the long calibration and GPTQ at 4 bits", "<= 130"),
    "gptq_all_widths_s": ("seconds: the short calibration and GPTQ at 8, 4, 3 and 2 bits", ""),
    "gptq_all_widths_ratio": ("all four widths over one, in time", "<= 1.3"),
    "peak_gpu_gib": ("GiB of GPU memory at most, weights included", "<= 37.2"),
    "llmcompressor_s": ("seconds: llm-compressor, short calibration, 4 bits, scaled to all layers", ""),
    "llmcompressor_1m_s": ("seconds: llm-compressor, long calibration, 4 bits, scaled to all layers", ""),
    "llmcompressor_ratio_65k": ("its seconds over ours, short calibration", ">= 2.5"),
    "llmcompressor_ratio_1m": ("its seconds over ours, long calibration", ">= 6"),
    "llmcompressor_ratio_four_widths": ("its four runs over our one", ">= 8"),
    "layer_error_ours_over_llmcompressor_random": ("our output error over its, random weights, layer 0", "<= 1.01"),
    "layer_error_ours_over_llmcompressor_model": ("our output error over its, the model, all layers", "<= 1"),
    "layer_error_ours_over_llmcompressor_model_layer0": ("the same, layer 0", "<= 1"),
    "layer_error_gptq_over_rtn_4": ("GPTQ's output error over RTN's on held-out pairs, 4 bits", "<= 0.6"),
    "layer_error_gptq_over_rtn_3": ("the same, 3 bits", "<= 0.6"),
    "layer_error_gptq_over_rtn_2": ("the same, 2 bits", "<= 0.6"),
    "chrf_bf16": ("chrF, uncompressed", ""),
    "chrf_gptq4": ("chrF, GPTQ at 4 bits in groups of 64", ""),
    "chrf_gptq3": ("chrF, GPTQ at 3 bits in groups of 64", ""),
    "chrf_rtn3": ("chrF, round-to-nearest at 3 bits in groups of 64", ""),
    "chrf_uniform3": ("chrF, uniform GPTQ at 3 bits with 8-bit embeddings: the size of the next three", ""),
    "chrf_mixed": ("chrF, widths of layers and embeddings by measured divergence", ""),
    "chrf_raw_error": ("chrF, widths of layers by raw weight error, 8-bit embeddings", ""),
    "chrf_raw_error_embeddings": ("chrF, widths of layers and embeddings by raw weight error", ""),
    "gptq4_minus_bf16": ("chrF that GPTQ at 4 bits gains on none", ">= -0.5"),
    "gptq3_minus_rtn3": ("chrF that GPTQ gains on RTN at 3 bits", ">= 0"),
    "mixed_minus_uniform3": ("chrF that mixed gains on uniform", ""),
    "mixed_minus_raw_error": ("chrF that mixed gains on raw error by layers", ""),
    "mixed_minus_raw_error_embeddings": ("chrF that mixed gains on raw error with the same choices", ""),
    "bytes_mixed_over_uniform3": ("bytes over those of uniform 3", ""),
    "bytes_raw_error_over_uniform3": ("bytes over those of uniform 3", ""),
    "bytes_raw_error_embeddings_over_uniform3": ("bytes over those of uniform 3", ""),
}
# The ends of paired intervals are named after the difference they bound; these differences are held to be above 0.
ENDS = {"_low": "lower end of its 95 % interval, paired", "_high": "upper end of its 95 % interval, paired"}
ABOVE_ZERO = ("mixed_minus_uniform3_low", "mixed_minus_raw_error_low")


def explained(name: str) -> tuple[str, str]:
    """What a figure is, and its mark; empty for one that is not known here."""
    for end, what in ENDS.items():
        if name.endswith(end):
            return what, ">= 0" if name in ABOVE_ZERO else ""
    return FIGURES.get(name, ("", ""))


def meets(value: float, mark: str) -> bool | None:
    """Whether a figure is on the right side of its mark; None where there is none."""
    if not mark:
        return None
    sign, bound = mark.split()
    return value <= float(bound) if sign == "<=" else value >= float(bound)


def as_table(figures: Mapping[str, float]) -> Table:
    """A row a figure, in the order of FIGURES."""
    table = Table("figure", "value", "mark", "met", "what", caption=NOTE)
    for name, value, mark, met, what in _rows(figures):
        table.add_row(name, value, mark, met, what)
    return table


def as_page(title: str, record: Mapping[str, Any]) -> str:
    """A results file as a Markdown page: figures, conditions and the command, nothing typed by hand."""
    lines = [f"# {title}", "", "| Figure | Value | Mark | Met | What |", "|---|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in _rows(record["figures"])]
    lines += ["", NOTE, "", "## Conditions", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in record["conditions"].items()]
    return "\n".join([*lines, "", f"Command: `{record['command']}`", ""])


def _rows(figures: Mapping[str, float]) -> list[tuple[str, str, str, str, str]]:
    rows = []
    order = list(FIGURES)
    for name in sorted(figures, key=lambda name: _place(name, order)):
        what, mark = explained(name)
        met = {True: "yes", False: "no", None: ""}[meets(figures[name], mark)]
        rows.append((name, f"{figures[name]:g}", mark, met, what))
    return rows


def _place(name: str, order: list[str]) -> tuple[int, str]:
    stem = name.removesuffix("_low").removesuffix("_high")
    return (order.index(stem) if stem in order else len(order), "" if name == stem else name[len(stem) :][::-1])
