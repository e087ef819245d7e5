"""Whose fault an exception is: one table, read by the exception's whole chain, or by the words that a ledger keeps.

The candidate's is its result, told once. The worker's is worth another attempt. The machine's is booked on nobody: the
search makes room or stops, and goes on once it is mended. The user's is refused before anything starts; one that only
a trial can find is told like the candidate's.
"""

from __future__ import annotations

import errno
import socket
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from search_spaces.errors import UserError
from search_spaces.outcome import Failure, Reason
from workers.failures.blame import bound_family
from workers.failures.chain import ENDED_BY_RAY, Sight, names_of, sight_of, sight_of_words, sights_of
from workers.failures.memory import Held, filled_by_others, gpu_held, host_held

Whose = Literal["candidate", "worker", "machine", "user"]

TRACE_LINES = 4
# Of a message that is printed in a line.
LONGEST_MESSAGE = 400
# Sysexits' EX_TEMPFAIL: the same command may succeed once the machine is mended.
MACHINE_EXIT = 75


class EmptyOutput(RuntimeError):
    """Every hypothesis of a candidate was empty: there is nothing to score."""


class BaseChanged(OSError):
    """The base model's files are not those that the study began with."""


class LedgerMoved(OSError):
    """The ledger was moved, replaced or changed by something else while a search wrote it."""


class MachineError(RuntimeError):
    """A fault of the machine's that ended what was asked for; str() says what to do. more: what else is to be said."""

    def __init__(self, fault: MachineFault, more: str = "") -> None:
        super().__init__(f"{fault.said()}{more}")
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Rule:
    """A line of the table: how a fault is recognised, whose fault it is, and what a person does about it."""

    whose: Whose
    """Whose fault it is."""
    what: str
    """The fault in a few words."""
    mend: str = ""
    """What a person does about it; may be empty."""
    types: frozenset[str] = frozenset()
    """Names of classes: the exception's own or one it inherits from."""
    errnos: frozenset[int] = frozenset()
    """Error numbers of an OSError."""
    signs: tuple[str, ...] = ()
    """Parts of the exception's text."""
    handled: bool = False
    """Whether this exception is often raised and handled. It then says nothing of an exception that was raised for a
    reason of its own while this one was handled."""
    then: Whose = "machine"
    """Whose fault a worker's fault is once its attempts are used up."""
    room: bool = False
    """Whether the search can mend the fault by making room."""


def _set(*names: str) -> frozenset[str]:
    return frozenset(names)


def _errnos(*names: str) -> frozenset[int]:
    return frozenset(getattr(errno, name) for name in names if hasattr(errno, name))


FREE_GPU = "end what else runs on this GPU, or give the search other GPUs"
CANDIDATE = Rule("candidate", "an error of the candidate's")
TOO_LARGE = Rule("candidate", "too large for the memory it was given")
TAKEN_BY_OTHERS = Rule("machine", "memory is taken by others", f"{FREE_GPU}, or wait for its end")

# In the order in which they win; below them all, `CANDIDATE`.
TABLE: tuple[Rule, ...] = (
    Rule("machine", "the disk is full",
         "free some space there",
         types=_set("DiskFull", "OutOfDiskError"),
         errnos=_errnos("ENOSPC", "EDQUOT"),
         signs=("database or disk is full", "PytorchStreamWriter failed writing", "iostream error", "unexpected pos ",
                "file write failed", "Ran out of input"),
         room=True),
    Rule("machine", "the file system is read-only",
         "make it writable, or choose another place",
         errnos=_errnos("EROFS"),
         signs=("attempt to write a readonly database",)),
    Rule("machine", "a file is larger than is allowed here",
         "raise `ulimit -f`, or choose another file system",
         errnos=_errnos("EFBIG")),
    Rule("machine", "there are no more file handles",
         "raise `ulimit -n`",
         errnos=_errnos("EMFILE", "ENFILE")),
    Rule("machine", "the ledger was moved or changed",
         "put it back as it was",
         types=_set("LedgerMoved")),
    Rule("machine", "the base model changed",
         "put the old files back, or begin a new study",
         types=_set("BaseChanged"),
         signs=("is not the one the study began with",)),
    Rule("machine", "the system gives no more memory or threads",
         "end other processes, or raise `ulimit -v` and `ulimit -u`",
         types=_set("ObjectStoreFullError"),
         errnos=_errnos("ENOMEM"),
         signs=("can't start new thread", "unable to mmap", "pthread_create failed", "Thread creation failed")),
    # ray.init raises a plain Exception after 30 s.
    Rule("machine", "Ray did not start in time",
         "try again when the machine has less to do",
         signs=("The current node timed out during startup",)),
    Rule("machine", "a compiler is missing",
         "install a C compiler and Python's headers, or set CC",
         types=_set("InvalidCxxCompiler"),
         signs=("Failed to find C compiler", "No working C++ compiler", "Cannot find ptxas", "Python.h")),
    Rule("machine", "the GPU or its driver can't be used",
         "see what nvidia-smi says; another driver or another build of torch may be due",
         types=_set("NVMLError"),
         signs=("No CUDA GPUs are available", "CUDA unknown error", "CUDA driver version is insufficient",
                "driver on your system is too old", "Found no NVIDIA driver", "no CUDA-capable device is detected",
                "Torch not compiled with CUDA enabled", "system not yet initialized", "no kernel image is available",
                "forward compatibility was attempted", "unsupported display driver", "Driver/library version mismatch",
                "Can't initialize NVML", "invalid device ordinal", "CUDA initialization")),
    Rule("machine", "a package or library is missing",
         "install what pyproject.toml names, in the environment of every node",
         types=_set("ImportError", "ModuleNotFoundError", "PackageNotFoundError"),
         signs=("cannot open shared object file", "No module named", "undefined symbol", "not found (required by"),
         handled=True),
    Rule("machine", "permission is denied",
         "give this user the right to it",
         types=_set("PermissionError"),
         errnos=_errnos("EACCES", "EPERM"),
         handled=True),
    Rule("machine", "a file or device is not there",
         "put it back, or mount it",
         types=_set("FileNotFoundError", "NotADirectoryError"),
         errnos=_errnos("ENOENT", "ENOTDIR", "ENODEV", "ENXIO"),
         handled=True),
    Rule("machine", "the file system gives no locks",
         "choose one that knows flock, for --out and --store",
         errnos=_errnos("ENOLCK")),
    Rule("worker", "a process or its node was lost",
         types=_set("RayActorError", "GetTimeoutError", "WorkerCrashedError", "NodeDiedError", "PreemptionError",
                    "ObjectLostError", "LocalRayletDiedError", "RaySystemError", "OwnerDiedError",
                    "TaskUnschedulableError", "ActorUnschedulableError"),
         signs=("a process of the sharded training was lost",),
         then="candidate"),
    Rule("worker", "Ray ended a process for want of host memory",
         types=_set(ENDED_BY_RAY),
         signs=("running low on memory", "memory monitor"),
         then="candidate"),
    Rule("worker", "the network or the storage did not answer",
         "look after the storage and the network",
         types=_set("ConnectionError", "TimeoutError", "Timeout", "DistNetworkError", "DistStoreError"),
         errnos=_errnos("EIO", "ESTALE", "ETIMEDOUT", "ECONNRESET", "ECONNREFUSED", "ECONNABORTED", "EPIPE", "EAGAIN",
                        "EBUSY", "ENOTCONN", "EHOSTUNREACH", "EHOSTDOWN", "ENETUNREACH", "ENETDOWN", "ENETRESET",
                        "EREMOTEIO", "EINTR", "ESHUTDOWN", "ENOLINK", "ECOMM", "EADDRINUSE", "EADDRNOTAVAIL"),
         signs=("vanished or changed while", "was cut short while in use"),
         handled=True),
    Rule("candidate", "a shape or type that no kernel takes",
         signs=("_STATUS_NOT_SUPPORTED", "_STATUS_INVALID_VALUE", "_STATUS_BAD_PARAM", "out of resource: ")),
    Rule("worker", "the GPUs' communication failed",
         "look after NCCL and the network",
         types=_set("DistBackendError"),
         signs=("NCCL",)),
    Rule("worker", "the GPU needs a new process, or a repair",
         "see what nvidia-smi says",
         signs=("ECC error", "CUDA driver error", "_STATUS_NOT_INITIALIZED", "_STATUS_INTERNAL_ERROR",
                "busy or unavailable", "has fallen off the bus", "GPU is lost", "hardware error")),
    # A candidate's own shapes may be what poisons it (https://docs.nvidia.com/cuda/cuda-runtime-api).
    Rule("worker", "the process's CUDA context can't be used any more",
         types=_set("AcceleratorError"),
         signs=("CUDA error", "Triton Error [CUDA]", "device-side assert", "_STATUS_EXECUTION_FAILED",
                "illegal memory access"),
         then="candidate"),
    Rule("user", "the request can't be carried out",
         types=_set("UserError")),
)  # fmt: skip

# What the runtime, cuBLAS and torch on a CPU say of it where torch has no exception of its own.
NO_MEMORY_LEFT = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "can't allocate memory")
# Their messages say where and what to do; a trace adds nothing.
KNOWN = frozenset({"UserError", "EmptyOutput", "TrainingDiverged", "DiskFull"})
# Raised by a mistake in a program or a shape that does not fit, whatever was being handled.
OF_ITS_OWN = frozenset(
    {
        "ValueError",
        "TypeError",
        "LookupError",
        "AttributeError",
        "AssertionError",
        "ArithmeticError",
        "NotImplementedError",
        "MemoryError",
        "EmptyOutput",
        "TrainingDiverged",
        "UserError",
    }
)


@dataclass(frozen=True, slots=True)
class MachineFault:
    """The machine's fault, as plain words that any process can take."""

    what: str
    """The fault in a few words."""
    stage: str
    """The stage in which it happened."""
    message: str
    """The exception's message."""
    mend: str
    """What a person does about it."""
    host: str = ""
    """The name of the machine; empty where it is not known."""
    room: bool = False
    """Whether the search can mend the fault by making room."""

    def said(self) -> str:
        """For a person, in one line."""
        where = f" on {self.host}" if self.host else ""
        return f"{self.what}{where} (stage {self.stage}: {self.message}). {self.mend[:1].upper()}{self.mend[1:]}."

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def whose_fault(
    error: BaseException, gpu: Callable[[], Held | None] = gpu_held, host: Callable[[], Held | None] = host_held
) -> Rule:
    """The line of the table for an exception, by everything in its chain: what it was raised from or while handling,
    and what Ray wraps. gpu, host: measure a memory, where an exception says that it ran out and not who holds it."""
    return _judged(list(sights_of(error)), gpu, host)


def fault_in_words(message: str) -> Rule:
    """The line of the table for a failure's message as a ledger keeps it, `ClassName: its text`."""
    return _judged([sight_of_words(message)], lambda: None, lambda: None)


def is_transient(error: BaseException) -> bool:
    """Whether another attempt of the same candidate may well succeed."""
    return whose_fault(error).whose == "worker"


def is_out_of_memory(error: BaseException) -> bool:
    """Out of host or of GPU memory; torch's own exception is told by its name, so that torch need not be loaded.

    Ray's exception of that name is of a process that Ray ended.
    """
    return _is_memory(sight_of(error))


def as_failure(error: BaseException, stage: str) -> Failure:
    """The failure that stands for an exception: its reason, the last lines of its trace when it is no known one, and
    the family that it binds."""
    message, reason = f"{type(error).__name__}: {error}", _reason(error)
    family = bound_family(error, reason)
    if KNOWN & names_of(type(error)) or is_out_of_memory(error):
        return Failure(reason, stage, message, family)
    return Failure(reason, stage, f"{message} (at {_trace(error)})", family)


def as_machine_fault(error: BaseException, stage: str, rule: Rule) -> MachineFault:
    """The machine's fault that an exception is by this line of the table."""
    # Of an exception that came from another process Ray has the whole trace for a text.
    told = getattr(error, "cause", None)
    shown = told if isinstance(told, BaseException) else error
    message = " ".join(f"{type(shown).__name__}: {shown}".split())
    if len(message) > LONGEST_MESSAGE:
        message = f"{message[:LONGEST_MESSAGE]}…"
    return MachineFault(
        what=rule.what, stage=stage, message=message, mend=rule.mend, host=socket.gethostname(), room=rule.room
    )


def _judged(sights: list[Sight], gpu: Callable[[], Held | None], host: Callable[[], Held | None]) -> Rule:
    wanting = [sight for sight in sights if _is_memory(sight)]
    others = [sight for sight in sights if not _is_memory(sight)]
    of_its_own = bool(sights[0].names & OF_ITS_OWN) or sights[0] in wanting
    met = [rule for sight in others for rule in _rules_of(sight) if not (rule.handled and sight.handled and of_its_own)]
    best = min(met, key=TABLE.index, default=CANDIDATE)
    stops = best.whose == "machine" and not best.handled
    if wanting and not stops and (sights[0] in wanting or best is CANDIDATE):
        said = filled_by_others(wanting[0].text, gpu, host)
        return TOO_LARGE if said is None else replace(TAKEN_BY_OTHERS, what=f"{TAKEN_BY_OTHERS.what}: {said}")
    return best


def _rules_of(sight: Sight) -> Iterator[Rule]:
    for rule in TABLE:
        by_type = rule.types & sight.names
        if by_type or sight.number in rule.errnos or any(sign in sight.text for sign in rule.signs):
            if "CandidateError" in sight.names and rule.whose == "user":
                continue
            yield rule


def _is_memory(sight: Sight) -> bool:
    if "MemoryError" in sight.names:
        return True
    if "OutOfMemoryError" in sight.names:
        return ENDED_BY_RAY not in sight.names and "running low on memory" not in sight.text
    return "RuntimeError" in sight.names and any(sign in sight.text for sign in NO_MEMORY_LEFT)


def _trace(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-TRACE_LINES:]
    return " < ".join(f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}" for frame in reversed(frames))


def _reason(error: BaseException) -> Reason:
    names = names_of(type(error))
    if is_out_of_memory(error):
        return "out_of_memory"
    if "EmptyOutput" in names:
        return "empty_output"
    if "TrainingDiverged" in names:
        return "not_finite"
    if isinstance(error, (UserError, NotImplementedError)):
        return "unsupported"
    if isinstance(error, ValueError) and "finite" in str(error):
        return "not_finite"
    return "error"
