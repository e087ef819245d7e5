"""Which errors are a candidate's own, which are the machine's, and what becomes of each."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    NodeDiedError,
    ObjectStoreFullError,
    OutOfDiskError,
    RayTaskError,
    WorkerCrashedError,
)
from ray.exceptions import OutOfMemoryError as RayOutOfMemory

from search_spaces.candidate import Candidate
from search_spaces.errors import CandidateError, ModelFilesError, StudyError
from search_spaces.outcome import Failure, Score
from tests.support.examples import BASE, dataset, measurement, segment
from workers.evaluation.attempt import attempt
from workers.evaluation.evaluate import Evaluated, Stages
from workers.failures.memory import Held, host_held
from workers.failures.table import (
    BaseChanged,
    EmptyOutput,
    LedgerMoved,
    MachineError,
    as_failure,
    fault_in_words,
    is_transient,
    whose_fault,
)
from workers.failures.training import DiskFull
from workers.plan.evaluation_plan import EvaluationPlan
from workers.translation.decoding import Decoding, Hypothesis

SEGMENTS = [segment(id="a"), segment(id="b")]
BASELINE = Candidate(BASE)


class OutOfMemoryError(RuntimeError):
    """Named as torch's is."""


class SafetensorError(Exception):
    """Named as safetensors' is."""


class DistNetworkError(RuntimeError):
    """Named as torch's is."""


class DistStoreError(RuntimeError):
    """Named as torch's is."""


class InvalidCxxCompiler(RuntimeError):
    """Named as inductor's is."""


OWN_FAULTS: list[tuple[BaseException, str]] = [
    (OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "out_of_memory"),
    (OutOfMemoryError("CUDA error: out of memory"), "out_of_memory"),
    (RuntimeError("CUDA error: out of memory"), "out_of_memory"),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "out_of_memory"),
    (MemoryError(), "out_of_memory"),
    (EmptyOutput("all 10 hypotheses are empty"), "empty_output"),
    (CandidateError("rtn.group_size=64 does not divide"), "unsupported"),
    (StudyError("leaves no room"), "unsupported"),
    (ModelFilesError("no weights"), "unsupported"),
    (NotImplementedError("no kernel for this"), "unsupported"),
    (ValueError("score is nan; a measured number is finite"), "not_finite"),
    (ValueError("shapes do not match"), "error"),
    (RuntimeError("compression left every targeted weight unchanged"), "error"),
    (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasGemmEx`"), "error"),
    (RuntimeError("cuDNN error: CUDNN_STATUS_BAD_PARAM"), "error"),
    (RuntimeError("out of resource: shared memory, Required: 262144, Hardware limit: 232448"), "error"),
    (KeyError("weight"), "error"),
    (ZeroDivisionError("by zero"), "error"),
    (OSError("the folder's config names another architecture"), "error"),
    (OSError(errno.EINVAL, "Invalid argument"), "error"),
]
PASSING_FAULTS: list[BaseException] = [
    ActorDiedError(),
    ActorUnavailableError("COMET is out of reach", None),
    NodeDiedError("if the node was preempted"),
    WorkerCrashedError(),
    RayOutOfMemory("Task was killed due to the node running low on memory."),
    ConnectionResetError(),
    ConnectionRefusedError(),
    BrokenPipeError(),
    TimeoutError(),
    *(OSError(number, os.strerror(number)) for number in (
        errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNREFUSED, errno.EPIPE, errno.EAGAIN,
        errno.EBUSY, errno.ENOTCONN, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EREMOTEIO, errno.ECONNABORTED,
        errno.EHOSTDOWN, errno.ENETDOWN, errno.ENETRESET, errno.EINTR, errno.ESHUTDOWN, errno.EADDRINUSE,
    )),
    SafetensorError("Error while deserializing: I/O error: Stale file handle (os error 116)"),
    SafetensorError("Error while deserializing: I/O error: Input/output error (os error 5)"),
    DistNetworkError("The client socket has timed out after 60000ms"),
    DistStoreError("wait timeout after 300000ms"),
    RuntimeError("NCCL error in: ProcessGroupNCCL.cpp:3356, unhandled system error, NCCL version 2.27.5"),
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: uncorrectable ECC error encountered"),
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("CUDA error: unspecified launch failure"),
    RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable"),
    RuntimeError("CUDA driver error: unknown error"),
    RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"),
    RuntimeError("Triton Error [CUDA]: device-side assert triggered"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    OSError(errno.ESTALE, "the artefact x vanished or changed while it was being written"),
]  # fmt: skip
GPU_FILLED = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which 1.05 GiB is free."
    " Process 812 has 70.00 GiB memory in use. Including non-PyTorch memory, this process has 8.06 GiB memory in use. "
    "Of the allocated memory 7.10 GiB is allocated by PyTorch, and 200.00 MiB is reserved by PyTorch but unallocated."
)
MACHINE_FAULTS: list[tuple[BaseException, str]] = [
    (OSError(errno.ENOSPC, "No space left on device"), "disk is full"),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk is full"),
    (DiskFull(errno.ENOSPC, "no room for a checkpoint of 10 bytes"), "disk is full"),
    (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), "disk is full"),
    (SafetensorError("Error while serializing: I/O error: Disk quota exceeded (os error 122)"), "disk is full"),
    (RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"), "disk is full"),
    (RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed"), "disk is full"),
    (RuntimeError("basic_ios::clear: iostream error"), "disk is full"),
    (sqlite3.OperationalError("database or disk is full"), "disk is full"),
    (OutOfDiskError("Local disk is full"), "disk is full"),
    (OSError(errno.EROFS, "Read-only file system"), "read-only"),
    (SafetensorError("I/O error: Read-only file system (os error 30)"), "read-only"),
    (OSError(errno.EFBIG, "File too large"), "larger than is allowed"),
    (OSError(errno.EMFILE, "Too many open files"), "file handles"),
    (OSError(errno.ENFILE, "Too many open files in system"), "file handles"),
    (SafetensorError("I/O error: Too many open files (os error 24)"), "file handles"),
    (OSError(errno.EACCES, "Permission denied"), "permission"),
    (PermissionError(errno.EACCES, "Permission denied"), "permission"),
    (PermissionError("no right to it"), "permission"),
    (OSError(errno.EPERM, "Operation not permitted"), "permission"),
    (FileNotFoundError(errno.ENOENT, "No such file or directory", "/models/a.safetensors"), "not there"),
    (SafetensorError("I/O error: No such file or directory (os error 2)"), "not there"),
    (NotADirectoryError(errno.ENOTDIR, "Not a directory"), "not there"),
    (OSError(errno.ENODEV, "No such device"), "not there"),
    (OSError(errno.ENXIO, "No such device or address"), "not there"),
    (OSError(errno.ENOLCK, "No locks available"), "locks"),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), "no more memory"),
    (
        RuntimeError("unable to mmap 988097824 bytes from file <model.safetensors>: Cannot allocate memory (12)"),
        "no more memory",
    ),
    (RuntimeError("can't start new thread"), "no more memory or threads"),
    (ObjectStoreFullError("Failed to put object"), "no more memory"),
    (Exception("The current node timed out during startup. This could happen because …"), "Ray did not start in time"),
    (ModuleNotFoundError("No module named 'plotly'"), "package or library is missing"),
    (ImportError("libcudart.so.12: cannot open shared object file: No such file or directory"), "package or library"),
    (ImportError("cannot import name 'Tensor' from 'torch'"), "package or library"),
    (PackageNotFoundError("bitsandbytes"), "package or library"),
    (OSError("libnvJitLink.so.12: cannot open shared object file: No such file or directory"), "package or library"),
    (RuntimeError("Failed to find C compiler. Please specify via CC environment variable."), "compiler"),
    (InvalidCxxCompiler("No working C++ compiler found in torch._inductor.config.cpp.cxx"), "compiler"),
    (RuntimeError("No CUDA GPUs are available"), "driver"),
    (RuntimeError("CUDA unknown error - this may be due to an incorrectly set up environment"), "driver"),
    (RuntimeError("The NVIDIA driver on your system is too old (found version 11040)."), "driver"),
    (RuntimeError("Found no NVIDIA driver on your system."), "driver"),
    (RuntimeError("CUDA error: CUDA driver version is insufficient for CUDA runtime version"), "driver"),
    (RuntimeError("CUDA error: no kernel image is available for execution on the device"), "driver"),
    (RuntimeError("CUDA error: no CUDA-capable device is detected"), "driver"),
    (AssertionError("Torch not compiled with CUDA enabled"), "driver"),
    (OutOfMemoryError(GPU_FILLED), "70.0 of 79.1 GiB of the GPU's memory are held by other processes"),
    (BaseChanged("the model in /m is not the one the study began with (a, not b)"), "base model changed"),
    (LedgerMoved("ledger.jsonl was replaced"), "ledger"),
]


def named(value: object) -> str:
    return repr(value)[:50]


@pytest.mark.parametrize(("error", "reason"), OWN_FAULTS, ids=named)
def test_a_candidates_own_fault_is_told_by_its_reason_and_not_tried_again(error: BaseException, reason: str) -> None:
    assert whose_fault(error).whose in ("candidate", "user")
    failure = as_failure(error, "load")
    assert (failure.reason, failure.stage) == (reason, "load")
    assert failure.message.startswith(f"{type(error).__name__}: {error}")
    assert fault_in_words(failure.message).whose in ("candidate", "user")


@pytest.mark.parametrize("error", PASSING_FAULTS, ids=named)
def test_the_workers_faults_are_worth_another_attempt(error: BaseException) -> None:
    assert whose_fault(error).whose == "worker" and is_transient(error)


@pytest.mark.parametrize(("error", "what"), MACHINE_FAULTS, ids=named)
def test_the_machines_faults_are_booked_on_no_candidate_and_say_what_to_do(error: BaseException, what: str) -> None:
    rule = whose_fault(error)
    assert rule.whose == "machine"
    assert what in rule.what and rule.mend
    assert rule.room == ("disk is full" in what)
    # As ledgers of before hold it.
    assert what in fault_in_words(as_failure(error, "load").message).what


def raised(make: Callable[[], None]) -> BaseException:
    try:
        make()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def wrapped(inner: BaseException, outer: BaseException, explicit: bool) -> BaseException:
    def make() -> None:
        try:
            raise inner
        except Exception as error:
            if explicit:
                raise outer from error
            raise outer  # noqa: B904

    return raised(make)


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize(
    ("inner", "outer", "whose"),
    [
        (FULL, RuntimeError("could not save"), "machine"),
        (FULL, ModelFilesError("m.safetensors is cut short"), "machine"),
        (FULL, ValueError("no checkpoint"), "machine"),
        (ModuleNotFoundError("No module named 'x'"), RuntimeError("Failed to import transformers.models.x"), "machine"),
        (OSError(errno.EIO, "Input/output error"), RuntimeError("could not load"), "worker"),
        (OutOfMemoryError("CUDA out of memory."), RuntimeError("could not translate"), "candidate"),
        (KeyError("weight"), RuntimeError("no such layer"), "candidate"),
    ],
    ids=named,
)
def test_the_whole_chain_decides(explicit: bool, inner: BaseException, outer: BaseException, whose: str) -> None:
    assert whose_fault(wrapped(inner, outer, explicit)).whose == whose


def test_what_was_met_and_dealt_with_is_not_blamed_for_what_came_after() -> None:
    for inner in (FileNotFoundError(errno.ENOENT, "no cache"), ImportError("no flash_attn"), TimeoutError()):
        for outer in (
            ValueError("loss is nan; not finite"),
            CandidateError("2:4 needs columns in fours"),
            KeyError("x"),
        ):
            assert whose_fault(wrapped(inner, outer, explicit=False)).whose == "candidate"
    assert whose_fault(wrapped(FileNotFoundError(), ValueError("no table"), explicit=True)).whose == "machine"


def test_what_ray_wraps_is_seen_through() -> None:
    task = RayTaskError("f", "Traceback …", FULL).as_instanceof_cause()
    assert whose_fault(task).whose == "machine"
    # The chain of an exception does not outlast its way from another process; the text of it does.
    text = "Traceback …\nOSError: [Errno 28] No space left on device\n\nRuntimeError: could not save"
    assert whose_fault(RayTaskError("f", text, RuntimeError("could not save"))).whose == "machine"
    assert whose_fault(ExceptionGroup("two", [KeyError("a"), FULL])).whose == "machine"


def test_a_gpu_that_another_fills_is_told_from_a_model_too_large_by_what_each_holds() -> None:
    gib = 2**30
    said = OutOfMemoryError("CUDA error: out of memory")
    for held, whose in (
        (Held(80 * gib, 1 * gib, 8 * gib, 80 * gib), "machine"),
        (Held(80 * gib, 1 * gib, 77 * gib, 80 * gib), "candidate"),
        # A GPU that two trials share: the other's half is its own.
        (Held(80 * gib, 1 * gib, 39 * gib, 40 * gib), "candidate"),
        (Held(80 * gib, 1 * gib, 8 * gib, 40 * gib), "machine"),
        (None, "candidate"),
    ):
        assert whose_fault(said, gpu=lambda held=held: held).whose == whose  # type: ignore[misc]
    alone = GPU_FILLED.replace("Process 812 has 70.00 GiB memory in use. ", "").replace("8.06 GiB", "78.06 GiB")
    assert whose_fault(OutOfMemoryError(alone)).whose == "candidate"


def test_a_machines_memory_that_others_hold_is_no_candidates_fault() -> None:
    gib = 2**30
    said = RuntimeError(
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 4294967296 bytes. Error code 12 (Cannot "
        "allocate memory)"
    )
    for held, whose in (
        (Held(64 * gib, 2 * gib, 6 * gib, 64 * gib), "machine"),
        (Held(64 * gib, 2 * gib, 58 * gib, 64 * gib), "candidate"),
        (Held(64 * gib, 50 * gib, 6 * gib, 64 * gib), "candidate"),
    ):
        assert whose_fault(said, host=lambda held=held: held).whose == whose  # type: ignore[misc]
        assert whose_fault(
            MemoryError("Unable to allocate 4.00 GiB for an array"), host=lambda held=held: held
        ).whose == (  # type: ignore[misc]
            whose
        )


def test_this_machines_own_memory_is_measured() -> None:
    held = host_held()
    assert held is None or (0 < held.own < held.total and 0 < held.free < held.total)


def plan(tmp_path: Path) -> EvaluationPlan:
    return EvaluationPlan({"dev": dataset(SEGMENTS)}, None, ("chrf",), Decoding(), tmp_path)


def raising(error: Exception, stage: str = "translate") -> Callable[..., Evaluated]:
    def measure(candidate: Candidate, split: str, plan: EvaluationPlan, stages: Stages) -> Evaluated:
        with stages.stage("load"):
            pass
        with stages.stage(stage):
            raise error

    return measure


@pytest.mark.parametrize(("error", "reason"), OWN_FAULTS, ids=named)
def test_an_attempt_turns_a_candidates_own_fault_into_a_failure(tmp_path: Path, error: Any, reason: str) -> None:
    outcome, hypotheses = attempt(BASELINE, "dev", plan(tmp_path), raising(error))
    assert isinstance(outcome, Failure)
    assert (outcome.reason, outcome.stage) == (reason, "translate")
    assert hypotheses == []


@pytest.mark.parametrize("error", PASSING_FAULTS, ids=named)
def test_an_attempt_lets_the_workers_faults_through(tmp_path: Path, error: Any) -> None:
    with pytest.raises(type(error)) as caught:
        attempt(BASELINE, "dev", plan(tmp_path), raising(error))
    assert caught.value is error


def test_an_attempt_outside_of_a_search_raises_the_machines_faults_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        MachineError, match=r"the disk is full on .*No space left on device\). Free some space"
    ) as caught:
        attempt(BASELINE, "dev", plan(tmp_path), raising(OSError(errno.ENOSPC, "No space left on device"), "compress"))
    assert (caught.value.fault.stage, caught.value.fault.room) == ("compress", True)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_an_attempt_never_swallows_the_order_to_stop(tmp_path: Path, error: Any) -> None:
    with pytest.raises(type(error)):
        attempt(BASELINE, "dev", plan(tmp_path), raising(error))


def test_an_unknown_error_says_where_it_was_raised(tmp_path: Path) -> None:
    outcome, _ = attempt(BASELINE, "dev", plan(tmp_path), raising(ZeroDivisionError("by zero"), "compress"))
    assert isinstance(outcome, Failure)
    assert outcome.stage == "compress"
    assert outcome.message.startswith("ZeroDivisionError: by zero (at test_failures.py:")


def test_a_user_error_is_passed_on_in_its_own_words(tmp_path: Path) -> None:
    outcome, _ = attempt(BASELINE, "dev", plan(tmp_path), raising(StudyError("ask for fewer tokens")))
    assert outcome == Failure("unsupported", "translate", "StudyError: ask for fewer tokens")


ROWS = ({"chrf": 60.0}, {"chrf": 0.0})


def test_an_attempt_keeps_each_hypothesis_with_its_segments_id_scores_and_failed_checks(tmp_path: Path) -> None:
    def measure(candidate: Candidate, split: str, plan: EvaluationPlan, stages: Stages) -> Evaluated:
        hypotheses = (Hypothesis("Eins", 3, False), Hypothesis("", 9, True))
        return Evaluated(measurement(), tuple(SEGMENTS), hypotheses, ROWS, ((), ("empty", "truncated")), tmp_path)

    outcome, hypotheses = attempt(BASELINE, "dev", plan(tmp_path), measure)
    assert outcome == measurement()
    assert hypotheses == [
        {
            "id": "a", "text": "Eins", "tokens": 3, "truncated": False, "thought": False, "scores": {"chrf": 60.0},
            "failed": [],
        },
        {
            "id": "b", "text": "", "tokens": 9, "truncated": True, "thought": False, "scores": {"chrf": 0.0},
            "failed": ["empty", "truncated"],
        },
    ]  # fmt: skip


def test_a_score_that_is_no_number_becomes_a_failure(tmp_path: Path) -> None:
    def measure(candidate: Candidate, split: str, plan: EvaluationPlan, stages: Stages) -> Evaluated:
        with stages.stage("score"):
            Score(float("nan"), "signature")
        raise AssertionError("a NaN score was accepted")

    outcome, _ = attempt(BASELINE, "dev", plan(tmp_path), measure)
    assert isinstance(outcome, Failure)
    assert (outcome.reason, outcome.stage) == ("not_finite", "score")
