"""Lines of text in, as many lines out: a kept model translates what a user has, as its study had it translate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from search_spaces.errors import StudyError
from workers.checkpoints.model_files import context_length, read_config
from workers.languages.codes import UnknownLanguage, name_languages, split_pair
from workers.loading.load import load_model, load_tokenizer
from workers.reading.segments import Segment
from workers.translation.chat_template import template_of
from workers.translation.long_lines import joined, pieces_of
from workers.translation.prompt_file import Asking, pair_of
from workers.translation.prompts import choose_prompt, refuse_unanswerable
from workers.translation.translator import Translator, prompt_ids

# Of the new tokens, the share that a piece's source may have: a translation may be twice as long.
PIECE_SHARE = 2
# The name of transformers' warning of a text beyond the model's context.
TOO_LONG = "sequence-length-is-longer-than-the-specified-maximum"


@dataclass(frozen=True, slots=True)
class TranslatedLine:
    """A line's translation, which holds no line break. pieces: how many its source was cut into; 0 for an empty line,
    1 for one that was not cut. truncated: it reached the length limit."""

    text: str
    pieces: int
    truncated: bool


class LineTranslator:
    """A loaded model and one language pair; called with lines, in batches of the study's size."""

    def __init__(
        self,
        folder: Path,
        asking: Asking,
        source: str,
        target: str,
        device_map: str = "auto",
        trust_remote_code: bool = False,
    ) -> None:
        """Loads the model. Raises StudyError for a language, a prompt or a length limit that can't be, and
        ModelFilesError for a folder that holds no model."""
        try:
            name_languages(asking.languages)
        except UnknownLanguage as error:
            raise StudyError(f"languages: {error}") from error
        self.pair = pair_of(source, target)
        config = read_config(folder)
        self._tokenizer = load_tokenizer(folder, trust_remote_code)
        # Said of every line that is then cut.
        self._tokenizer.deprecation_warnings[TOO_LONG] = True
        template = template_of(self._tokenizer)
        self.prompt = choose_prompt(str(folder), config, template, asking.decoding.prompt)
        self._context = context_length(config)
        self._decoding = asking.decoding
        self._examples = asking.examples
        refuse_unanswerable(self.prompt, template, [self._segment("Translate this.")])
        self._refuse_no_room(self._context)
        model: Any = load_model(folder, device_map, trust_remote_code)
        self._translate = Translator(
            model=model,
            tokenizer=self._tokenizer,
            prompt=self.prompt,
            examples=self._examples,
            decoding=self._decoding,
            context=self._context,
        )

    def __call__(self, lines: Sequence[str]) -> list[TranslatedLine]:
        """One translation a line, in order; the model is not asked for lines of white space alone."""
        pieces = [self._pieces(line) for line in lines]
        asked = [self._segment(piece) for of_line in pieces for piece in of_line]
        found = iter(self._translate(asked) if asked else [])
        _, target = split_pair(self.pair)
        translated = []
        for of_line in pieces:
            answers = list(islice(found, len(of_line)))
            text = joined([one.text for one in answers], target)
            # A hypothesis of a source of one line is one line; this holds whatever a source holds.
            one_line = " ".join(text.split())
            translated.append(TranslatedLine(one_line, len(of_line), any(one.truncated for one in answers)))
        return translated

    def _pieces(self, line: str) -> list[str]:
        text = line.strip()
        if not text:
            return []
        return [text] if self._fits(text) else pieces_of(text, self._is_piece)

    def _fits(self, text: str) -> bool:
        """Whether prompt and translation have room in the model's context."""
        return self._context is None or self._prompt_length(text) <= self._context - self._decoding.max_new_tokens

    def _is_piece(self, text: str) -> bool:
        """Whether that holds, and the translation has room in the new tokens too."""
        source = len(self._tokenizer(text, add_special_tokens=False)["input_ids"])
        return PIECE_SHARE * source <= self._decoding.max_new_tokens and self._fits(text)

    def _prompt_length(self, text: str) -> int:
        return len(prompt_ids(self._segment(text), self._tokenizer, self.prompt, self._examples))

    def _refuse_no_room(self, context: int | None) -> None:
        """Raise StudyError where not even a word has room."""
        around, limit = self._prompt_length("word"), self._decoding.max_new_tokens
        if context is not None and not self._fits("word"):
            room = context - around
            way_out = f"ask for at most {room} with --max-new-tokens" if room > 0 else "choose another --prompt"
            raise StudyError(
                f"{limit} new tokens and a prompt of {around} leave no room for a source in a context of {context} "
                f"tokens; {way_out}"
            )

    def _segment(self, text: str) -> Segment:
        # A prompt asks for a source alone; a reference must be there, and is not read.
        return Segment("line", self.pair, text, (text,), "line", "")
