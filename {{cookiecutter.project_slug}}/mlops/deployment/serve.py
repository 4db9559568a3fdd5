"""`mlops serve`: a registered model behind /ping and /invocations on this machine, as in SageMaker's container.

The same rules as for a deployment: a rejected model, a changed artifact or a model that does not answer its own sample
as it did when it was trained is refused. `mlops deploy local` does just that and ends.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

from mlops import show
from mlops.aws import Door
from mlops.errors import MlopsError
from mlops.evidence import object_bytes
from mlops.registry import champion, lineage
from mlops.registry.models import describe

REQUESTS = 5
LIMIT_MILLISECONDS = 10_000.0


def serve(root: Path, door: Door, version: int | None, port: int, *, only_test: bool = False) -> None:
    """Serve a version (the champion by default) until interrupted; prints the address once it has passed its test."""
    from mlops.deployment.invocations import url_caller
    from mlops.deployment.smoke import sample_of, smoke
    from mlops.local.serve import serve_folder

    version, artifact = _checked(door, version)
    sample = sample_of(artifact)

    def test(url: str) -> bool:
        result = smoke(url_caller(url), sample, LIMIT_MILLISECONDS, REQUESTS)
        if result.fault:
            raise MlopsError(f"model {version}: {result.line}")
        show.verdict(True, f"model {version}: {result.line}", None)
        return not only_test

    serve_folder(unpack(root, artifact, version), port, f"{door.names.group} model {version}", test)


def _checked(door: Door, version: int | None) -> tuple[int, bytes]:
    """The version to serve and its artifact; raises MlopsError for one that may not be served."""
    best = champion.current(door)
    if version is None:
        if best is None:
            raise MlopsError("no model is approved yet: `mlops models` lists them, `mlops approve` approves one")
        version = int(best["version"])
    package = describe(door, version)
    if package["ModelApprovalStatus"] == "Rejected":
        raise MlopsError(f"model {version} is rejected: {package.get('ApprovalDescription', 'no reason was given')}")
    known = lineage.of_package(door, package)
    artifact = object_bytes(door, known.artifact_uri)
    if artifact is None:
        raise MlopsError(f"model {version}: its artifact {known.artifact_uri} does not exist: run the pipeline again")
    digest = hashlib.sha256(artifact).hexdigest()
    approved = best["digest"] if best and best["version"] == version else None
    if any(other not in (None, digest) for other in (known.artifact_sha256, approved)):
        raise MlopsError(
            f"model {version}: {known.artifact_uri} was changed after it was evaluated: run the pipeline again"
        )
    return version, artifact


def unpack(root: Path, artifact: bytes, version: int) -> Path:
    """The artifact, unpacked below `.mlops/serve`."""
    folder = root / ".mlops" / "serve" / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(artifact)) as tar:
        tar.extractall(folder, filter="data")
    return folder
