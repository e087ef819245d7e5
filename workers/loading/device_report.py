"""Says as JSON what torch, bitsandbytes or Triton is here: `python -m workers.loading.device_report torch`.

A process of its own runs it, so that a library that can't be loaded, or that ends the process, is a finding there.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any


def report(name: str) -> dict[str, Any]:
    """The library's version, and torch's GPUs; raises whatever loading it raises."""
    library = importlib.import_module(name)
    found: dict[str, Any] = {"version": str(getattr(library, "__version__", "unknown"))}
    if name == "torch":
        found["cuda"] = library.version.cuda
        found["gpus"] = [_gpu(library, number) for number in range(library.cuda.device_count())]
    return found


def _gpu(torch: Any, number: int) -> dict[str, Any]:
    """The GPU's memory as its driver has it; a small product shows that it computes."""
    ones = torch.ones(64, 64, device=f"cuda:{number}")
    computes = float((ones @ ones).sum()) == 64.0**3
    free, whole = torch.cuda.mem_get_info(number)
    return {"name": torch.cuda.get_device_name(number), "bytes": whole, "free": free, "computes": computes}


if __name__ == "__main__":
    print(json.dumps(report(sys.argv[1])))
