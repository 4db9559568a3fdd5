"""`sagegate models`, `approve` and `reject`: the registered versions of the model, and which of them may serve."""

from __future__ import annotations

from sagegate import output
from sagegate.errors import SagegateError
from sagegate.files import Json
from sagegate.pipeline.parameters import started_by
from sagegate.registry.approval import keep_artifact
from sagegate.registry.champion import clear_champion, current_champion, set_champion
from sagegate.registry.deployments import stages
from sagegate.registry.evaluation import evaluation_of_package
from sagegate.registry.lineage import lineage_rows, read_artifact, read_lineage
from sagegate.session import Session, is_missing, paginate


def list_models(session: Session) -> None:
    """Print every version, the newest first: approval, environments, gate metric, time and commit."""
    packages = packages_of(session)
    if not packages:
        output.line(f"no model is registered yet: `sagegate run{session.option}` trains one")
        return
    champion = current_champion(session)
    deployed = stages(session)
    rows = []
    for summary in packages:
        package = describe_model(session, summary["ModelPackageVersion"])
        evaluation = evaluation_of_package(session, package)
        gate = evaluation.gate if evaluation else {}
        candidate = gate.get("candidate")
        is_champion = champion and champion["version"] == package["ModelPackageVersion"]
        rows.append(
            [
                package["ModelPackageVersion"],
                package["ModelApprovalStatus"] + (" · champion" if is_champion else ""),
                deployed.get(package["ModelPackageArn"], ""),
                f"{gate.get('metric')} {candidate:.6g}" if isinstance(candidate, int | float) else "",
                f"{package['CreationTime']:%Y-%m-%d %H:%M}",
                str(package.get("CustomerMetadataProperties", {}).get("commit", ""))[:12],
            ]
        )
    output.table(["version", "approval", "deployed", "gate", "registered (UTC)", "commit"], rows)


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
    """Approve a version and make it the champion. Raises SagegateError if its artifact is not the evaluated one."""
    package = describe_model(session, version)
    if not session.environment.is_local:  # a local endpoint checks the artifact at each start
        lineage = read_lineage(session, package)
        package = keep_artifact(session, package, read_artifact(session, lineage))
    _set_approval(session, package, "Approved", reason)
    set_champion(session, package)
    output.verdict(True, f"model {version} approved: it is the champion now", f"sagegate serve{session.option}")


def reject(session: Session, version: int, reason: str) -> None:
    """Reject a version. If it was the champion, the newest approved version takes its place.

    A version whose deployment failed (ModelLifeCycle's stage status is Failed) does not become the champion.
    """
    _set_approval(session, describe_model(session, version), "Rejected", reason)
    champion = current_champion(session)
    if not champion or champion["version"] != version:
        output.verdict(True, f"model {version} rejected", None)
        return
    approved = [p["ModelPackageVersion"] for p in packages_of(session) if p["ModelApprovalStatus"] == "Approved"]
    described = (describe_model(session, number) for number in approved)
    successor = next((p for p in described if p.get("ModelLifeCycle", {}).get("StageStatus") != "Failed"), None)
    if successor:
        set_champion(session, successor)
        now = f"the champion is model {successor['ModelPackageVersion']} again"
    else:
        clear_champion(session)
        now = "there is no champion now"
    output.verdict(True, f"model {version} rejected: {now}", None)


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
