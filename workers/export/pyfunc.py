"""What `mlflow.pyfunc.load_model` loads a kept model by, and what `predict` of it does.

This file is copied beside a kept model, into one package with the modules that it imports; it needs what
requirements.txt names.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from translate import Translator, load, load_tokenizer, pair_of

log = logging.getLogger(__name__)

# How the model is asked. Not looked for beside this module, which may be that of another model in the same process.
ASKED = Path("code") / "mtpareto_translator" / "prompt.json"
COLUMN = "text"


def _load_pyfunc(path: str) -> Translation:
    """What MLflow calls. path: the model's folder."""
    return Translation(Path(path))


class Translation:
    """The model and what it is asked by."""

    def __init__(self, folder: Path) -> None:
        """folder: the model's."""
        self._asked = json.loads((folder / ASKED).read_text(encoding="utf-8"))
        trusted = self._asked["trust_remote_code"]
        self._model, self._tokenizer = load(folder, trusted), load_tokenizer(folder, trusted)
        self._translators: dict[tuple[str, int], Any] = {}

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> list[str]:
        """A translation a text, in order; that of a text of white space alone is empty.

        model_input: a list or a pandas Series of strings, or a pandas DataFrame of one column, or with a column `text`.
        params: `source` and `target`, codes of two or three letters; `batch_size`. A single pair needs no codes. Raises
        ValueError for what can't be translated so.
        """
        named = params or {}
        pair = chosen_pair(self._asked, named.get("source"), named.get("target"))
        size = named.get("batch_size")
        found = self._translator(pair, self._asked["batch_size"] if size is None else size)(texts_of(model_input))
        cut = sum(line.truncated for line in found)
        if cut:
            limit = self._asked["max_new_tokens"]
            log.warning("%d of %d translations were cut at the length limit of %d tokens", cut, len(found), limit)
        return [line.text for line in found]

    def _translator(self, pair: str, batch_size: int) -> Any:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        if (pair, batch_size) not in self._translators:
            asked = {**self._asked, "batch_size": batch_size}
            self._translators[pair, batch_size] = Translator(asked, pair, self._model, self._tokenizer)
        return self._translators[pair, batch_size]


def chosen_pair(asked: Mapping[str, Any], source: str | None, target: str | None) -> str:
    """The pair that these codes name, or the only one where none is given. asked: what prompt.json holds."""
    pairs = list(asked["requests"])
    if source is None and target is None and len(pairs) == 1:
        return str(pairs[0])
    if source is None or target is None:
        shown = dict(zip(("source", "target"), pairs[0].split("-"), strict=True))
        raise ValueError(f"this model was measured on {', '.join(pairs)}; say which, such as predict(..., {shown})")
    pair = pair_of(f"{source}-{target}", asked)
    if pair is None:
        raise ValueError(f"this model was measured on {', '.join(pairs)}, and not on {source}-{target}")
    return str(pair)


def texts_of(model_input: Any) -> list[str]:
    """The texts in what `predict` was given; raises ValueError for anything but strings."""
    if isinstance(model_input, str):
        return [model_input]
    if hasattr(model_input, "columns"):
        names = list(model_input.columns)
        if COLUMN not in names and len(names) != 1:
            raise ValueError(f"the texts' column must be the only one or be called {COLUMN!r}; there are {names}")
        model_input = model_input[COLUMN if COLUMN in names else names[0]]
    if hasattr(model_input, "tolist"):
        model_input = model_input.tolist()
    if not isinstance(model_input, (list, tuple)):
        raise ValueError(
            "predict takes a list of strings, or a pandas Series or DataFrame of them, and not a "
            f"{type(model_input).__name__}"
        )
    for place, text in enumerate(model_input):
        if not isinstance(text, str):
            raise ValueError(f"text {place} is {text!r}; it must be a string")
    return list(model_input)
