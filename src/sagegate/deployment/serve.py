"""`sagegate serve`: a registered model behind /ping and /invocations on this machine, as in SageMaker's container.

The same rules as for a deployment: a rejected model, a changed artifact or a model that does not answer its own sample
as it did when it was trained is refused. `sagegate deploy local` does just that and ends.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

from sagegate import output
from sagegate.errors import SagegateError
from sagegate.registry import champion, lineage
from sagegate.registry.evaluation import read_object
from sagegate.registry.models import describe_model
from sagegate.session import Session

REQUESTS = 5
LIMIT_MILLISECONDS = 10_000.0


def serve(root: Path, session: Session, version: int | None, port: int, *, only_test: bool = False) -> None:
    """Serve a version (the champion by default) until interrupted; prints the address once it has passed its test."""
    from sagegate.deployment.smoke_test import sample_of, smoke, url_caller
    from sagegate.local.server import serve_folder

    version, artifact = _checked(session, version)
    sample = sample_of(artifact)

    def test(url: str) -> bool:
        result = smoke(url_caller(url), sample, LIMIT_MILLISECONDS, REQUESTS)
        if result.fault:
            raise SagegateError(f"model {version}: {result.line}")
        output.verdict(True, f"model {version}: {result.line}", None)
        return not only_test

    serve_folder(unpack(root, artifact, version), port, f"{session.names.group} model {version}", test)


def _checked(session: Session, version: int | None) -> tuple[int, bytes]:
    """The version to serve and its artifact; raises SagegateError for one that may not be served."""
    best = champion.current_champion(session)
    if version is None:
        if best is None:
            raise SagegateError(
                "no model is approved yet: `sagegate models` lists them, `sagegate approve` approves one"
            )
        version = int(best["version"])
    package = describe_model(session, version)
    if package["ModelApprovalStatus"] == "Rejected":
        raise SagegateError(f"model {version} is rejected: {package.get('ApprovalDescription', 'no reason was given')}")
    known = lineage.read_lineage(session, package)
    artifact = read_object(session, known.artifact_uri)
    if artifact is None:
        raise SagegateError(
            f"model {version}: its artifact {known.artifact_uri} does not exist: run the pipeline again"
        )
    digest = hashlib.sha256(artifact).hexdigest()
    approved = best["digest"] if best and best["version"] == version else None
    if any(other not in (None, digest) for other in (known.artifact_sha256, approved)):
        raise SagegateError(
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
