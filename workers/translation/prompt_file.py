"""`prompt.json` beside a kept model: how its study asked it, so that it is asked the same away from the study.

It is none of the files that running the model needs, and counts for no byte of its size: another prompt works too, and
translates otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search_spaces.errors import ModelFilesError, StudyError
from workers.languages.codes import UnknownLanguage, normalise_pair
from workers.reading.segments import Segment
from workers.runtime.atomic_files import write_whole
from workers.translation.decoding import DEFAULT_BATCH_SIZE, DEFAULT_MAX_NEW_TOKENS, Decoding
from workers.translation.prompts import shots_for

PROMPT_FILE = "prompt.json"


@dataclass(frozen=True, slots=True)
class Asking:
    """How a model is asked for translations."""

    decoding: Decoding = field(default_factory=Decoding)
    """The length limit, the batch size, the prompt's family and the beams."""
    pairs: tuple[str, ...] = ()
    """The language pairs that it was measured on; empty where that is not known."""
    languages: Mapping[str, str] = field(default_factory=dict)
    """Codes with the names that the study gave them."""
    examples: tuple[Segment, ...] = ()
    """What a few-shot prompt shows, as many of a pair as it takes."""

    def to_json(self) -> dict[str, Any]:
        """As `prompt.json` holds it."""
        return {
            "prompt": self.decoding.prompt,
            "max_new_tokens": self.decoding.max_new_tokens,
            "batch_size": self.decoding.batch_size,
            "beams": self.decoding.beams,
            "pairs": list(self.pairs),
            "languages": dict(self.languages),
            "examples": [
                {"langs": one.langs, "source": one.source, "reference": one.references[0]} for one in self.examples
            ],
        }


def asking_of(record: Mapping[str, Any]) -> Asking:
    """What `to_json` wrote; further keys are left alone. Raises StudyError, KeyError or TypeError for anything else."""
    decoding = Decoding(
        max_new_tokens=record.get("max_new_tokens", DEFAULT_MAX_NEW_TOKENS),
        batch_size=record.get("batch_size", DEFAULT_BATCH_SIZE),
        prompt=record.get("prompt"),
        beams=record.get("beams", 1),
    )
    examples = [
        Segment(f"example {number}", one["langs"], one["source"], (one["reference"],), f"example {number}", "")
        for number, one in enumerate(record.get("examples", ()), start=1)
    ]
    return Asking(decoding, tuple(record.get("pairs", ())), dict(record.get("languages", {})), tuple(examples))


def read_asking(folder: Path) -> Asking | None:
    """What the folder's `prompt.json` says; None where there is none. Raises ModelFilesError for one that can't be
    read."""
    file = folder / PROMPT_FILE
    if not file.is_file():
        return None
    try:
        return asking_of(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StudyError) as error:
        raise ModelFilesError(
            f"{file} does not say how the model is asked ({error}); remove it, and name the prompt with --prompt"
        ) from error


def write_asking(folder: Path, asking: Asking, **beside: Any) -> None:
    """Write `prompt.json`. beside: what stands there as well."""
    text = json.dumps({**asking.to_json(), **beside}, ensure_ascii=False, indent=2)
    write_whole(folder / PROMPT_FILE, text + "\n")


def examples_of(segments: Sequence[Segment], pairs: Sequence[str]) -> tuple[Segment, ...]:
    """Of these segments, those that a few-shot prompt shows for any of these language pairs."""
    return tuple(shot for langs in pairs for shot in shots_for(langs, segments))


def pair_of(source: str, target: str) -> str:
    """The normalised pair of two language codes of two or three letters; raises StudyError for what is none."""
    try:
        return normalise_pair(f"{source.strip().replace('-', '_')}-{target.strip().replace('-', '_')}")
    except UnknownLanguage as error:
        raise StudyError(str(error)) from error
