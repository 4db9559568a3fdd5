"""The code of a Lambda step's function, taken from moto's Lambda."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlops.definition import Step
from mlops.local.jobs import Context, JobFailed
from mlops.local.values import Scope, resolve
from moto.awslambda.models import lambda_backends


@contextmanager
def unpacked(step: Step, scope: Scope, context: Context) -> Iterator[Path]:
    """A folder with `infra/FUNCTION/handler.py`, as the local engine wants it. Raises JobFailed without a function.

    The function's handler must be `handler.handler`, which is what the engine calls.
    """
    arn = str(resolve(step.body.get("FunctionArn", ""), scope))
    name = arn.rpartition(":")[2]
    backend = lambda_backends[context.account_id][context.region]
    found = next((f for f in backend.list_functions() if f.function_name == name), None)
    if found is None:
        raise JobFailed(f"ClientError: Failed to invoke lambda: Function not found: {arn}")
    if found.handler != "handler.handler":
        raise JobFailed(f"the stand-in runs functions whose handler is handler.handler, not {found.handler}")
    with tempfile.TemporaryDirectory(dir=context.folder.parent) as folder:
        code = Path(folder) / "infra" / name
        code.mkdir(parents=True)
        with zipfile.ZipFile(io.BytesIO(found.code_bytes or b"")) as packed:
            packed.extractall(code)
        yield Path(folder)
