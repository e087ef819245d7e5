"""`mtpareto export`: a kept model as a folder that runs without this project, there whole or not at all."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.commands.exporting.formats import FORMATS, GGUF, KEPT, MERGED
from orchestrator.commands.exporting.model_card import Exported, model_card
from orchestrator.environment import prepare
from orchestrator.finish.kept_models import KeptModel, kept_model
from orchestrator.finish.run_folder import read_data, refuse_changed_data
from orchestrator.finish.wrap_up import read_results
from orchestrator.number_format import spell_bytes
from orchestrator.results.picking import described
from search_spaces.errors import StudyError, UserError
from workers.runtime.atomic_files import DRAFT
from workers.translation.prompt_file import pair_of, write_asking

log = logging.getLogger(__name__)

README = "README.md"


def export(
    run: Path, pick: str, to: Path, langs: Sequence[str], say: Callable[[str], None], form: str = FORMATS[0]
) -> Path:
    """Write the model that a pick means to the new folder `to`, for the pairs that the study measured.

    langs: further pairs, such as en-fr. form: one of FORMATS. Raises UserError, with nothing written, for what can't be
    done.
    """
    _refuse_there(to)
    prepare(None)
    found = kept_model(run, pick)
    from workers.export.files import refuse_unexportable, write_sums
    from workers.export.request import refuse_no_pairs, request_record

    say(f"model     {described(found.point)}")
    if form == KEPT:
        refuse_unexportable(found.folder)
    pairs = list(dict.fromkeys([*found.asking.pairs, *(_pair(langs_of) for langs_of in langs)]))
    refuse_no_pairs(pairs)
    record = request_record(found.folder, found.asking, pairs, found.spec.trust_remote_code)
    with _whole(to) as draft:
        size, notes = _write_model(found, form, draft, record)
        needed = [] if form == GGUF else _write_scripts(draft)
        write_asking(draft, found.asking, **record)
        found = _with_intervals(found)
        card = model_card(found, pairs, Exported(form, size, tuple(notes), tuple(needed), record))
        (draft / README).write_text(card, encoding="utf-8")
        write_sums(draft)
    for note in notes:
        say(f"note      {note}")
    say(f"exported  {to}   ({spell_bytes(size)}, for {', '.join(pairs)})")
    if form == GGUF:
        say(f"run it    with llama.cpp, as {to}/{README} says; it was not run there")
    else:
        source, target = pairs[0].split("-")
        say(f"run it    {to}/setup.sh && {to}/run.sh --lang-pair {source}-{target} --input IN --output OUT")
    return to


def _write_model(found: KeptModel, form: str, draft: Path, record: Mapping[str, Any]) -> tuple[int, list[str]]:
    """Write the model's own files; returns their bytes, and what a person has to know of them."""
    from workers.checkpoints.model_files import bytes_on_disk
    from workers.export.files import copy_model

    if form == KEPT:
        return copy_model(found.folder, draft), []
    if form == GGUF:
        from workers.export.formats.gguf_file import FILE, write_gguf

        requests = record["requests"].values()
        texts = [f"{one['before']}{text}{one['after']}" for one in requests for text in ("A dog runs.", "1, 2: ok?")]
        notes = write_gguf(found.folder, draft, Path(found.point.record.candidate.base.name).stem, texts)
        return (draft / FILE).stat().st_size, notes
    if form == MERGED:
        from workers.export.formats.merged import write_merged

        notes = write_merged(found.folder, draft, found.spec.trust_remote_code)
    else:
        from workers.export.formats.packed import write_packed

        notes = write_packed(found.folder, draft)
    return bytes_on_disk(draft), notes


def _write_scripts(draft: Path) -> list[str]:
    """Write what translates with the model in the folder, and what that needs; returns the packages."""
    from workers.export.files import copy_scripts, requirements, write_requirements

    needed = requirements(draft)
    copy_scripts(draft)
    write_requirements(draft, needed)
    return needed


def _pair(langs: str) -> str:
    source, hyphen, target = langs.partition("-")
    if not hyphen:
        raise StudyError(f"unknown pair {langs!r}: a pair is two language codes, such as en-de")
    return pair_of(source, target)


def _refuse_there(to: Path) -> None:
    """Raise StudyError where the export's folder can't be a new one."""
    if to.is_dir() and not any(to.iterdir()):
        return
    if to.exists() or to.is_symlink():
        what = "is not empty" if to.is_dir() else "is no folder"
        raise StudyError(f"{to} is there and {what}; name a new folder with --to")


@contextmanager
def _whole(to: Path) -> Iterator[Path]:
    """A folder beside `to` that takes its name at the end, and goes where that is not reached."""
    to.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f"{DRAFT}{to.name}-", dir=to.parent))
    try:
        draft.chmod(0o755)
        yield draft
        draft.rename(to)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _with_intervals(found: KeptModel) -> KeptModel:
    """The model with the intervals of its study's points and with metrics that reached the run later, which take the
    study's data; where these are gone without, and with a warning."""
    try:
        data = read_data(found.spec)
        refuse_changed_data(found.ledger, data, found.spec.folder)
        dev, _ = read_results(found.ledger, found.spec, data)
    except UserError as error:
        log.warning("the model card has no intervals, which take the study's data: %s", error)
        return found
    point = next(point for point in dev.points if point.record.number == found.point.record.number)
    return replace(found, point=point, results=dev)
