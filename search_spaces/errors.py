"""The errors a person can cause by what they ask for; each message gives the value, the rule and the way out.

UserError
├── CandidateError    a step or an order of steps that makes no sense
│   └── UnsupportedStep  a step that this model can't take, whatever its other parameters
├── StudyError        a study file or a flag that can't be followed
├── ModelFilesError   a model folder or hub id that can't be used
├── DataError         a data file, or a row of it (workers/reading/errors.py)
└── ScoreError        files that can't be scored (orchestrator/commands/score.py)
"""

from __future__ import annotations


class UserError(ValueError):
    """Something the person asked for can't be done; commands print it and exit with 2."""


class CandidateError(UserError):
    """A step or an order of steps that makes no sense."""


class UnsupportedStep(CandidateError):
    """A step that this model can't take. parameters: names of those that it is about; none, and it is the method."""

    def __init__(self, message: str, parameters: tuple[str, ...] = ()) -> None:
        super().__init__(message, parameters)
        self.parameters = parameters

    def __str__(self) -> str:
        return str(self.args[0])


class StudyError(UserError):
    """A study file, or a flag, that can't be followed."""


class ModelFilesError(UserError):
    """A model folder or hub id whose files are missing, incomplete or in a format that is not read."""
