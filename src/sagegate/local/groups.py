"""Process groups: every process of a job leads one, so that all that it started can be ended with it."""

from __future__ import annotations

import os
import signal
from contextlib import suppress


def end_group(leader: int) -> None:
    """End a process and all that it started, as far as they are still there; Windows has no groups, only the process.

    A group outlives its leader while it has members, and its number is not given to another process until then.
    """
    with suppress(ProcessLookupError, PermissionError):  # macOS forbids to signal a group that has but a dead leader
        os.killpg(leader, signal.SIGKILL) if hasattr(os, "killpg") else os.kill(leader, signal.SIGTERM)
