"""Torch, bitsandbytes and Triton, each loaded in a process of its own: one that is broken is a finding, not a crash."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.doctor.finding import Finding
from orchestrator.number_format import spell_bytes

ROOT = Path(__file__).resolve().parents[2]
# A cold disk takes its time over torch's libraries.
SECONDS = 180.0
LIBRARIES = ("torch", "bitsandbytes", "triton")
COMMAND = (sys.executable, "-m", "workers.loading.device_report")
FEW_BYTES = 2**30

Answer = dict[str, Any] | str


def library_answers(names: Sequence[str] = LIBRARIES, command: Sequence[str] = COMMAND) -> dict[str, Answer]:
    """Library -> what it is, or why it can't be loaded. command: what is asked, with the library's name behind it."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    running = {
        name: subprocess.Popen(
            [*command, name],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        for name in names
    }
    return {name: _answer(process) for name, process in running.items()}


def _answer(process: subprocess.Popen[str], seconds: float = SECONDS) -> Answer:
    try:
        said, told = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return f"loading it took more than {seconds:.0f} s"
    if process.returncode < 0:
        return f"loading it ended the process by signal {-process.returncode}"
    lines = [line for line in said.splitlines() if line.startswith("{")]
    if process.returncode or not lines:
        return (told.strip().splitlines() or ["loading it failed without a word"])[-1]
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def library_findings(answers: Mapping[str, Answer], needed: Sequence[str] = ()) -> list[Finding]:
    """A line a library, and one a GPU. needed: libraries besides torch that the study can't do without."""
    torch = answers["torch"]
    if isinstance(torch, str):
        return [Finding("wrong", "torch", f"can't be loaded: {torch}", _install("torch"))]
    gpus = torch["gpus"]
    cuda = f", CUDA {torch['cuda']}" if torch["cuda"] else ", built for CPUs"
    findings = [Finding("ok", "torch", f"{torch['version']}{cuda}"), *_gpu_findings(gpus)]
    for name in (one for one in answers if one != "torch"):
        answer = answers[name]
        if isinstance(answer, dict):
            findings.append(Finding("ok", name, answer["version"]))
        elif name in needed:
            findings.append(
                Finding("wrong", name, f"the study needs it, and it can't be loaded: {answer}", _install(name))
            )
        elif name == "triton" and not gpus:
            findings.append(Finding("ok", name, "not here; only a GPU needs it"))
        else:
            findings.append(Finding("warning", name, f"can't be loaded: {answer}", _install(name)))
    return findings


def _gpu_findings(gpus: Sequence[Mapping[str, Any]]) -> list[Finding]:
    if not gpus:
        return [Finding("warning", "GPU", "torch sees none: trials run on CPUs, where packed models are not timed")]
    return [
        Finding(
            "ok" if gpu["computes"] and gpu["free"] > FEW_BYTES else "warning" if gpu["computes"] else "wrong",
            f"GPU {number}",
            f"{gpu['name']}, {spell_bytes(gpu['bytes'])}, of which {spell_bytes(gpu['free'])} are free"
            + ("" if gpu["computes"] else "; a product came out wrong"),
            "" if gpu["computes"] and gpu["free"] > FEW_BYTES else "nvidia-smi says who holds it, and its state",
        )
        for number, gpu in enumerate(gpus)
    ]


def _install(name: str) -> str:
    return f"{sys.executable} -m pip install --force-reinstall {name}"
