"""`sagegate serve`: serve a registered model locally, behind /ping and /invocations like SageMaker's container.

The checks are those of a deployment: the model is not rejected, its artifact is unchanged, and it answers its own
sample as it did after training. `sagegate deploy local` runs the checks and stops.
"""

from __future__ import annotations

import hashlib
import io
import tarfile

from sagegate import output
from sagegate.deployment.smoke_test import SmokeTestFailed, read_sample, run_smoke_test, url_invoker
from sagegate.errors import SagegateError
from sagegate.registry import champion, lineage
from sagegate.registry.models import describe_model
from sagegate.session import Session, read_object

REQUESTS = 5
MAX_MEDIAN_MILLISECONDS = 10_000.0


def serve(session: Session, version: int | None, port: int, *, only_test: bool = False) -> None:
    """Test and serve a version, by default the champion, until interrupted."""
    from sagegate.local.server import serve_folder

    version, artifact = _read_model(session, version)
    sample = read_sample(artifact)
    folder = session.root / ".mlops" / "serve" / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(artifact)) as tar:
        tar.extractall(folder, filter="data")

    def test(url: str) -> bool:
        try:
            result = run_smoke_test(url_invoker(url), sample, MAX_MEDIAN_MILLISECONDS, REQUESTS)
        except SmokeTestFailed as error:
            raise SagegateError(f"model {version}: {error}") from None
        output.verdict(True, f"model {version}: {result}", None)
        return not only_test

    serve_folder(folder, port, f"{session.names.group} model {version}", test)


def _read_model(session: Session, version: int | None) -> tuple[int, bytes]:
    """Return the version to serve and its artifact. Raises SagegateError if the model may not be served."""
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
