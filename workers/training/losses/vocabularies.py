"""Whether two models' token ids mean the same, which comparing their distributions takes for granted."""

from __future__ import annotations

from pathlib import Path

from search_spaces.errors import StudyError
from workers.checkpoints.model_files import read_config

_WAY_OUT = (
    'Use the loss "sequence", which trains on the teacher\'s translations as text, or "references"; or put the step '
    "that changes the vocabulary after the training"
)


def refuse_other_vocabulary(student: Path, teacher: Path, trust_remote_code: bool = False) -> None:
    """Raise StudyError when the models in these folders differ in tokens, in their ids, or in rows of the embedding."""
    from workers.loading.load import load_tokenizer

    own, theirs = (load_tokenizer(folder, trust_remote_code).get_vocab() for folder in (student, teacher))
    if own != theirs:
        other = len(dict(own.items() ^ theirs.items()))
        raise StudyError(
            f"the student's tokenizer has {len(own)} tokens and the teacher's {len(theirs)}, and {other} differ; a "
            f"divergence compares them token by token. {_WAY_OUT}"
        )
    refuse_other_columns(_rows(student), _rows(teacher))


def refuse_other_columns(student: int, teacher: int) -> None:
    """Raise StudyError when two models' embeddings, and so their logits, have different numbers of entries."""
    if student != teacher:
        raise StudyError(
            f"the student has {student} vocabulary entries and the teacher {teacher}; a divergence compares them token "
            f"by token. {_WAY_OUT}"
        )


def _rows(folder: Path) -> int:
    config = read_config(folder)
    return int(config.get("text_config", config)["vocab_size"])
