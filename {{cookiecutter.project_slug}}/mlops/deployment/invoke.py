"""`mlops invoke`: send a request to a served model, on this machine or behind an endpoint, and print its answer."""

from __future__ import annotations

import http.client
import io
import json
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

from mlops import show
from mlops.aws import Door
from mlops.errors import USAGE, MlopsError
from mlops.evidence import object_bytes
from mlops.files import split_uri
from mlops.registry import champion, deployments

TYPES = {".csv": "text/csv", ".json": "application/json"}


def invoke(door: Door, file: Path | None, url: str) -> None:
    """POST `file` (the champion's own sample request by default) to URL/invocations; prints the prediction."""
    body, kind = _request(file) if file else (_sample(door), TYPES[".json"])
    headers = {"Content-Type": kind, "Accept": "application/json"}
    if not url.startswith(("http://", "https://")):
        raise MlopsError(f"--url {url}: an address begins with http://, such as http://127.0.0.1:8080", USAGE)
    request = urllib.request.Request(f"{url.rstrip('/')}/invocations", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            show.console.print_json(answer.read().decode())
    except urllib.error.HTTPError as error:
        said = error.read().decode(errors="replace").strip()
        raise MlopsError(f"the model refused the request ({error.code}): {_message(said)}") from None
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise MlopsError(f"nothing answers at {url} ({reason}): start `mlops serve` in another terminal") from None


def invoke_endpoint(door: Door, file: Path | None) -> None:
    """Ask the environment's endpoint; by default the sample request of the model that was deployed last."""
    from mlops.deployment.invocations import endpoint_caller

    name = door.environment.name
    if door.environment.endpoint.mode == "batch":
        raise MlopsError(
            f"{name} has no endpoint (mode = batch): `mlops invoke --env {name} --batch s3://BUCKET/PREFIX`"
        )
    body, kind = _request(file) if file else (_deployed_sample(door), TYPES[".json"])
    answer = endpoint_caller(door)(body, kind)
    said = answer.body.decode(errors="replace").strip()
    if answer.status != 200:
        raise MlopsError(f"the model refused the request ({answer.status}): {_message(said)}")
    show.console.print_json(said)


def _request(file: Path) -> tuple[bytes, str]:
    """A file's content and content type."""
    if not file.is_file():
        raise MlopsError(f"{file}: there is no such file", USAGE)
    kind = TYPES.get(file.suffix.lower())
    if kind is None:
        raise MlopsError(f"{file.name}: a request is a .csv or a .json file", USAGE)
    return file.read_bytes(), kind


def _deployed_sample(door: Door) -> bytes:
    """The sample request in the artifact of the model that serves."""
    from mlops.deployment.smoke import sample_of
    from mlops.registry import deployment_records

    record = deployment_records.last_healthy(door)
    if record is None:
        raise MlopsError(nothing_deployed(door.environment.name))
    package = door.sagemaker.describe_model_package(ModelPackageName=record.model_package_arn)
    uri = package["InferenceSpecification"]["Containers"][0]["ModelDataUrl"]
    artifact = object_bytes(door, uri)
    if artifact is None:
        raise MlopsError(f"the deployed model's artifact {uri} does not exist any more: name a file with a request")
    return sample_of(artifact).request


def nothing_deployed(environment: str) -> str:
    """What to say of an environment without an endpoint."""
    if environment not in deployments.DEPLOYED:
        return f"{environment} has no endpoint: choose {' or '.join(deployments.DEPLOYED)}"
    return f"nothing is deployed to {environment}: `mlops deploy {environment}`"


def _sample(door: Door) -> bytes:
    """The sample request that train.py put into the champion's artifact."""
    if champion.current(door) is None:
        raise MlopsError(
            "no model is approved yet, so there is no sample request: name a file, `mlops invoke rows.csv`"
        )
    bucket, key = split_uri(f"{door.names.artifacts}/champion/{champion.MODEL}")
    content = door.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        member = tar.extractfile("sample_request.json")
        assert member is not None
        return member.read()


def _message(said: str) -> str:
    try:
        return str(json.loads(said)["error"])
    except (ValueError, KeyError, TypeError):
        return said[:500]
