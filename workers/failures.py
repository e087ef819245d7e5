"""Which exceptions are a candidate's own failing, and which are the machine's and worth another attempt."""

from __future__ import annotations

import errno
import traceback

from search_spaces.errors import UserError
from search_spaces.outcome import Failure, Reason
from workers.evaluation import EmptyOutput
from workers.training.faults import DiskFull, TrainingDiverged

# Errors of this kind can pass: another node, another attempt. A full disk is none of them.
TRANSIENT_ERRNOS = frozenset({errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNRESET, errno.EPIPE, errno.EAGAIN})
# After these the process's CUDA context is of no more use (https://docs.nvidia.com/cuda/cuda-runtime-api).
POISONED_CONTEXT = ("CUDA error", "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", "ECC error")
# What the runtime, cuBLAS and torch on a CPU say of it where torch has no exception of its own.
NO_MEMORY_LEFT = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "can't allocate memory")
# Their messages say where and what to do; a trace adds nothing.
KNOWN = (UserError, EmptyOutput, TrainingDiverged, DiskFull)
# Ray's words for another process, or its node, that is gone or out of reach.
LOST = frozenset({"RayActorError", "GetTimeoutError", "WorkerCrashedError", "NodeDiedError", "PreemptionError"})
TRACE_LINES = 4


def is_transient(error: BaseException) -> bool:
    """Whether another attempt of the same candidate may well succeed."""
    if isinstance(error, (ConnectionError, TimeoutError)):
        return True
    if isinstance(error, OSError):
        return error.errno in TRANSIENT_ERRNOS
    if any(kind.__name__ in LOST for kind in type(error).__mro__):
        return True
    return not is_out_of_memory(error) and any(sign in str(error) for sign in POISONED_CONTEXT)


def is_out_of_memory(error: BaseException) -> bool:
    """Out of host or of GPU memory; torch's own exception is told by its name, so that torch need not be loaded."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in NO_MEMORY_LEFT)


def as_failure(error: BaseException, stage: str) -> Failure:
    """The failure that stands for an exception: its reason, and the last lines of its trace when it is no known one."""
    message = f"{type(error).__name__}: {error}"
    if isinstance(error, KNOWN) or is_out_of_memory(error):
        return Failure(_reason(error), stage, message)
    frames = traceback.extract_tb(error.__traceback__)[-TRACE_LINES:]
    where = " < ".join(f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}" for frame in reversed(frames))
    return Failure(_reason(error), stage, f"{message} (at {where})")


def _reason(error: BaseException) -> Reason:
    if is_out_of_memory(error):
        return "out_of_memory"
    if isinstance(error, EmptyOutput):
        return "empty_output"
    if isinstance(error, TrainingDiverged):
        return "not_finite"
    if isinstance(error, (UserError, NotImplementedError)):
        return "unsupported"
    if isinstance(error, ValueError) and "finite" in str(error):
        return "not_finite"
    return "error"
