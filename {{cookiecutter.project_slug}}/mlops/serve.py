"""`mlops serve`: a registered model behind /ping and /invocations on this machine, as in SageMaker's container."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from mlops import champion
from mlops.aws import Door
from mlops.errors import MlopsError
from mlops.local.store import split_uri
from mlops.models import describe


def serve(root: Path, door: Door, version: int | None, port: int) -> None:
    """Serve a version (the champion by default) until interrupted; prints the address once it answers."""
    if version is None:
        best = champion.current(door)
        if best is None:
            raise MlopsError("no model is approved yet: `mlops models` lists them, `mlops approve` approves one")
        version = int(best["version"])
    package = describe(door, version)
    if package["ModelApprovalStatus"] == "Rejected":
        raise MlopsError(f"model {version} is rejected: {package.get('ApprovalDescription', 'no reason was given')}")
    from mlops.local.serve import serve_folder

    folder = unpack(door, root, package["InferenceSpecification"]["Containers"][0]["ModelDataUrl"], version)
    serve_folder(folder, port, f"{door.names.group} model {version}")


def unpack(door: Door, root: Path, uri: str, version: int) -> Path:
    """The artifact at `uri`, unpacked below `.mlops/serve`."""
    bucket, key = split_uri(uri)
    content = door.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    folder = root / ".mlops" / "serve" / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        tar.extractall(folder, filter="data")
    return folder
