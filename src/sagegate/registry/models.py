"""`sagegate models`, `approve` and `reject`: the registered versions of the model, and which of them may serve."""

from __future__ import annotations

from sagegate import output
from sagegate.errors import SagegateError, warn
from sagegate.files import Json
from sagegate.pipeline.parameters import started_by
from sagegate.registry.approval import keep_artifact
from sagegate.registry.champion import clear_champion, current_champion, ensure_marker, set_champion
from sagegate.registry.deployments import check_gate, stages
from sagegate.registry.evaluation import evaluation_of_package
from sagegate.registry.lineage import lineage_rows, read_artifact, read_lineage
from sagegate.session import Session, is_missing, paginate


def list_models(session: Session) -> None:
    """Print every version, the newest first: approval, environments, gate, overrides, time and commit."""
    packages = packages_of(session)
    if not packages:
        output.line(f"no model is registered yet: `sagegate run{session.option}` trains one")
        return
    try:
        champion = current_champion(session)
    except SagegateError as error:  # this list is where one looks for what to approve again
        warn(error)
        champion = None
    deployed = stages(session)
    rows: list[list[object]] = []
    for summary in packages:
        if summary["ModelApprovalStatus"] == "Damaged":  # local: its record cannot be read
            rows.append([summary["ModelPackageVersion"], "damaged", *[""] * 5])
            continue
        package = describe_model(session, summary["ModelPackageVersion"])
        evaluation = evaluation_of_package(session, package)
        metadata = package.get("CustomerMetadataProperties", {})
        overrides = metadata.get("overrides", "none")
        is_champion = champion and champion["version"] == package["ModelPackageVersion"]
        rows.append(
            [
                package["ModelPackageVersion"],
                package["ModelApprovalStatus"] + (" · champion" if is_champion else ""),
                deployed.get(package["ModelPackageArn"], ""),
                _gate_in_short(evaluation.gate if evaluation else {}),
                "" if overrides == "none" else overrides,
                f"{package['CreationTime']:%Y-%m-%d %H:%M}",
                str(metadata.get("commit", ""))[:12],
            ]
        )
    headings = ["version", "approval", "deployed", "gate", "overrides", "registered (UTC)", "commit"]
    shown = [index for index, name in enumerate(headings) if name != "overrides" or any(row[index] for row in rows)]
    output.table([headings[index] for index in shown], [[row[index] for index in shown] for row in rows])


def _gate_in_short(gate: Json) -> str:
    numbers = gate.get("candidate"), gate.get("threshold")
    if not all(isinstance(number, int | float) for number in numbers):
        return ""
    return f"{gate.get('metric')} {numbers[0]:.6g} (threshold {numbers[1]:.6g})"


def show_model(session: Session, version: int) -> None:
    """Print one version: approval, environments, lineage and metrics."""
    package = describe_model(session, version)
    lineage = read_lineage(session, package)
    rows = [
        (f"model {version}", package["ModelPackageArn"]),
        ("approval", lineage.approval),
        ("note", package.get("ApprovalDescription", "")),
        *lineage_rows(lineage),
        ("deployed", stages(session).get(lineage.arn, "")),
    ]
    output.pairs([(name, value) for name, value in rows if value])
    if lineage.evaluation:
        output.metrics_table(lineage.evaluation)


def approve(session: Session, version: int, reason: str) -> None:
    """Approve a version and make it the champion. Print its gate and what its run overrode.

    Raises SagegateError if its artifact is not the evaluated one, or the gate's numbers contradict each other.
    """
    with session.exclusive():
        package = describe_model(session, version)
        lineage = read_lineage(session, package)
        content = read_artifact(session, lineage)
        if lineage.evaluation and lineage.evaluation.gate:
            check_gate(lineage)
        if not session.environment.is_local:
            package = keep_artifact(session, package, content)
        _set_approval(session, package, "Approved", reason)
        set_champion(session, package)
    output.pairs([row for row in lineage_rows(lineage) if row[0] in ("gate", "overrides")])
    output.verdict(True, f"model {version} approved: it is the champion now", f"sagegate serve{session.option}")


def reject(session: Session, version: int, reason: str) -> None:
    """Reject a version. If it was the champion, the newest approved version takes its place."""
    with session.exclusive():
        now = _reject(session, version, reason)
    output.verdict(True, f"model {version} rejected{now}", None)


def _reject(session: Session, version: int, reason: str) -> str:
    """Reject a version, and return what that changed about the champion."""
    champion = current_champion(session)  # first: if it is damaged, nothing changes
    _set_approval(session, describe_model(session, version), "Rejected", reason)
    if not champion or champion["version"] != version:
        return ""
    successor = newest_approved(session)
    if successor:
        set_champion(session, successor)
        return f": the champion is model {successor['ModelPackageVersion']} again"
    clear_champion(session)
    return ": there is no champion now"


def newest_approved(session: Session) -> Json | None:
    """Return the newest approved version whose deployment did not fail (ModelLifeCycle's stage status), or None."""
    approved = [p["ModelPackageVersion"] for p in packages_of(session) if p["ModelApprovalStatus"] == "Approved"]
    described = (describe_model(session, number) for number in approved)
    return next((p for p in described if p.get("ModelLifeCycle", {}).get("StageStatus") != "Failed"), None)


def ensure_champion(session: Session) -> None:
    """Write the champion again if it is lost, from the newest approved version; without one, write its marker.

    Without it, the next candidate would pass without a comparison.
    """
    if current_champion(session):
        return
    package = newest_approved(session)
    if package is None:
        ensure_marker(session)
        return
    version = package["ModelPackageVersion"]
    try:
        set_champion(session, package)
    except Exception as error:  # a role that only runs pipelines may not write it
        todo = f"`sagegate approve {version}{session.option}` writes it again"
        raise SagegateError(f"the champion is lost and cannot be written ({error}): {todo}") from error
    output.line(f"the champion was lost: model {version}, the newest approved one, is the champion again")


def packages_of(session: Session) -> list[Json]:
    """Return the summaries of all versions (ListModelPackages), the newest first."""
    request = {"ModelPackageGroupName": session.names.group, "SortBy": "CreationTime", "SortOrder": "Descending"}
    try:
        return list(paginate(session.sagemaker, "list_model_packages", "ModelPackageSummaryList", **request))
    except Exception as error:
        if is_missing(session, error):  # the first registered model creates the group
            return []
        raise


def describe_model(session: Session, version: int) -> Json:
    """Return DescribeModelPackage's response. Raises SagegateError if there is no such version."""
    try:
        package: Json = session.sagemaker.describe_model_package(ModelPackageName=session.names.package(version))
        return package
    except Exception as error:
        if not is_missing(session, error):
            raise
        known = ", ".join(str(p["ModelPackageVersion"]) for p in packages_of(session)) or "none"
        raise SagegateError(f"there is no model {version}: there are {known}") from None


def _set_approval(session: Session, package: Json, status: str, reason: str) -> None:
    session.sagemaker.update_model_package(
        ModelPackageArn=package["ModelPackageArn"],
        ModelApprovalStatus=status,
        ApprovalDescription=f"{started_by()}: {reason}"[:1024],  # the longest that SageMaker accepts
    )
