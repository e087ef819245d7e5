"""How hypotheses are made, and what one is; free of torch, so that the driver can say it too."""

from __future__ import annotations

from dataclasses import dataclass

from search_spaces.errors import StudyError

DEFAULT_MAX_NEW_TOKENS = 256
DEFAULT_BATCH_SIZE = 64


@dataclass(frozen=True, slots=True)
class Decoding:
    """How to translate. max_new_tokens: the length limit. batch_size: segments at a time. prompt: a family's name, or
    None to choose it from the model's files. beams: 1 is greedy."""

    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS
    batch_size: int = DEFAULT_BATCH_SIZE
    prompt: str | None = None
    beams: int = 1

    def __post_init__(self) -> None:
        for name, value in (
            ("max_new_tokens", self.max_new_tokens),
            ("batch_size", self.batch_size),
            ("beams", self.beams),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise StudyError(f"{name} is {value!r}; it must be a whole number of at least 1")

    @property
    def search(self) -> str:
        """`greedy`, or `5 beams`."""
        return "greedy" if self.beams == 1 else f"{self.beams} beams"


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One translation. tokens: generated, the stop token left out. truncated: the source was cut to the model's
    context, or the translation reached the length limit. thought: the model thought first, which was cut from the
    text."""

    text: str
    tokens: int
    truncated: bool
    thought: bool = False
