"""How a key of a study is declared: the rule of its type in words, its flag, and errors that say both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from functools import wraps
from typing import Any, TypeVar, get_args

from pydantic import GetCoreSchemaHandler, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, core_schema

from search_spaces.errors import StudyError, UserError

Declared = TypeVar("Declared", bound=type)


@dataclass(frozen=True, slots=True)
class ValueRule:
    """What a value must be, in words that follow "it must be"."""

    words: str


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of these names, in the order in which they are listed."""

    names: tuple[str, ...]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.literal_schema(list(self.names))

    @property
    def words(self) -> str:
        return f"one of {', '.join(self.names)}"


@dataclass(frozen=True, slots=True)
class Flag:
    """How a key is given on the command line."""

    group: str
    """The heading of the help under which it stands."""
    _: KW_ONLY
    name: str | None = None
    """Where it is not the key's."""
    only_file: bool = False
    """There is no flag: a command line can't hold such a value."""
    default: str | None = None
    """In words, where the value does not say it."""
    metavar: str | None = None
    """What the help calls the value."""
    read: Callable[[str], Any] | None = None
    """Makes a value of the text."""
    repeated: bool = False
    """It may be given again."""
    off: str | None = None
    """What the flag does that turns the key off."""


def keys_of(declared: Any) -> dict[str, FieldInfo]:
    """The keys of a pydantic dataclass, in the order of their declaration."""
    return dict(declared.__pydantic_fields__)


def markers(info: FieldInfo) -> list[Any]:
    """All that stands beside the key's type, that of a type inside an optional one too."""
    return [*info.metadata, *(item for part in get_args(info.annotation) for item in getattr(part, "__metadata__", ()))]


def rule_of(info: FieldInfo) -> str:
    """What the key's value must be, in words."""
    return next(item.words for item in markers(info) if isinstance(item, (ValueRule, OneOf)))


def names_of(info: FieldInfo) -> tuple[str, ...]:
    """The names that the key's value may be; none where it is no name."""
    return next((item.names for item in markers(info) if isinstance(item, OneOf)), ())


def flag_of(info: FieldInfo) -> Flag:
    """How the key is given on the command line."""
    return next(item for item in info.metadata if isinstance(item, Flag))


def flag_name(key: str, info: FieldInfo) -> str | None:
    """The key's flag, such as `--max-new-tokens`; None for one that only a file has."""
    flag = flag_of(info)
    return None if flag.only_file else flag.name or f"--{key.replace('_', '-')}"


def refuses(declared: Declared) -> Declared:
    """Have a pydantic dataclass raise StudyError for its first wrong value, with the key, the value and the rule."""
    make: Callable[..., None] = declared.__init__  # type: ignore[misc]

    @wraps(make)
    def checked(self: object, *values: object, **named: object) -> None:
        try:
            make(self, *values, **named)
        except ValidationError as error:
            raise _told(error, keys_of(declared)) from None

    declared.__init__ = checked  # type: ignore[misc]
    return declared


def refuse(name: str, value: object, rule: str) -> StudyError:
    """The error of a value that breaks its rule."""
    return StudyError(f"{name} is {value!r}; it must be {rule}")


def _told(error: ValidationError, keys: Mapping[str, FieldInfo]) -> UserError | TypeError:
    wrong = error.errors(include_url=False)
    if any(one["type"] == "unexpected_positional_argument" for one in wrong):
        return TypeError('a study\'s keys are given by name, such as data="dev.jsonl"')
    unknown = sorted(str(one["loc"][0]) for one in wrong if one["type"] == "unexpected_keyword_argument")
    if unknown:
        return StudyError(f"a study has no key {unknown[0]!r}; it has {', '.join(sorted(keys))}")
    first = wrong[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, UserError):
        return cause
    name = str(first["loc"][0])
    if keys[name].is_required() and (first["type"] == "missing" or not first["input"]):
        return StudyError(f"a study needs `{name}`; give it in the file or as {flag_name(name, keys[name])}")
    return refuse(name, first["input"], rule_of(keys[name]))
