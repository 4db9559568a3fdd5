"""SageMaker's runtime: InvokeEndpoint and InvokeEndpointAsync reach the endpoint's containers; data capture.

Error texts and shapes are the runtime's: an unknown endpoint is a ValidationError, a container's own error a
ModelError (HTTP 424) with its status and message.
"""

from __future__ import annotations

import base64
import json
import threading
from time import perf_counter
from typing import Any
from uuid import uuid4

from moto.core.utils import utcnow
from moto.sagemakerruntime.responses import SageMakerRuntimeResponse

from . import alarms, objects
from .hosted import Endpoint
from .operations import ENDPOINTS
from .serving import Answer, Fleet

Response = tuple[int, dict[str, str], bytes]
SETUP = SageMakerRuntimeResponse.setup_class
MOTO = {name: getattr(SageMakerRuntimeResponse, name) for name in ("invoke_endpoint", "invoke_endpoint_async")}
NAMED = "X-Amzn-SageMaker-"


def _response(status: int, headers: dict[str, str], body: bytes) -> Response:
    return status, {**headers, "status": str(status)}, body  # moto takes the status from the headers


def _error(status: int, code: str, message: str, **more: Any) -> Response:
    headers = {"Content-Type": "application/json", "x-amzn-ErrorType": code}
    return _response(status, headers, json.dumps({"Message": message, **more}).encode())


class Capture:
    """Which requests of which fleet are captured: exactly the percentage, evenly spread."""

    def __init__(self) -> None:
        self._owed: dict[int, float] = {}
        self._lock = threading.Lock()

    def wants(self, fleet: Fleet) -> bool:
        """Whether this request is captured."""
        config = fleet.config.get("DataCaptureConfig") or {}
        if not config.get("EnableCapture"):
            return False
        with self._lock:
            owed = self._owed.get(id(fleet), 0.0) + config["InitialSamplingPercentage"] / 100
            self._owed[id(fleet)] = owed - (owed >= 1)
            return bool(owed >= 1)


CAPTURE = Capture()


def captured(config: dict[str, Any], sent: tuple[bytes, str], answer: Answer, stamp: str, identity: str) -> bytes:
    """One line of a capture file. Source: "Capture data from real-time endpoint" in the developer guide."""
    kinds = config.get("CaptureContentTypeHeader") or {}
    wanted = {option["CaptureMode"] for option in config["CaptureOptions"]}

    def part(content: bytes, kind: str, mode: str) -> dict[str, str]:
        plain = kind.partition(";")[0].strip().lower()
        encoding = "BASE64"
        for name, key in (("CSV", "CsvContentTypes"), ("JSON", "JsonContentTypes")):
            if plain in [k.lower() for k in kinds.get(key, [])]:
                encoding = name
        data = base64.b64encode(content).decode() if encoding == "BASE64" else content.decode()
        return {"observedContentType": kind, "mode": mode, "data": data, "encoding": encoding}

    data = {}
    if wanted & {"Input", "InputAndOutput"}:
        data["endpointInput"] = part(*sent, "INPUT")
    if wanted & {"Output", "InputAndOutput"}:
        data["endpointOutput"] = part(answer.body, answer.content_type, "OUTPUT")
    line = {"captureData": data, "eventMetadata": {"eventId": identity, "inferenceTime": stamp}, "eventVersion": "0"}
    return json.dumps(line).encode() + b"\n"


def _capture(endpoint: Endpoint, fleet: Fleet, variant: str, sent: tuple[bytes, str], answer: Answer) -> None:
    """Write one capture file, at DESTINATION/ENDPOINT/VARIANT/yyyy/mm/dd/hh/."""
    config, now, identity = fleet.config["DataCaptureConfig"], utcnow(), str(uuid4())
    line = captured(config, sent, answer, now.strftime("%Y-%m-%dT%H:%M:%SZ"), identity)
    folder = f"{config['DestinationS3Uri'].rstrip('/')}/{endpoint.name}/{variant}"
    objects.write(f"{folder}/{now:%Y/%m/%d/%H}/{now:%M-%S-%f}-{identity[:8]}.jsonl", line)


def invoke(endpoint: Endpoint, body: bytes, headers: dict[str, str], target: str | None) -> tuple[str, Answer] | None:
    """Ask the endpoint: the variant that answered and its answer; None if the endpoint does not serve."""
    fleet = endpoint.enter()
    if fleet is None:
        return None
    try:
        variant = fleet.choose(target)
        if variant not in fleet.containers:
            return None
        started = perf_counter()
        answer = fleet.containers[variant].invoke(body, headers)
        spent = (perf_counter() - started) * 1e6
        alarms.record(endpoint.account, endpoint.region, endpoint.name, variant, answer.status, spent)
        if answer.status < 400 and CAPTURE.wants(fleet):
            _capture(endpoint, fleet, variant, (body, headers["Content-Type"]), answer)
        return variant, answer
    finally:
        fleet.leave()


def failure(endpoint: Endpoint, answer: Answer) -> tuple[str, str]:
    """SageMaker's message about a container's error, and the container's own."""
    side = "client" if answer.status < 500 else "server"
    told = answer.body.decode(errors="replace")
    log = f"https://{endpoint.region}.console.aws.amazon.com/cloudwatch/home?region={endpoint.region}"
    log += f"#logEventViewer:group=/aws/sagemaker/Endpoints/{endpoint.name} in account {endpoint.account}"
    return f'Received {side} error ({answer.status}) from primary with message "{told}". See {log} for details.', told


class Runtime(SageMakerRuntimeResponse):
    """The operations, to be put on moto's class."""

    def invoke_endpoint(self) -> Response:
        """The container's answer, or a ModelError."""
        name = self.path.split("/")[2]
        endpoint = ENDPOINTS.find(self.current_account, self.region, name)
        absent = _error(400, "ValidationError", f"Endpoint {name} of account {self.current_account} not found.")
        if endpoint is None:
            return absent
        if getattr(endpoint.record, "async_inference_config", None):
            return _error(400, "ValidationError", f"Endpoint {name} is asynchronous: call InvokeEndpointAsync.")
        headers = {"Content-Type": self.headers.get("Content-Type") or "application/octet-stream"}
        headers["Accept"] = self.headers.get("Accept") or "*/*"
        if attributes := self.headers.get(f"{NAMED}Custom-Attributes"):
            headers[f"{NAMED}Custom-Attributes"] = attributes
        answered = invoke(endpoint, self.raw_body or b"", headers, self.headers.get(f"{NAMED}Target-Variant"))
        if answered is None:
            return absent
        variant, answer = answered
        if answer.status >= 400:
            message, told = failure(endpoint, answer)
            group = f"/aws/sagemaker/Endpoints/{name}"
            arn = f"arn:aws:logs:{self.region}:{self.current_account}:log-group:{group}"
            more = {"OriginalStatusCode": answer.status, "OriginalMessage": told, "LogStreamArn": arn}
            return _error(424, "ModelError", message, **more)
        shown = {"Content-Type": answer.content_type, "x-Amzn-Invoked-Production-Variant": variant}
        if answer.attributes:
            shown[f"{NAMED}Custom-Attributes"] = answer.attributes
        return _response(200, shown, answer.body)

    def invoke_endpoint_async(self) -> Response:
        """Accepted: the answer, or the failure, is written to S3 later."""
        name = self.path.split("/")[2]
        endpoint = ENDPOINTS.find(self.current_account, self.region, name)
        if endpoint is None or endpoint.blue is None:
            return _error(400, "ValidationError", f"Endpoint {name} of account {self.current_account} not found.")
        config = getattr(endpoint.record, "async_inference_config", None)
        if not config:
            return _error(
                400, "ValidationError", f"Endpoint {name} is not asynchronous: it has no AsyncInferenceConfig."
            )
        identity, output = str(uuid4()), config["OutputConfig"]
        source = self.headers.get(f"{NAMED}InputLocation")
        target = f"{output['S3OutputPath'].rstrip('/')}/{identity}.out"
        failed = f"{output.get('S3FailurePath', output['S3OutputPath']).rstrip('/')}/{identity}-error.out"
        headers = {"Content-Type": self.headers.get(f"{NAMED}Content-Type") or "application/octet-stream"}
        headers["Accept"] = self.headers.get(f"{NAMED}Accept") or "*/*"
        ENDPOINTS.go(_answer_later, endpoint, source or self.raw_body, headers, target, failed)
        told = {"InferenceId": self.headers.get(f"{NAMED}Inference-Id") or identity}
        places = {f"{NAMED}OutputLocation": target, f"{NAMED}FailureLocation": failed}
        return _response(202, {"Content-Type": "application/json", **places}, json.dumps(told).encode())


def _answer_later(endpoint: Endpoint, source: str | bytes, headers: dict[str, str], target: str, failed: str) -> None:
    try:
        body = source if isinstance(source, bytes) else objects.read(source)
    except objects.NoSuchObject as error:
        objects.write(failed, str(error).encode())
        return
    answered = invoke(endpoint, body, headers, None)
    if answered is None:
        objects.write(failed, b"The endpoint was deleted.")
    elif answered[1].status >= 400:
        objects.write(failed, failure(endpoint, answered[1])[0].encode())
    else:
        objects.write(target, answered[1].body)


def _setup(
    self: SageMakerRuntimeResponse, request: Any, full_url: str, headers: Any, use_raw_body: bool = True
) -> None:
    SETUP(self, request, full_url, headers, use_raw_body=True)  # a body may be any bytes


def install() -> None:
    """Put the operations in the place of moto's."""
    SageMakerRuntimeResponse.setup_class = _setup  # type: ignore[method-assign, assignment]
    for name in MOTO:
        setattr(SageMakerRuntimeResponse, name, Runtime.__dict__[name])


def close() -> None:
    """moto's operations are back."""
    SageMakerRuntimeResponse.setup_class = SETUP  # type: ignore[method-assign]
    for name, operation in MOTO.items():
        setattr(SageMakerRuntimeResponse, name, operation)
