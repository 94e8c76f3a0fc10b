"""How the end of an attempt is told: from the runner's words to an ``Outcome``."""

from __future__ import annotations

import msgspec

from deferlite.model.execution import Ending, Outcome, error_result
from deferlite.sandbox.runner import Ended

_CARRIED = (Ending.RETURNED, Ending.RAISED, Ending.INTERNAL)
"""Endings whose frame carries the result or the error object; of the others the server knows what to say."""


def outcome(ended: Ended, max_duration: float, memory: int) -> Outcome:
    """``max_duration`` in seconds and ``memory`` in bytes are the limits that were in force."""
    try:
        ending = Ending(ended.ending)
        carried = _checked(ending, ended.payload) if ending in _CARRIED else None
    except ValueError as error:  # Also what msgspec raises.
        return raised(error_result("RuntimeError", f"its process forged its end: {error}"))
    result = carried if carried is not None else _error(ending, ended.memory_peak, max_duration, memory)
    return Outcome(ending=ending, result=result, cpu_time=ended.cpu_time, memory_peak=ended.memory_peak)


def ended_outside(ending: Ending, max_duration: float) -> Outcome:
    """The end of an attempt that had no process, or whose runner is gone."""
    return Outcome(ending=ending, result=_error(ending, 0, max_duration, 0))


def internal(reason: str) -> Outcome:
    return Outcome(ending=Ending.INTERNAL, result=error_result("InternalError", reason))


def error_text(error: bytes) -> str:
    """JSON text of an error object that came from a user's process, which may have forged it."""
    try:
        return _checked(Ending.RAISED, error)
    except ValueError:
        return error_result("RuntimeError", "its process forged its error")


class _ErrorObject(msgspec.Struct):
    name: str
    message: str
    stack: str = ""


def _checked(ending: Ending, payload: bytes) -> str:
    """Raises ValueError: not JSON, or of ``raised`` no error object."""
    # A Raw is checked without being made into objects.
    msgspec.json.decode(payload, type=msgspec.Raw if ending is Ending.RETURNED else _ErrorObject)
    return payload.decode()


def raised(error: str) -> Outcome:
    """``error`` is the JSON text of an error object."""
    return Outcome(ending=Ending.RAISED, result=error)


def _error(ending: Ending, used: int, max_duration: float, memory: int) -> str:
    if ending is Ending.TIMED_OUT:
        return error_result("TimeoutError", f"ran longer than its max_duration of {seconds(max_duration)}")
    if ending is Ending.OUT_OF_MEMORY:
        return error_result(
            "MemoryError",
            f"used {mebibytes(used)}, more than the {mebibytes(memory)} allowed by [run] memory",
        )
    if ending is Ending.ABORTED:
        return error_result("Aborted", "aborted on request")
    if ending is Ending.INTERRUPTED:
        return error_result("Interrupted", "interrupted by the stop of the server")
    return error_result("InternalError", f"ended as {ending}")


def seconds(duration: float) -> str:
    """Such as ``1 h 30 m``, ``2.5 s``."""
    minutes, rest = divmod(duration, 60)
    hours, minutes = divmod(int(minutes), 60)
    parts = [f"{hours} h" if hours else "", f"{minutes} m" if minutes else "", f"{round(rest, 3):g} s" if rest else ""]
    return " ".join(filter(None, parts)) or "0 s"


def mebibytes(size: int) -> str:
    return f"{size / 1048576:.0f} MiB" if size >= 10 * 1048576 else f"{size / 1048576:.1f} MiB"
