"""A Lambda step on this machine: the function's handler file runs in a process of its own.

The function NAME of the project is `infra/NAME/handler.py` (the name may carry the project's as a prefix); its
`handler(event, context)` gets the step's arguments and gives the outputs that the step declares. Source: "Lambda step"
in the SageMaker developer guide.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from sagegate.local import jobs
from sagegate.local.jobs import Context, Host, JobFailed
from sagegate.local.references import Scope, resolve
from sagegate.pipeline.definition import Step

Json = dict[str, Any]
CALL = Path(__file__).with_name("function_process.py")
SECONDS = 600  # SageMaker gives a Lambda step ten minutes
KINDS: dict[str, Any] = {"String": str, "Integer": int, "Float": (int, float), "Boolean": bool}


def invoke(step: Step, event: Json, scope: Scope, context: Context) -> tuple[str, Json]:
    """Call the step's function: its ARN and its outputs by name. Raises JobFailed or JobStopped."""
    arn = str(resolve(step.body.get("FunctionArn", ""), scope))
    file = _handler(context.root, arn.rpartition(":")[2])
    host = Host("algo-1", context.folder / "opt" / "ml")
    host.opt_ml.mkdir(parents=True)
    (host.opt_ml / "event.json").write_text(json.dumps(event, default=str))
    # Not a fork of the zygote, as jobs are: a function needs none of the libraries that the zygote is there to hold.
    site_packages = [path for path in sys.path if path.endswith("-packages")]
    files = [str(file), "/opt/ml/event.json", "/opt/ml/answer.json"]
    argv = [sys.executable, "-I", "-S", str(CALL), *files, *site_packages]
    environment = {"AWS_REGION": context.region, "AWS_LAMBDA_FUNCTION_NAME": arn.rpartition(":")[2]}
    jobs.run_hosts([host], argv, lambda _: environment, context, SECONDS, "failure")
    answer = json.loads((host.opt_ml / "answer.json").read_text())
    outputs = {}
    for declared in step.body.get("OutputParameters") or []:
        name, kind = declared["OutputName"], declared["OutputType"]
        if not isinstance(answer, dict) or name not in answer:
            raise JobFailed(f"{file.name}: the handler's answer has no {name!r}, which the step declares as an output")
        if not isinstance(answer[name], KINDS[kind]):
            raise JobFailed(f"{file.name}: output {name!r} is {answer[name]!r}, and the step declares {kind}")
        outputs[name] = answer[name]
    return arn, outputs


def _handler(root: Path, function: str) -> Path:
    folders = [folder for folder in (root / "infra").glob("*") if (folder / "handler.py").is_file()]
    for folder in folders:
        if function == folder.name or function.endswith(f"-{folder.name}"):
            return folder / "handler.py"
    raise JobFailed(f"function {function!r} has no handler here: put it into infra/{function}/handler.py")
