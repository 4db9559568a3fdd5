"""What a job's log says about its end: the last traceback that goes through the repository's own code.

Pure: lines in, facts out. SageMaker's containers print a traceback of their own after the script's, so the last one in
the log is often not the one that matters.
Why a step failed, and what to do: a table of the failures that SageMaker, S3, IAM and our own scripts report.

Pure: a step, its failure reason and its log in, a diagnosis out. The patterns are SageMaker's own texts ("Troubleshoot
errors" for processing and training in the developer guide, and failure reasons that users have reported); the first
that fits decides, so the special ones stand before the general ones.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sagegate.config import Environment
from sagegate.explain.rules import RULES, Rule
from sagegate.names import Names

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


Json = dict[str, Any]
ROLE = re.compile(r"(?:assumed-role|:role)/(?:[\w+=,.@-]+/)*?(?P<name>[\w+=,.@-]+?)(?=[/'\"\s:;,]|\.\s|\.?$)")
EXIT_CODE = re.compile(r"\(exit code -?\d+(?: on \S+)?\)$|^ExitCode \d+$|, exit code: \d+$", re.MULTILINE)
# What the containers' own launcher prints around a script's last words.
LAUNCHER = re.compile(
    r"ExecuteUserScriptError|Reporting training FAILURE|^(?:ExitCode|Command) |^ErrorMessage|^\s*\"?$"
)


@dataclass(frozen=True)
class Case:
    """A failed step: its record (boto3's), its body in the definition, its failure reason and its log's last lines."""

    step: Json
    body: Json
    reason: str
    log: list[str]
    environment: Environment
    names: Names
    execution: str


@dataclass(frozen=True)
class Diagnosis:
    """The name of the rule that fits, what probably happened, and what to do about it."""

    kind: str
    cause: str
    fix: str


def diagnose(case: Case) -> Diagnosis:
    """The likely cause; of kind `unknown` if no rule fits, for a guess would send the reader the wrong way."""
    if "Fail" in case.step.get("Metadata", {}):
        return _rejected(case)
    if case.step.get("StepStatus") == "Stopped":
        cause = "nothing failed here: somebody stopped the execution, or another step's failure ended it"
        return Diagnosis(
            "stopped", cause, f"`sagegate run{_where(case)} --retry {case.execution}` goes on where it was"
        )
    end = ending(case.log)
    # SageMaker's own reason says it best; a script's is in its log.
    for text, rules in ((case.reason, RULES), (end, [rule for rule in RULES if rule.in_log])):
        for rule in rules:
            match = rule.pattern.search(text)
            if match:
                return _filled(rule, match, case)
    return _script(case) or _unknown(case)


def _filled(rule: Rule, match: re.Match[str], case: Case) -> Diagnosis:
    given = {name: value.strip() for name, value in match.groupdict().items() if value}
    facts = _facts(case) | rule.defaults | given
    cause, fix = (" ".join(text.format_map(facts).split()) for text in (rule.cause, rule.fix))
    return Diagnosis(rule.kind, cause, fix)


def _facts(case: Case) -> dict[str, str]:
    """What the table's texts may name."""
    section = section_of(case)
    role = ROLE.search(case.reason) or ROLE.search("\n".join(case.log))
    resources: Any = getattr(case.environment, section)
    local = case.environment.is_local
    traceback = decisive(case.log)
    return {
        "step": str(case.step.get("StepName", "the pipeline")),
        "file": f"environments/{case.environment.name}.toml",
        "section": section,
        "instance_type": resources.instance_type,
        "volume": str(resources.volume_size_in_gb),
        "limit": str(case.environment.limits.max_runtime_in_seconds),
        "machine": "this machine" if local else f"an {resources.instance_type}",
        "larger": "free memory here, or use fewer rows" if local else _larger(case, section),
        "room": "make room on this machine's disk" if local else _room(case, section, resources.volume_size_in_gb),
        "role": role["name"] if role else case.names.role.rpartition("/")[2],
        "account": case.environment.account_id,
        "region": case.environment.region,
        "bucket": case.names.bucket,
        "env": _where(case),
        "retry": f"`sagegate run{_where(case)} --retry {case.execution}`",  # with the code and parameters that it had
        "run": f"`sagegate run{_where(case)}`",
        "frame": traceback.frame if traceback and traceback.frame else "",
        "at": f", at {traceback.frame}" if traceback and traceback.frame else "",
        "exception": traceback.exception if traceback else "",
        "script": script_of(case.body),
    }


def section_of(case: Case) -> str:
    """Which table of environments/*.toml the step's instances come from: `processing` or `training`."""
    kind, said = str(case.body.get("Type", "")), case.reason.lower()
    if kind in ("Training", "Tuning") or "TrainingJob" in case.step.get("Metadata", {}):
        return "training"
    return "training" if not kind and "training" in said and "processing" not in said else "processing"


def script_of(body: Json) -> str:
    """The script of `model/` that a step runs, as far as the definition says so."""
    arguments = body.get("Arguments") or {}
    entry = (arguments.get("AppSpecification") or {}).get("ContainerEntrypoint") or []
    program = (arguments.get("HyperParameters") or {}).get("sagemaker_program")
    named = [str(part) for part in [*entry, program] if str(part).endswith(".py")]
    return f"model/{named[0].rpartition('/')[2]}" if named else "the step's script"


def _where(case: Case) -> str:
    return "" if case.environment.is_local else f" --env {case.environment.name}"


def _larger(case: Case, section: str) -> str:
    return f"choose an instance_type with more memory under [{section}] in environments/{case.environment.name}.toml"


def _room(case: Case, section: str, volume: int) -> str:
    file = f"environments/{case.environment.name}.toml"
    return f"raise volume_size_in_gb under [{section}] in {file}, now {volume}"


def _rejected(case: Case) -> Diagnosis:
    said = str(case.step["Metadata"]["Fail"].get("ErrorMessage") or case.reason)
    if "rejected" not in said.lower():
        cause = f"the pipeline ended itself in step {case.step.get('StepName')}: {said}"
        return Diagnosis("fail-step", cause, "the condition that leads to this step is in pipeline/pipeline.py")
    cause = f"nothing is broken: the gate did not let the model pass. {said}"
    fix = (
        f"improve the model or its data; `sagegate models{_where(case)} --compare` sets the tries side by side. If the "
        "demand itself is wrong, change threshold or min_improvement under [gate] in mlops.toml"
    )
    return Diagnosis("gate", cause, fix)


def _script(case: Case) -> Diagnosis | None:
    """A script that ended by itself: an exception, or a last line and an exit code."""
    facts = _facts(case)
    if facts["exception"]:
        where = facts["frame"] or f"outside model/, called by {facts['script']}"
        fix = f"correct {facts['frame'] or facts['script']}; `sagegate run` tries it on this machine, in seconds"
        return Diagnosis("script", f"{facts['exception']}, raised at {where}", fix)
    said = last_words(case)
    if said is None:
        return None
    fix = f"what it says is to be corrected; the text stands in {facts['script']} or in a module that it imports"
    return Diagnosis("script-message", f"{facts['script']} ended itself: {said}", fix)


def last_words(case: Case) -> str | None:
    """The last line that a script with an exit code other than 0 printed."""
    if not EXIT_CODE.search(case.reason) and not case.reason.startswith("AlgorithmError"):
        return None
    lines = [line.strip() for line in case.log if line.strip() and not LAUNCHER.search(line)]
    if lines:
        return lines[-1]
    said = EXIT_CODE.sub("", case.reason).strip()
    return None if said in ("", "no message") or "See job logs" in said else said


def _unknown(case: Case) -> Diagnosis:
    cause = "not one that this command knows"
    return Diagnosis("unknown", cause, "read the reason and the log above; where else to look stands below")
