"""SageMaker's runtime: InvokeEndpoint and InvokeEndpointAsync reach the endpoint's container.

Error texts and shapes are the runtime's. An unknown endpoint is a ValidationError; a container's own error is a
ModelError (HTTP 424) with the container's status and message.
"""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

from moto.sagemakerruntime.responses import SageMakerRuntimeResponse

from fakes import storage
from fakes.containers import Answer
from fakes.endpoints import ENDPOINTS, Endpoint, run_in_thread

Response = tuple[int, dict[str, str], bytes]
HEADER = "X-Amzn-SageMaker-"
SETUP = SageMakerRuntimeResponse.setup_class


def response(status: int, headers: dict[str, str], body: bytes) -> Response:
    """Return a response in moto's form, which takes the status from the headers."""
    return status, {**headers, "status": str(status)}, body


def error(status: int, code: str, message: str, **more: Any) -> Response:
    """Return an error in the form of the JSON protocol."""
    headers = {"Content-Type": "application/json", "x-amzn-ErrorType": code}
    return response(status, headers, json.dumps({"Message": message, **more}).encode())


def invoke(endpoint: Endpoint, body: bytes, headers: dict[str, str]) -> tuple[str, Answer] | None:
    """Return the variant that answered with its answer; None if the endpoint does not serve."""
    container = endpoint.enter()
    if container is None:
        return None
    try:
        return container.variant, container.invoke(body, headers)
    finally:
        container.leave()


def failure(endpoint: Endpoint, answer: Answer) -> str:
    """Return SageMaker's message about a container's error."""
    side = "client" if answer.status < 500 else "server"
    log = f"https://{endpoint.region}.console.aws.amazon.com/cloudwatch/home?region={endpoint.region}"
    log += f"#logEventViewer:group=/aws/sagemaker/Endpoints/{endpoint.name} in account {endpoint.account}"
    message = answer.body.decode(errors="replace")
    return f'Received {side} error ({answer.status}) from primary with message "{message}". See {log} for details.'


class Operations(SageMakerRuntimeResponse):
    """Operations that replace those of moto's class."""

    def _find(self) -> Endpoint | None:
        return ENDPOINTS.get((self.current_account, self.region, self.path.split("/")[2]))

    def _not_found(self) -> Response:
        name = self.path.split("/")[2]
        return error(400, "ValidationError", f"Endpoint {name} of account {self.current_account} not found.")

    def invoke_endpoint(self) -> Response:
        """InvokeEndpoint."""
        endpoint = self._find()
        if endpoint is None:
            return self._not_found()
        if getattr(endpoint.record, "async_inference_config", None):
            message = f"Endpoint {endpoint.name} is asynchronous: call InvokeEndpointAsync."
            return error(400, "ValidationError", message)
        headers = {"Content-Type": self.headers.get("Content-Type") or "application/octet-stream"}
        headers["Accept"] = self.headers.get("Accept") or "*/*"
        result = invoke(endpoint, self.raw_body or b"", headers)
        if result is None:
            return self._not_found()
        variant, answer = result
        if answer.status >= 400:
            group = f"/aws/sagemaker/Endpoints/{endpoint.name}"
            more = {
                "OriginalStatusCode": answer.status,
                "OriginalMessage": answer.body.decode(errors="replace"),
                "LogStreamArn": f"arn:aws:logs:{self.region}:{self.current_account}:log-group:{group}",
            }
            return error(424, "ModelError", failure(endpoint, answer), **more)
        shown = {"Content-Type": answer.content_type, "x-Amzn-Invoked-Production-Variant": variant}
        return response(200, shown, answer.body)

    def invoke_endpoint_async(self) -> Response:
        """InvokeEndpointAsync: accept the request, and write the answer or the failure to S3 later."""
        endpoint = self._find()
        if endpoint is None or endpoint.blue is None:
            return self._not_found()
        identity, output = str(uuid4()), endpoint.record.async_inference_config["OutputConfig"]  # type: ignore[attr-defined]
        target = f"{output['S3OutputPath'].rstrip('/')}/{identity}.out"
        failed = f"{output.get('S3FailurePath', output['S3OutputPath']).rstrip('/')}/{identity}-error.out"
        headers = {"Content-Type": self.headers.get(f"{HEADER}Content-Type") or "application/octet-stream"}
        headers["Accept"] = self.headers.get(f"{HEADER}Accept") or "*/*"
        run_in_thread(answer_later, endpoint, self.headers[f"{HEADER}InputLocation"], headers, target, failed)
        locations = {f"{HEADER}OutputLocation": target, f"{HEADER}FailureLocation": failed}
        answer = {"InferenceId": self.headers.get(f"{HEADER}Inference-Id") or identity}
        return response(202, {"Content-Type": "application/json", **locations}, json.dumps(answer).encode())


def answer_later(endpoint: Endpoint, source: str, headers: dict[str, str], target: str, failed: str) -> None:
    """Write the answer for the request at `source` to `target`, or an error to `failed`."""
    result = invoke(endpoint, storage.read(source), headers)
    if result is None:
        storage.write(failed, b"The endpoint was deleted.")
    elif result[1].status >= 400:
        storage.write(failed, failure(endpoint, result[1]).encode())
    else:
        storage.write(target, result[1].body)


def setup_class(self: Any, request: Any, full_url: str, headers: Any, use_raw_body: bool = True) -> None:
    """Set up a request with its body as bytes."""
    SETUP(self, request, full_url, headers, use_raw_body=True)


def install() -> None:
    """Patch moto."""
    SageMakerRuntimeResponse.setup_class = setup_class  # type: ignore[method-assign, assignment]
    for name in ("invoke_endpoint", "invoke_endpoint_async", "_find", "_not_found"):
        setattr(SageMakerRuntimeResponse, name, Operations.__dict__[name])
