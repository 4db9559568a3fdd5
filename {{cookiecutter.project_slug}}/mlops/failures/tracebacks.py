"""What a job's log says about its end: the last traceback that goes through the repository's own code.

Pure: lines in, facts out. SageMaker's containers print a traceback of their own after the script's, so the last one in
the log is often not the one that matters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

START = "Traceback (most recent call last):"
FRAME = re.compile(r'^\s+File "(?P<path>[^"]+)", line (?P<line>\d+)(?:, in (?P<function>.+))?$')
# The raised exception: `KeyError: 'x'`, `xgboost.core.XGBoostError: ...`, `MemoryError`.
RAISED = re.compile(r"^(?P<type>[A-Za-z_][\w.]*)(?:: (?P<text>.*))?$")
# Where script mode and processing jobs have a step's code package, on AWS and on this machine.
OWN = re.compile(r"/opt/ml/(?:code|processing/input/code)/(?P<name>[^/]+)$")
LAST_LINES = 15


@dataclass(frozen=True)
class Traceback:
    """One traceback: its exception's last line, and the last frame in `model/` as `model/train.py, line 3, in main`.

    `frame` is empty for a traceback that does not go through this repository's code; `end` is its last line's index.
    """

    exception: str
    frame: str
    end: int


def tracebacks(log: list[str]) -> list[Traceback]:
    """The tracebacks of a log, the first first."""
    found = []
    for start in (index for index, line in enumerate(log) if line.strip() == START):
        frame, exception, end = "", "", start
        for index, line in enumerate(log[start + 1 :], start + 1):
            match = FRAME.match(line)
            own = OWN.search(match["path"]) if match else None
            if match and own:
                inside = f", in {match['function']}" if match["function"] not in (None, "<module>") else ""
                frame = f"model/{own['name']}, line {match['line']}{inside}"
            if line[:1].strip():  # the first line that is not indented says what was raised
                exception, end = (line.strip() if RAISED.match(line) else ""), index
                break
        if exception:
            found.append(Traceback(exception, frame, end))
    return found


def decisive(log: list[str]) -> Traceback | None:
    """The traceback that tells why a job ended: the last through own code, else the last."""
    found = tracebacks(log)
    own = [traceback for traceback in found if traceback.frame]
    candidates = own or found
    return candidates[-1] if candidates else None


def ending(log: list[str]) -> str:
    """The part of a log in which its end is told: the decisive exception and what follows it, else the last lines."""
    traceback = decisive(log)
    lines = [traceback.exception] if traceback else []
    rest = log[traceback.end + 1 :] if traceback and traceback.frame else log
    return "\n".join([*lines, *[line for line in rest if line.strip()][-LAST_LINES:]])
