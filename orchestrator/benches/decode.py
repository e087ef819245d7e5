"""`mtpareto bench decode`: the decoder beside transformers' `generate`, in one table and a results file."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator.benches.compress import SHAPES
from orchestrator.benches.figures import DECODE
from orchestrator.benches.results_file import earlier, merge_results, this_device, write_record
from orchestrator.study.shipped import SHIPPED_MODEL
from search_spaces.errors import StudyError
from workers.checkpoints.locate import resolve
from workers.plan.conditions import device_name, installed_versions
from workers.reading.dataset import read_dataset

PARTS = ("speed", "identical", "packed", "cpu")
ON_GPU = ("speed", "identical", "packed")
DISTRIBUTIONS = ("torch", "transformers", "triton")


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeRequest:
    """What the bench runs on."""

    output: Path
    """The results file."""
    data: str
    """Segments for the parts identical and cpu."""
    parts: tuple[str, ...]
    """What to run, of PARTS; all but cpu need a GPU."""
    shape: str
    """Shape of the random weights that are timed."""
    model: str = str(SHIPPED_MODEL)
    """Hub id or local folder of the model for the parts identical and cpu."""

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.parts) - set(PARTS)):
            raise StudyError(f"parts has {unknown[0]!r}; there are {', '.join(PARTS)}")
        if self.shape not in SHAPES:
            raise StudyError(f"shape is {self.shape!r}; there are {', '.join(SHAPES)}")


def bench_decode(request: DecodeRequest, command: str, say: Callable[[str], None]) -> dict[str, Any]:
    """Run the parts asked for and write the results file and its page; returns what was written.

    What an earlier run has written there stays, but for the figures that this one measures anew. Raises StudyError for
    a part that needs a GPU where there is none.
    """
    from workers.benches import decode_bench as bench

    before = earlier(request.output)
    data = read_dataset(request.data)
    base, folder = resolve(request.model)
    on_gpu = set(ON_GPU) & set(request.parts)
    if on_gpu and this_device().startswith("cpu"):
        raise StudyError(f"the parts {', '.join(sorted(on_gpu))} need a GPU, and there is none; use --parts cpu")
    figures: dict[str, float] = {}
    if "identical" in request.parts:
        figures |= bench.shipped_figures(folder, data.segments, "auto")
    if "speed" in request.parts:
        figures |= bench.speed_figures(request.shape, say)
    if "packed" in request.parts:
        from workers.benches.packed_bench import packed_figures

        figures |= packed_figures(request.shape, say)
    if "cpu" in request.parts:
        figures |= bench.shipped_figures(folder, data.segments, "cpu")
    conditions = {
        "parts": ", ".join(request.parts),
        "device": this_device() if on_gpu else device_name("cpu"),
        "shape": request.shape,
        "model": f"{folder.name} {base.revision[:23]}",
        "data": f"{data.name} sha256:{data.digest[:16]}, {len(data.segments)} segments",
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        **installed_versions(DISTRIBUTIONS),
    }
    record = merge_results(before, figures, conditions, command)
    write_record(request.output, DECODE, record)
    return record
