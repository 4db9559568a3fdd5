"""The artifact of an approved model, where the jobs of the pipeline cannot change it.

Jobs may write to `executions/`, so an artifact there is only as good as its last check. Approval copies it to
`models/SHA256/model.tar.gz`, where only the approve role may write, and adds an inference specification with this
address to the package; endpoints read that one. SageMaker adds inference specifications, but never changes one.
"""

from __future__ import annotations

import hashlib
from typing import Any

from sagegate.errors import SagegateError
from sagegate.files import Json, split_uri
from sagegate.session import Session, read_object

SPECIFICATION = "approved"  # its name; infra/endpoint.yaml names it too


def artifact_uri(package: Json) -> str:
    """Return where the artifact of a package (DescribeModelPackage's response) is: the copy if it was approved."""
    specification = _approved(package) or package["InferenceSpecification"]
    return str(specification["Containers"][0]["ModelDataUrl"])


def keep_artifact(session: Session, package: Json, content: bytes) -> Json:
    """Copy a package's artifact, let the package name the copy, and return the package as it is then.

    A copy that exists already is left. Raises SagegateError if S3 has another one afterwards, or if the package names
    another artifact as approved: whoever registers a package could say so.
    """
    digest = hashlib.sha256(content).hexdigest()
    uri = f"{session.names.artifacts}/models/{digest}/model.tar.gz"
    bucket, key = split_uri(uri)
    if read_object(session, uri) != content:
        session.s3.put_object(Bucket=bucket, Key=key, Body=content)
        if read_object(session, uri) != content:
            raise SagegateError(f"{uri} is not what was written there: find out who changed it, and try again")
    registered = package["InferenceSpecification"]
    # The ETag is that of the original.
    containers: list[dict[str, Any]] = [
        {name: value for name, value in container.items() if name != "ModelDataETag"} | {"ModelDataUrl": uri}
        for container in registered["Containers"]
    ]
    wanted = {**registered, "Name": SPECIFICATION, "Containers": containers}
    arn, found = package["ModelPackageArn"], _approved(package)
    if found is None:
        try:
            session.sagemaker.update_model_package(ModelPackageArn=arn, AdditionalInferenceSpecificationsToAdd=[wanted])
            found = wanted
        except session.sagemaker.exceptions.ClientError:
            found = _approved(session.sagemaker.describe_model_package(ModelPackageName=arn))
            if found is None:  # else another deployment was faster
                raise
    if [_essence(c) for c in found["Containers"]] != [_essence(c) for c in containers]:
        raise SagegateError(
            f"model {package['ModelPackageVersion']}: its inference specification `{SPECIFICATION}` is not that of"
            f" {uri}: find out who registered it, and run the pipeline again"
        )
    return package | {"AdditionalInferenceSpecifications": [found]}


def _approved(package: Json) -> Json | None:
    specifications: list[Json] = package.get("AdditionalInferenceSpecifications") or []
    return next((each for each in specifications if each["Name"] == SPECIFICATION), None)


def _essence(container: Json) -> tuple[Any, ...]:
    """Return what decides on how a container answers; SageMaker adds digests."""
    return container["Image"], container["ModelDataUrl"], container.get("Environment") or {}
