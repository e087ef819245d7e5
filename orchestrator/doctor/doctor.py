"""All findings of `mtpareto doctor`, in the order in which they are told."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from orchestrator.cluster.address import asked_for
from orchestrator.doctor.finding import Finding
from orchestrator.doctor.libraries import Answer, library_answers, library_findings
from orchestrator.doctor.machine import disk_finding, mlflow_finding, packages_finding, python_finding, ray_finding
from orchestrator.study.spec import MLFLOW_VARIABLES, StudySpec
from search_spaces.errors import UserError
from workers.evaluation.preflight import DRIVER, missing_packages


def doctor(read: Callable[[], StudySpec] | None, address: str | None = None) -> list[Finding]:
    """Look at the machine, and at a study where one is given. read: gives the study, or raises what is wrong with its
    file. address: a Ray cluster's, before the study's own."""
    findings = [python_finding()]
    answers = library_answers()
    spec: StudySpec | None = None
    told: list[Finding] = []
    if read is not None:
        try:
            spec = read().absolute()
            told.append(Finding("ok", "study", f"{spec.title}, {spec.trials} trials, in {spec.folder}"))
        except UserError as error:
            told.append(Finding("wrong", "study", str(error)))
    asked = address or (spec.address if spec else None)
    packages = packages_finding()
    needed: tuple[str, ...] = ()
    if spec is not None and not missing_packages(DRIVER):
        # It loads Ray and what searches by it.
        from orchestrator.doctor.study_checks import study_findings

        of_study, needed = study_findings(spec, smallest_gpu(answers) if _is_local(spec, asked) else None)
        told += of_study
        packages = packages_finding(needed)
    findings += [*library_findings(answers, needed), packages, ray_finding(asked), mlflow_finding(store_of(spec))]
    return [*findings, *told] if spec else [*findings, disk_finding(Path.cwd()), *told]


def store_of(spec: StudySpec | None, environ: Mapping[str, str] | None = None) -> str:
    """MLflow's store: the study's, else what its own variable says, else the one that a run in `runs/` would have."""
    if spec is not None:
        return spec.told_by(os.environ if environ is None else environ).mlflow_uri
    named = (os.environ if environ is None else environ).get(MLFLOW_VARIABLES["tracking_uri"])
    return named or f"sqlite:///{Path.cwd() / 'runs' / 'mlflow.db'}"


def smallest_gpu(answers: Mapping[str, Answer]) -> int | None:
    """Bytes of the smallest GPU that torch sees; None where there is none."""
    torch = answers["torch"]
    return min((gpu["bytes"] for gpu in torch["gpus"]), default=None) if isinstance(torch, dict) else None


def _is_local(spec: StudySpec, address: str | None) -> bool:
    """Whether trials run on this machine, and may run on its GPUs."""
    return asked_for(address, os.environ) is None and spec.device_map != "cpu"
