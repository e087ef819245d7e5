"""Whether a model can be asked for a study's translations, told from its files before anything starts."""

from __future__ import annotations

from collections.abc import Iterable

from workers.checkpoints.base_model import OpenedBase
from workers.reading.segments import DataSet
from workers.translation.chat_template import read_template
from workers.translation.prompts import choose_prompt, refuse_unanswerable


def refuse_unaskable(
    opened: OpenedBase, prompt: str | None, datasets: Iterable[DataSet], trust_remote_code: bool
) -> None:
    """Raise StudyError where the model's prompt, or the family that `prompt` names, can't ask for these translations.

    A tokenizer of its own code may have a chat template that no file holds; its prompts are not looked at.
    """
    template = read_template(opened.tokenizer_folder)
    if template is None and trust_remote_code:
        return
    chosen = choose_prompt(opened.base.name, opened.checkpoint.config, template, prompt)
    refuse_unanswerable(chosen, template, [segment for dataset in datasets for segment in dataset.segments])
