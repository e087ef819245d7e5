"""The package that MLflow loads a kept model by: an export's modules under one name, without torch to be read."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
# What translates beside an exported model.
EXPORTED = (
    HERE / "translate.py",
    HERE / "stored_weights.py",
    HERE.parent / "translation" / "line_reader.py",
    HERE.parent / "translation" / "long_lines.py",
    HERE.parent / "translation" / "thinking.py",
)
# One package, so that no module has a name that a program of the user's may have.
PACKAGE = "mtpareto_translator"
LOADER = "pyfunc"
MODULES = (HERE / f"{LOADER}.py", *EXPORTED)


def package_files() -> dict[str, str]:
    """The modules of PACKAGE, name -> text: an export's, and the one that MLflow calls."""
    siblings = "|".join(module.stem for module in MODULES)
    found = {
        "__init__.py": '"""Translates with the model beside it; copied here by mtpareto, and needs none of it."""\n'
    }
    for module in MODULES:
        text = module.read_text(encoding="utf-8")
        found[module.name] = re.sub(rf"^from ({siblings}) import ", r"from .\1 import ", text, flags=re.MULTILINE)
    return found
