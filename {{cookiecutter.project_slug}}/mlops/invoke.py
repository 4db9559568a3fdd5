"""`mlops invoke`: send a request to a served model and print its answer."""

from __future__ import annotations

import io
import json
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

from mlops import champion, show
from mlops.aws import Door
from mlops.errors import USAGE, MlopsError
from mlops.local.store import split_uri

TYPES = {".csv": "text/csv", ".json": "application/json"}


def invoke(door: Door, file: Path | None, url: str) -> None:
    """POST `file` (the champion's own sample request by default) to URL/invocations; prints the prediction."""
    if file is None:
        name, body = "sample_request.json", _sample(door)
    else:
        if not file.is_file():
            raise MlopsError(f"{file}: there is no such file", USAGE)
        name, body = file.name, file.read_bytes()
    kind = TYPES.get(Path(name).suffix.lower())
    if kind is None:
        raise MlopsError(f"{name}: a request is a .csv or a .json file", USAGE)
    headers = {"Content-Type": kind, "Accept": "application/json"}
    request = urllib.request.Request(f"{url.rstrip('/')}/invocations", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            show.console.print_json(answer.read().decode())
    except urllib.error.HTTPError as error:
        said = error.read().decode(errors="replace").strip()
        raise MlopsError(f"the model refused the request ({error.code}): {_message(said)}") from None
    except (urllib.error.URLError, ConnectionError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise MlopsError(f"nothing answers at {url} ({reason}): start `mlops serve` in another terminal") from None


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
