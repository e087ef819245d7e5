"""How a model's chat template wants to be asked, found from the template itself: no thinking, in which form the text
goes in, and whether it can be asked at all.

Templates are rendered by jinja2 as transformers does it (https://huggingface.co/docs/transformers/chat_templating), so
that the driver, which loads neither torch nor transformers, can tell before anything starts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search_spaces.errors import StudyError
from workers.languages.codes import MAIN_REGION
from workers.languages.scripts import script_of
from workers.languages.variants import HOME_REGION, TRADITIONAL

if TYPE_CHECKING:
    import jinja2

TEMPLATE_FILE = "chat_template.jinja"
# What turns thinking off, by the names under which templates have it: Qwen 3, GLM 4.5, SmolLM 3, EXAONE 4, Gemma 4;
# DeepSeek 3.1, Granite; Command A; Seed-OSS. A template ignores a name that it does not know.
SWITCHES: dict[str, bool | int] = {
    "enable_thinking": False,
    "thinking": False,
    "reasoning": False,
    "enable_reasoning": False,
    "think": False,
    "use_thinking": False,
    "thinking_budget": 0,
    "reasoning_budget": 0,
}
# Those that take a word: the first of these that the template compares with, else "low", gpt-oss's least.
EFFORTS = ("reasoning_effort", "thinking_effort", "thinking_mode", "reasoning_mode", "thinking_option")
LEAST = ("none", "off", "disabled", "no_think", "nothink", "minimal", "low")
# The system message that turns thinking off where no variable does (Nemotron Nano 2).
NO_THINK = "/no_think"
SOURCE_CODE, TARGET_CODE = "source_lang_code", "target_lang_code"
# Stands for a request while a template is looked at.
PROBE = "The bridge was built in 1862."


@dataclass(frozen=True, slots=True)
class Template:
    """A chat template. special_tokens: name, such as `bos_token`, and text of each that templates may write."""

    text: str
    special_tokens: tuple[tuple[str, str], ...] = ()

    @property
    def translates(self) -> bool:
        """Whether it writes the request itself, from the codes of both languages (TranslateGemma)."""
        return SOURCE_CODE in self.text and TARGET_CODE in self.text


@dataclass(frozen=True, slots=True)
class TemplateCall:
    """How a template is asked. in_parts: the content is a list of parts, not a text. coded: the template is given the
    languages' codes, "content" beside the text or as "variables", and the text alone. variables: those that turn
    thinking off. system: the message that does."""

    in_parts: bool = False
    coded: str = ""
    variables: tuple[tuple[str, bool | int | str], ...] = ()
    system: str = ""

    @property
    def said(self) -> str:
        """What is passed to the template, in words; empty for nothing."""
        passed = [f"{name}={value}" for name, value in self.variables]
        return ", ".join(passed + ([f"system message {self.system}"] if self.system else []))

    def ask(self, text: str, source: str = "", target: str = "") -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """The messages, and the variables beside them. text: the request, or the source alone where the template
        writes the request from the codes of the languages."""
        content: Any = text
        variables = dict[str, Any](self.variables)
        if self.coded == "content":
            content = [{"type": "text", SOURCE_CODE: source, TARGET_CODE: target, "text": text}]
        elif self.in_parts:
            content = [{"type": "text", "text": text}]
        if self.coded == "variables":
            variables |= {SOURCE_CODE: source, TARGET_CODE: target}
        messages = [{"role": "system", "content": self.system}] if self.system else []
        return [*messages, {"role": "user", "content": content}], variables


def read_template(folder: Path) -> Template | None:
    """The chat template in a model's files, where transformers looks for it; None where there is none."""
    config = _json(folder / "tokenizer_config.json")
    named = {**_json(folder / "special_tokens_map.json"), **config}
    tokens = {name: _token(value) for name, value in named.items() if name.endswith("_token")}
    text: Any = config.get("chat_template")
    if (folder / TEMPLATE_FILE).is_file():
        text = (folder / TEMPLATE_FILE).read_text(encoding="utf-8")
    elif found := _json(folder / "chat_template.json").get("chat_template"):
        text = found
    if isinstance(text, list):
        text = {one.get("name"): one.get("template") for one in text}.get("default")
    if not isinstance(text, str) or not text:
        return None
    return Template(text, tuple(sorted((name, token) for name, token in tokens.items() if token)))


def template_of(tokenizer: Any) -> Template | None:
    """A loaded tokenizer's chat template; None where there is none."""
    if getattr(tokenizer, "chat_template", None) is None:
        return None
    tokens = {name: str(token) for name, token in tokenizer.special_tokens_map.items() if not isinstance(token, list)}
    return Template(tokenizer.get_chat_template(), tuple(sorted(tokens.items())))


@lru_cache(maxsize=64)
def way_of(template: Template) -> TemplateCall:
    """How the template is asked for a translation without thinking first.

    Raises StudyError, with what the template says, where it takes none of the forms, or leaves the text out.
    """
    if template.translates:
        return _coded(template)
    reasons: list[str] = []
    for way in (TemplateCall(), TemplateCall(in_parts=True)):
        try:
            rendered = _asked(template, way)
        except refusals() as error:
            reasons.append(f"it says: {' '.join(str(error).split())}")
            continue
        if PROBE in rendered:
            return _without_thinking(template, way, rendered)
        reasons.append("it leaves the text out")
    raise unusable(reasons[0])


def unusable(reason: str) -> StudyError:
    """The error of a template that can't be asked for a translation."""
    return StudyError(
        f"the model's chat template can't be asked for a translation ({reason}); ask in another way with --prompt "
        f"few-shot or --prompt alma, or put a template that takes a user's message into {TEMPLATE_FILE}"
    )


def codes_for(template: Template, way: TemplateCall, source: str, target: str) -> tuple[str, str]:
    """The codes under which a template that writes the request itself knows these languages, normalised codes.

    The nearest to each is taken that the template takes. Raises StudyError where it takes none.
    """
    return _codes_for(template, way, source, target)


@lru_cache(maxsize=1024)
def _codes_for(template: Template, way: TemplateCall, source: str, target: str) -> tuple[str, str]:
    reason = ""
    for wanted in spellings(target):
        for given in spellings(source):
            try:
                if PROBE in _asked(template, way, given, wanted):
                    return given, wanted
                reason = reason or "it leaves the text out"
            except refusals() as error:
                reason = reason or f"for {source}-{target} it says: {' '.join(str(error).split())}"
    raise unusable(reason)


def spellings(code: str) -> tuple[str, ...]:
    """How a template may spell a normalised code, the nearest first; never one of another script.

    `zh_TW` is zh-TW, zh_TW, zh-Hant-TW or zh-Hant; `de` is de, de-DE or de_DE; `pt_BR` may be pt.
    """
    language, *subtags = code.split("_")
    script = script_of(code)
    found = [[language, *subtags]]
    if language == "zh":
        found += [[language, script, *(tag for tag in subtags if len(tag) == 2)], [language, script]]
    if not subtags and (region := MAIN_REGION.get(language) or HOME_REGION.get(language)):
        found.append([language, region])
    if subtags and script == script_of(language) and not (language == "zh" and not TRADITIONAL.isdisjoint(subtags)):
        found.append([language])
    return tuple(dict.fromkeys(mark.join(parts) for parts in found for mark in ("-", "_")))


def render(template: Template, messages: Sequence[Mapping[str, Any]], ask: bool = True, **variables: Any) -> str:
    """The text that a template makes of messages; ask: the model's turn is begun at the end.

    Raises jinja2.TemplateError for what the template refuses.
    """
    given = {"tools": None, "documents": None, **dict(template.special_tokens), **variables}
    return _compiled(template.text).render(messages=messages, add_generation_prompt=ask, **given)


def refusals() -> tuple[type[Exception], ...]:
    """What rendering raises where a template does not take what it was given."""
    from jinja2 import TemplateError

    return TemplateError, TypeError, ValueError, AttributeError


def after_answer(template: Template) -> str:
    """What the template writes behind the model's answer, which ends its turn; empty where that can't be told."""
    way = way_of(template)
    if way.coded:
        messages, variables = way.ask(PROBE, *codes_for(template, way, "en", "de"))
    else:
        messages, variables = way.ask(PROBE)
    answer = "Answer 1862"
    for content in (answer, [{"type": "text", "text": answer}]):
        try:
            rendered = render(template, [*messages, {"role": "assistant", "content": content}], False, **variables)
        except refusals():
            continue
        if answer in rendered:
            return rendered.rpartition(answer)[2]
    return ""


def _coded(template: Template) -> TemplateCall:
    """The way to ask a template that writes the request from the languages' codes."""
    reasons: list[StudyError] = []
    for way in (TemplateCall(coded="content"), TemplateCall(coded="variables")):
        try:
            codes_for(template, way, "en", "de")
            return way
        except StudyError as error:
            reasons.append(error)
    raise reasons[0]


def _without_thinking(template: Template, way: TemplateCall, rendered: str) -> TemplateCall:
    """The way, with all that changes what is rendered by turning thinking off."""
    found: list[tuple[str, bool | int | str]] = []
    words = [(name, _least(template, name)) for name in EFFORTS]
    for name, value in (*SWITCHES.items(), *words):
        variables: dict[str, Any] = {name: value}
        try:
            if render(template, way.ask(PROBE)[0], **variables) != rendered:
                found.append((name, value))
        except refusals():
            # A name that stands for something else here.
            continue
    if found:
        return TemplateCall(way.in_parts, variables=tuple(found))
    if NO_THINK in template.text:
        quiet, loud = (TemplateCall(way.in_parts, system=text) for text in (NO_THINK, "Translate."))
        try:
            if _behind(_asked(template, quiet)) != _behind(_asked(template, loud)):
                return quiet
        except refusals():
            pass
    return way


def _least(template: Template, name: str) -> str:
    """The value of a variable that asks for the least thinking."""
    compared = set(_compared_with(template.text, name))
    return next((word for word in LEAST if word in compared), "low")


def _compared_with(text: str, name: str) -> Iterator[str]:
    """The texts that a template compares a variable with, or that it looks for the variable in."""
    from jinja2 import nodes

    for compare in _environment().parse(text).find_all(nodes.Compare):
        sides = [compare.expr, *(operand.expr for operand in compare.ops)]
        if any(isinstance(side, nodes.Name) and side.name == name for side in sides):
            for side in sides:
                constants = [side] if isinstance(side, nodes.Const) else list(side.find_all(nodes.Const))
                yield from (str(one.value) for one in constants if isinstance(one.value, str))


def _asked(template: Template, way: TemplateCall, source: str = "", target: str = "") -> str:
    messages, variables = way.ask(PROBE, source, target)
    return render(template, messages, **variables)


def _behind(rendered: str) -> str:
    return rendered.rpartition(PROBE)[2]


@lru_cache(maxsize=64)
def _compiled(text: str) -> jinja2.Template:
    from jinja2 import TemplateSyntaxError

    try:
        return _environment().from_string(text)
    except TemplateSyntaxError as error:
        raise unusable(f"line {error.lineno} of it: {error}") from error


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    """As transformers' `chat_template_utils` makes it."""
    import jinja2
    import jinja2.ext
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(jinja2.ext.Extension):
        """`{% generation %}` marks the model's own words, for training; here it marks nothing."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


def _refuse(message: str) -> None:
    import jinja2

    raise jinja2.TemplateError(message)


def _to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _json(file: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is no such file, or it holds none."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _token(value: Any) -> str:
    return str(value.get("content", "")) if isinstance(value, dict) else value if isinstance(value, str) else ""
