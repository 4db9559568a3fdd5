"""What a rule of `mlops explain` is: a pattern, the cause it shows, the fix."""

from __future__ import annotations

import re
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Rule:
    """One kind of failure. `in_log` rules are looked for at the end of the log too, not only in SageMaker's reason."""

    kind: str
    pattern: re.Pattern[str]
    cause: str
    fix: str
    in_log: bool = True
    defaults: dict[str, str] = field(default_factory=dict)


def rule(kind: str, pattern: str, cause: str, fix: str, in_log: bool = True, **defaults: str) -> Rule:
    """A rule; `defaults` are for the pattern's groups that did not match."""
    return Rule(kind, re.compile(pattern, re.DOTALL | re.MULTILINE), cause, fix, in_log, defaults)
