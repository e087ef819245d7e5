"""A study's report for people: `report.html`, one file that opens offline, and `frontier.png`, its plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.ledger.records import TrialRecord
from orchestrator.report.page import Content, page
from orchestrator.report.picture import write_picture
from orchestrator.report.published.points_file import PublishedPoint
from orchestrator.report.sections.points import shown_points
from orchestrator.report.translations.systems import read_systems
from orchestrator.results.control import ControlArms
from orchestrator.results.cost import cost_of
from orchestrator.results.labels import unit_for
from orchestrator.results.points import Results
from search_spaces.sizes.byte_parts import ByteParts
from workers.plan.evaluation_plan import PROFILE_SPLIT
from workers.reading.segments import DataSet
from workers.runtime.atomic_files import write_through_draft

REPORT = "report.html"

__all__ = ["REPORT", "write_picture", "write_report"]


def write_report(
    folder: Path,
    title: str,
    dev: Results,
    dev_data: DataSet,
    test: Results | None,
    test_data: DataSet | None,
    header: Mapping[str, Any],
    records: Sequence[TrialRecord] = (),
    kept: Mapping[int, Path] | None = None,
    parts: Mapping[int, ByteParts] | None = None,
    controls: ControlArms | None = None,
    published: Sequence[PublishedPoint] = (),
) -> Path:
    """Write `report.html` into a run's folder, whole or not at all, and return its path.

    folder: the run's, whose stored hypotheses are shown. dev, dev_data: what the search was scored on. test,
    test_data: the frontier scored again on held-out data, or None. header: the ledger's. records: every trial of it,
    for what the study took and for its profile. kept: trial number -> the folder of its kept model. parts: trial
    number -> where its bytes are. controls: what the training alone brings. published: points of other people's models.
    Raises StudyError when the hypotheses are not those of the data.
    """
    from plotly.offline import get_plotlyjs

    unit = unit_for([*dev.points, *dev.dropped, *(test.points if test else ())])
    systems = read_systems(folder, shown_points(dev), dev_data, unit)
    content = Content(
        title=title,
        dev=dev,
        dev_data=dev_data,
        test=test,
        test_data=test_data,
        header=header,
        unit=unit,
        systems=systems,
        probes=[record for record in records if record.split == PROFILE_SPLIT],
        cost=cost_of(records, header.get("spec", {}).get("gpus_per_trial")),
        kept=kept or {},
        parts=parts or {},
        controls=controls or ControlArms(),
        published=published,
    )
    path = folder / REPORT
    with write_through_draft(path) as draft:
        draft.write_text(page(content, get_plotlyjs()), encoding="utf-8")
    return path
