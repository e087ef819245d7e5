"""The causal language models that the installed transformers has by itself, read from its source: importing it loads
torch, which the driver does without."""

from __future__ import annotations

import ast
import functools
import importlib.util
from collections.abc import Mapping
from pathlib import Path

TABLE = "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"


@functools.cache
def causal_models() -> Mapping[str, str]:
    """`model_type` -> the class that AutoModelForCausalLM loads. Raises RuntimeError where transformers keeps its table
    elsewhere."""
    found = importlib.util.find_spec("transformers")
    if found is None or found.origin is None:
        raise RuntimeError("transformers is not installed here; install this project's requirements")
    file = Path(found.origin).parent / "models" / "auto" / "modeling_auto.py"
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == TABLE:
            assert isinstance(node.value, ast.Call)
            return dict(ast.literal_eval(node.value.args[0]))
    raise RuntimeError(f"{file} has no {TABLE}; install the transformers that constraints.txt names")
