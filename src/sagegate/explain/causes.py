"""The likely cause of a step's failure, and its fix, from the failure reason and the end of the step's log.

failures.toml holds the known failures.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from sagegate.config import Environment
from sagegate.files import Json
from sagegate.names import Names
from sagegate.pipeline.definition import hyperparameters_of, training_requests

FRAME = re.compile(r'^\s+File "(?P<path>[^"]+)", line (?P<line>\d+)(?:, in (?P<function>.+))?$')
EXCEPTION = re.compile(
    r"^[A-Za-z_][\w.]*(?:: .*)?$"
)  # `KeyError: 'x'`, `xgboost.core.XGBoostError: ...`, `MemoryError`
# The folders of a step's code package in script mode and in processing jobs, on AWS and locally.
OWN_FILE = re.compile(r"/opt/ml/(?:code|processing/input/code)/(?P<name>[^/]+)$")
ROLE = re.compile(r"(?:assumed-role|:role)/(?:[\w+=,.@-]+/)*?(?P<name>[\w+=,.@-]+?)(?=[/'\"\s:;,]|\.\s|\.?$)")
EXIT_CODE = re.compile(r"\(exit code -?\d+(?: on \S+)?\)$|^ExitCode \d+$|, exit code: \d+$", re.MULTILINE)
# Lines that the containers' launcher prints after a script's last line.
LAUNCHER = re.compile(
    r"ExecuteUserScriptError|Reporting training FAILURE|^(?:ExitCode|Command) |^ErrorMessage|^\s*\"?$"
)
LAST_LINES = 15


@dataclass(frozen=True)
class Case:
    """A failed step: its description (boto3), its body in the definition, its failure reason and last log lines."""

    step: Json
    body: Json
    reason: str
    log: list[str]
    environment: Environment
    names: Names
    execution: str


@dataclass(frozen=True)
class Diagnosis:
    """The kind of failure in failures.toml, the likely cause, and the fix."""

    kind: str
    cause: str
    fix: str


@dataclass(frozen=True)
class Traceback:
    """A traceback in a log: its exception line, its last frame in `model/`, and the index of its last line.

    `frame` reads `model/train.py, line 3, in main`. It is empty if no frame is in the project's own code.
    """

    exception: str
    frame: str
    end: int


def diagnose(case: Case) -> Diagnosis:
    """Return the likely cause and its fix; the kind is `unknown` if no known failure matches."""
    retry = f"`sagegate run{_option(case)} --retry {case.execution}`"
    if "Fail" in case.step.get("Metadata", {}):
        return _fail_step(case)
    if case.step.get("StepStatus") == "Stopped":
        cause = "nothing failed here: someone stopped the execution, or another step failed"
        return Diagnosis("stopped", cause, f"{retry} continues where it stopped")
    failures = tomllib.loads(Path(__file__).with_name("failures.toml").read_text(encoding="utf-8"))["failure"]
    # SageMaker's own reason is the most exact. A script's error is at the end of its log.
    for text, in_log in ((case.reason, False), (_log_end(case.log), True)):
        for failure in failures:
            if in_log and not failure.get("in_log", True):
                continue
            patterns = failure["pattern"]
            pattern = patterns if isinstance(patterns, str) else "|".join(patterns)
            match = re.search(pattern, text, re.DOTALL | re.MULTILINE)
            if match:
                groups = {name: value.strip() for name, value in match.groupdict().items() if value}
                facts = _facts(case) | {"retry": retry} | failure.get("defaults", {}) | groups
                cause, fix = (" ".join(failure[key].format_map(facts).split()) for key in ("cause", "fix"))
                return Diagnosis(failure["kind"], cause, fix)
    return _script_failure(case) or Diagnosis("unknown", "unknown", "read the reason and the log, and follow the links")


def decisive_traceback(log: list[str]) -> Traceback | None:
    """Return the last traceback with a frame in the project's own code, else the last traceback, else None.

    SageMaker's containers print a traceback of their own after the script's.
    """
    tracebacks = []
    for start in (index for index, line in enumerate(log) if line.strip() == "Traceback (most recent call last):"):
        frame = ""
        for index, line in enumerate(log[start + 1 :], start + 1):
            match = FRAME.match(line)
            own = OWN_FILE.search(match["path"]) if match else None
            if match and own:
                inside = f", in {match['function']}" if match["function"] not in (None, "<module>") else ""
                frame = f"model/{own['name']}, line {match['line']}{inside}"
            if line[:1].strip():  # the first line that is not indented is the exception
                if EXCEPTION.match(line):
                    tracebacks.append(Traceback(line.strip(), frame, index))
                break
    return next((t for t in reversed(tracebacks) if t.frame), tracebacks[-1] if tracebacks else None)


def _log_end(log: list[str]) -> str:
    """Return the decisive exception and what follows it, or the last lines if there is none."""
    traceback = decisive_traceback(log)
    rest = log[traceback.end + 1 :] if traceback and traceback.frame else log
    lines = [line for line in rest if line.strip()][-LAST_LINES:]
    return "\n".join([traceback.exception, *lines] if traceback else lines)


def _option(case: Case) -> str:
    return "" if case.environment.is_local else f" --env {case.environment.name}"


def _facts(case: Case) -> dict[str, str]:
    """Return what the texts of failures.toml may name."""
    # The table of environments/*.toml that sets the step's instances. A step that never started has no body.
    kind, reason = str(case.body.get("Type", "")), case.reason.lower()
    is_training = kind in ("Training", "Tuning") or "TrainingJob" in case.step.get("Metadata", {})
    if not kind and "training" in reason and "processing" not in reason:
        is_training = True
    section = "training" if is_training else "processing"
    resources = case.environment.training if is_training else case.environment.processing

    file, bootstrap = f"environments/{case.environment.name}.toml", f"`sagegate bootstrap{_option(case)}`"
    role = ROLE.search(case.reason) or ROLE.search("\n".join(case.log))
    traceback = decisive_traceback(case.log)
    facts = {
        "step": str(case.step.get("StepName", "the pipeline")),
        "script": _script_of(case.body),
        "at": f", at {traceback.frame}" if traceback and traceback.frame else "",
        "file": file,
        "section": section,
        "instance_type": resources.instance_type,
        "limit": str(case.environment.limits.max_runtime_in_seconds),
        "machine": f"an {resources.instance_type}",
        "more_memory": f"choose an instance_type with more memory under [{section}] in {file}",
        "more_disk": f"raise volume_size_in_gb under [{section}] in {file}, now {resources.volume_size_in_gb}",
        "role": role["name"] if role else case.names.role.rpartition("/")[2],
        "region": case.environment.region,
        "bucket": case.names.bucket,
        "env": _option(case),
        "run": f"`sagegate run{_option(case)}`",
        "allow": f"add it to that role in infra/platform.yaml and deploy it with {bootstrap}",
        "allow_bucket": "the role needs s3:GetObject, s3:PutObject and s3:ListBucket. A bucket other than"
        f" {case.names.bucket} must be named in infra/platform.yaml and must allow the role in its own policy."
        f" {bootstrap} deploys it",
    }
    if case.environment.is_local:
        facts["machine"] = "your machine"
        facts["more_memory"] = "free memory, or use fewer rows"
        facts["more_disk"] = "free space on your disk"
    return facts


def _script_of(body: Json) -> str:
    """Return the script of `model/` that a step runs, as its definition names it."""
    arguments = body.get("Arguments") or {}
    entrypoint = (arguments.get("AppSpecification") or {}).get("ContainerEntrypoint") or []
    requests = training_requests(str(body.get("Type")), arguments)
    programs = [hyperparameters_of(request).get("sagemaker_program") for request in requests]
    scripts = [str(part) for part in [*entrypoint, *programs] if str(part).endswith(".py")]
    return f"model/{scripts[0].rpartition('/')[2]}" if scripts else "the step's script"


def _fail_step(case: Case) -> Diagnosis:
    message = str(case.step["Metadata"]["Fail"].get("ErrorMessage") or case.reason)
    if "rejected" not in message.lower():
        cause = f"the pipeline ended itself in step {case.step.get('StepName')}: {message}"
        return Diagnosis("fail-step", cause, "check the condition that leads to this step in pipeline/pipeline.py")
    fix = (
        f"improve the model or its data; `sagegate models{_option(case)} --compare` compares executions. If the gate is"
        " too strict, change threshold or min_improvement under [gate] in mlops.toml"
    )
    return Diagnosis("gate", f"nothing is broken: the gate rejected the model. {message}", fix)


def _script_failure(case: Case) -> Diagnosis | None:
    """Return the diagnosis of a script that raised an exception, or printed a message and exited with an error."""
    script, traceback = _script_of(case.body), decisive_traceback(case.log)
    if traceback:
        where = traceback.frame or f"outside model/, called by {script}"
        fix = f"correct {traceback.frame or script}; `sagegate run` tries it locally, in seconds"
        return Diagnosis("script", f"{traceback.exception}, raised at {where}", fix)
    if not EXIT_CODE.search(case.reason) and not case.reason.startswith("AlgorithmError"):
        return None
    lines = [line.strip() for line in case.log if line.strip() and not LAUNCHER.search(line)]
    message = lines[-1] if lines else EXIT_CODE.sub("", case.reason).strip()
    if message in ("", "no message") or "See job logs" in message:
        return None
    fix = f"correct what the message names; its text is in {script} or in a module that {script} imports"
    return Diagnosis("script-message", f"{script} exited with an error: {message}", fix)
