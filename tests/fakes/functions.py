"""The code of a Lambda step's function, taken from moto's Lambda."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moto.awslambda.models import lambda_backends

from sagegate.local.jobs import Context, JobFailed
from sagegate.local.references import Scope, resolve
from sagegate.pipeline.definition import Step


@contextmanager
def unpacked(step: Step, scope: Scope, context: Context) -> Iterator[Path]:
    """A folder with `infra/FUNCTION/handler.py`, as the local engine wants it. Raises JobFailed without a function.

    The engine calls `handler.handler`: a function with another one, such as CloudFormation's inline `index.handler`,
    gets a file that leads there.
    """
    arn = str(resolve(step.body.get("FunctionArn", ""), scope))
    name = arn.rpartition(":")[2]
    backend = lambda_backends[context.account_id][context.region]
    found = next((f for f in backend.list_functions() if f.function_name == name), None)
    if found is None:
        raise JobFailed(f"ClientError: Failed to invoke lambda: Function not found: {arn}")
    with tempfile.TemporaryDirectory(dir=context.folder.parent) as folder:
        code = Path(folder) / "infra" / name
        code.mkdir(parents=True)
        with zipfile.ZipFile(io.BytesIO(found.code_bytes or b"")) as packed:
            packed.extractall(code)
        module, _, function = str(found.handler).rpartition(".")
        if (module, function) != ("handler", "handler"):
            (code / "handler.py").write_text(f"from {module} import {function} as handler\n", encoding="utf-8")
        yield Path(folder)
