"""The errors a person can cause by what they ask for; each message gives the value, the rule and the way out.

UserError
├── CandidateError    a step or an order of steps that makes no sense
├── StudyError        a study file or a flag that can't be followed
├── ModelFilesError   a model folder or hub id that can't be used
├── DataError         a data file, or a row of it (workers/reading/errors.py)
└── ScoreError        files that can't be scored (orchestrator/score_command.py)
"""


class UserError(ValueError):
    """Something the person asked for can't be done; commands print it and exit with 2."""


class CandidateError(UserError):
    """A step or an order of steps that makes no sense."""


class StudyError(UserError):
    """A study file, or a flag, that can't be followed."""


class ModelFilesError(UserError):
    """A model folder or hub id whose files are missing, incomplete or in a format that is not read."""
