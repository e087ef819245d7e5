"""Whether two models' distributions can be compared: token by token, or those tokens that both have."""

from __future__ import annotations

from pathlib import Path

from search_spaces.errors import StudyError
from search_spaces.methods.trainers import Trainer
from workers.checkpoints.model_files import read_config

_WAY_OUT = (
    'use the loss "sequence", which trains on the teacher\'s translations as text, or "references"; or put the step '
    "that changes the vocabulary after the training"
)


def refuse_other_vocabulary(student: Path, teacher: Path, step: Trainer, trust_remote_code: bool = False) -> None:
    """Raise StudyError where the step's divergence can't be had of the models in these folders: the student has tokens
    that the teacher lacks, or fewer, and the step takes a cached teacher or matches hidden states."""
    from workers.loading.load import load_tokenizer

    own, theirs = (load_tokenizer(folder, trust_remote_code).get_vocab() for folder in (student, teacher))
    if lacking := own.keys() - theirs.keys():
        raise StudyError(
            f"the teacher's tokenizer lacks {len(lacking)} of the student's {len(own)} tokens, such as "
            f"{min(lacking)!r}; a divergence compares them token by token: {_WAY_OUT}"
        )
    if (own != theirs or vocabulary_rows(student) != vocabulary_rows(teacher)) and (
        step.teacher != "live" or step.hidden
    ):
        raise StudyError(
            f"the student has {len(own)} tokens and the teacher {len(theirs)}, and {step.name} "
            f"{'matches hidden states' if step.hidden else 'takes a cached teacher'}, which compares both token by "
            f"token: use teacher: live and hidden: 0, or {_WAY_OUT}"
        )


def refuse_other_columns(student: int, teacher: int) -> None:
    """Raise StudyError when two models' embeddings, and so their logits, have different numbers of entries."""
    if student != teacher:
        raise StudyError(
            f"the student has {student} vocabulary entries and the teacher {teacher}; a divergence compares them token "
            f"by token: {_WAY_OUT}"
        )


def vocabulary_rows(folder: Path) -> int:
    """Entries of the vocabulary of the model in this folder: rows of its embeddings, columns of its logits."""
    config = read_config(folder)
    return int(config.get("text_config", config)["vocab_size"])
