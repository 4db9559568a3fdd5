"""The champion: the last approved model, at a fixed place in the bucket, so that every execution compares with it.

`PROJECT/champion/` holds `model.tar.gz` and `champion.json`, or only the marker `no-champion.json` before the first
approval, because a job's input must not be empty.
`sagegate models`, `approve`, `reject`: the versions of the model, and who may serve.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from sagegate import output
from sagegate.errors import SagegateError
from sagegate.files import split_uri
from sagegate.pipeline.parameters import started_by
from sagegate.registry import lineage
from sagegate.registry.deployments import deployed, journey
from sagegate.registry.evaluation import evaluation_of_package
from sagegate.session import Session, is_missing, pages

MODEL, RECORD, MARKER = "model.tar.gz", "champion.json", "no-champion.json"


def current(session: Session) -> dict[str, Any] | None:
    """The champion's record (version, model_package_arn, digest), or None."""
    bucket, prefix = _place(session)
    try:
        body = session.s3.get_object(Bucket=bucket, Key=f"{prefix}/{RECORD}")["Body"].read()
    except session.s3.exceptions.NoSuchKey:
        return None
    record: dict[str, Any] = json.loads(body)
    return record


def ensure_place(session: Session) -> None:
    """Put the marker where the champion will stand, if nothing is there."""
    bucket, prefix = _place(session)
    if not session.s3.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/").get("Contents"):
        note = {"champion": None, "note": "no model has been approved yet"}
        session.s3.put_object(Bucket=bucket, Key=f"{prefix}/{MARKER}", Body=json.dumps(note).encode())


def crown(session: Session, package: dict[str, Any]) -> None:
    """Make a model package the champion.

    The record is written last and holds the artifact's digest: evaluate refuses a record and an artifact that do not
    belong together, so an interruption in between is noticed, and approving again mends it.
    """
    bucket, prefix = _place(session)
    source = split_uri(package["InferenceSpecification"]["Containers"][0]["ModelDataUrl"])
    content = session.s3.get_object(Bucket=source[0], Key=source[1])["Body"].read()
    record = {
        "version": package["ModelPackageVersion"],
        "model_package_arn": package["ModelPackageArn"],
        "digest": hashlib.sha256(content).hexdigest(),
    }
    session.s3.put_object(Bucket=bucket, Key=f"{prefix}/{MODEL}", Body=content)
    session.s3.put_object(Bucket=bucket, Key=f"{prefix}/{RECORD}", Body=json.dumps(record, indent=1).encode())
    session.s3.delete_object(Bucket=bucket, Key=f"{prefix}/{MARKER}")


def dethrone(session: Session) -> None:
    """Leave the place without a champion."""
    bucket, prefix = _place(session)
    for key in (RECORD, MODEL):
        session.s3.delete_object(Bucket=bucket, Key=f"{prefix}/{key}")
    ensure_place(session)


def _place(session: Session) -> tuple[str, str]:
    return split_uri(f"{session.names.artifacts}/champion")


Json = dict[str, Any]


def list_models(root: Path, session: Session) -> None:
    """Every version, the newest first, with its metric, approval and stage; the champion is marked."""
    packages = packages_of(session)
    if not packages:
        output.line(f"no model is registered yet: `sagegate run{session.option}` trains one")
        return
    best = current(session)
    stages = deployed(root, session)
    rows = []
    for summary in packages:
        package = describe_model(session, summary["ModelPackageVersion"])
        evaluation = evaluation_of_package(session, package)
        gate = evaluation.gate if evaluation else {}
        candidate = gate.get("candidate")
        value = f"{gate.get('metric')} {candidate:.6g}" if isinstance(candidate, int | float) else ""
        is_champion = best and best["version"] == package["ModelPackageVersion"]
        created = f"{package['CreationTime']:%Y-%m-%d %H:%M}"
        status = package["ModelApprovalStatus"] + (" · champion" if is_champion else "")
        stage, commit = stages.get(package["ModelPackageArn"], ""), _metadata(package, "commit")[:12]
        rows.append([package["ModelPackageVersion"], status, stage, value, created, commit])
    output.table(["version", "approval", "deployed", "gate", "registered (UTC)", "commit"], rows)


def show_model(root: Path, session: Session, version: int) -> None:
    """One version, whole: endpoint, deployment, package, execution, commit, data; and its metrics."""
    package = describe_model(session, version)
    found = lineage.of_package(session, package)
    rows = [(f"model {version}", package["ModelPackageArn"]), ("approval", found.approval)]
    rows += [("note", package.get("ApprovalDescription", "")), *lineage.rows_for_people(found)]
    rows += journey(root, session, found.arn, found.artifact_sha256)
    output.pairs(rows)
    if found.evaluation:
        output.metrics_table(found.evaluation)


def approve(session: Session, version: int, reason: str) -> None:
    """Approve a version and make it the champion."""
    package = _decide(session, version, "Approved", reason)
    crown(session, package)
    output.verdict(True, f"model {version} approved: it is the champion now", f"sagegate serve{session.option}")


def reject(session: Session, version: int, reason: str) -> None:
    """Reject a version; if it was the champion, the newest one that is still approved takes its place.

    Not one that was approved to be deployed, and failed: its stage says so.
    """
    _decide(session, version, "Rejected", reason)
    best = current(session)
    if not best or best["version"] != version:
        output.verdict(True, f"model {version} rejected", None)
        return
    approved = [p["ModelPackageVersion"] for p in packages_of(session) if p["ModelApprovalStatus"] == "Approved"]
    described = (describe_model(session, number) for number in approved)
    heir = next((p for p in described if p.get("ModelLifeCycle", {}).get("StageStatus") != "Failed"), None)
    if heir:
        crown(session, heir)
        output.verdict(
            True, f"model {version} rejected: the champion is model {heir['ModelPackageVersion']} again", None
        )
    else:
        dethrone(session)
        output.verdict(True, f"model {version} rejected: there is no champion now", None)


def _decide(session: Session, version: int, status: str, reason: str) -> Json:
    """Set a version's approval; its description from before."""
    package = describe_model(session, version)
    session.sagemaker.update_model_package(
        ModelPackageArn=package["ModelPackageArn"], ModelApprovalStatus=status, ApprovalDescription=_signed(reason)
    )
    return package


def packages_of(session: Session) -> list[Json]:
    """The summaries of all versions, the newest first."""
    request = {"ModelPackageGroupName": session.names.group, "SortBy": "CreationTime", "SortOrder": "Descending"}
    try:
        return list(pages(session.sagemaker.list_model_packages, "ModelPackageSummaryList", **request))
    except Exception as error:
        if is_missing(session, error):  # the group comes with the first model
            return []
        raise


def describe_model(session: Session, version: int) -> Json:
    """One version; raises SagegateError if there is none."""
    try:
        found: Json = session.sagemaker.describe_model_package(ModelPackageName=session.names.package(version))
        return found
    except Exception as error:
        if not is_missing(session, error):
            raise
        known = ", ".join(str(p["ModelPackageVersion"]) for p in packages_of(session)) or "none"
        raise SagegateError(f"there is no model {version}: there are {known}") from None


def _metadata(package: Json, key: str) -> str:
    return str(package.get("CustomerMetadataProperties", {}).get(key, ""))


def _signed(reason: str) -> str:
    """The reason with who gave it; the field holds 1024 characters."""
    return f"{started_by()}: {reason}"[:1024]
