"""Run a Lambda step locally: the function's handler file runs in a process of its own.

The function NAME is `infra/NAME/handler.py`; the project's name may come before NAME. Its `handler(event, context)`
gets the step's arguments and returns the outputs that the step declares. Source: "Lambda step" in the SageMaker
developer guide.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from sagegate.files import Json
from sagegate.local.jobs import Context, Host, JobFailed, run_hosts

PROCESS = Path(__file__).with_name("function_process.py")
LIMIT_SECONDS = 600  # SageMaker ends a Lambda step after ten minutes
OUTPUT_TYPES: dict[str, Any] = {"String": str, "Integer": int, "Float": (int, float), "Boolean": bool}


def invoke(arn: str, event: Json, declared_outputs: list[Json], context: Context) -> Json:
    """Call a function and return its outputs by name. Raises JobFailed or JobStopped."""
    name = arn.rpartition(":")[2]
    file = _handler_file(context.root, name)
    host = Host("algo-1", context.folder / "opt" / "ml")
    host.opt_ml.mkdir(parents=True)
    (host.opt_ml / "event.json").write_text(json.dumps(event, default=str))
    command = [sys.executable, str(PROCESS), str(file), "/opt/ml/event.json", "/opt/ml/answer.json"]
    environment = {"AWS_REGION": context.region, "AWS_LAMBDA_FUNCTION_NAME": name}
    run_hosts([host], command, lambda _: environment, context, LIMIT_SECONDS, "failure")
    answer = json.loads((host.opt_ml / "answer.json").read_text())
    outputs = {}
    for output in declared_outputs:
        key, kind = output["OutputName"], output["OutputType"]
        if not isinstance(answer, dict) or key not in answer:
            raise JobFailed(f"{file.name}: the handler's answer has no {key!r}, which the step declares as an output")
        if not isinstance(answer[key], OUTPUT_TYPES[kind]):
            raise JobFailed(f"{file.name}: output {key!r} is {answer[key]!r}, and the step declares {kind}")
        outputs[key] = answer[key]
    return outputs


def _handler_file(root: Path, function: str) -> Path:
    for file in (root / "infra").glob("*/handler.py"):
        if function == file.parent.name or function.endswith(f"-{file.parent.name}"):
            return file
    raise JobFailed(f"function {function!r} has no local handler: add infra/{function}/handler.py")
