"""`mlops models`, `approve`, `reject`: the versions of the model, and who may serve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlops import show
from mlops.aws import Door, is_missing, pages
from mlops.definitions.parameters import started_by
from mlops.errors import MlopsError
from mlops.evidence import evaluation_of_package
from mlops.registry import champion, lineage
from mlops.registry.stages import deployed, journey

Json = dict[str, Any]


def list_models(root: Path, door: Door) -> None:
    """Every version, the newest first, with its metric, approval and stage; the champion is marked."""
    packages = packages_of(door)
    if not packages:
        show.line(f"no model is registered yet: `mlops run{door.option}` trains one")
        return
    best = champion.current(door)
    stages = deployed(root, door)
    rows = []
    for summary in packages:
        package = describe(door, summary["ModelPackageVersion"])
        evaluation = evaluation_of_package(door, package)
        gate = evaluation.gate if evaluation else {}
        candidate = gate.get("candidate")
        value = f"{gate.get('metric')} {candidate:.6g}" if isinstance(candidate, int | float) else ""
        is_champion = best and best["version"] == package["ModelPackageVersion"]
        created = f"{package['CreationTime']:%Y-%m-%d %H:%M}"
        status = package["ModelApprovalStatus"] + (" · champion" if is_champion else "")
        stage, commit = stages.get(package["ModelPackageArn"], ""), _metadata(package, "commit")[:12]
        rows.append([package["ModelPackageVersion"], status, stage, value, created, commit])
    show.table(["version", "approval", "deployed", "gate", "registered (UTC)", "commit"], rows)


def show_model(root: Path, door: Door, version: int) -> None:
    """One version, whole: endpoint, deployment, package, execution, commit, data; and its metrics."""
    package = describe(door, version)
    found = lineage.of_package(door, package)
    rows = [(f"model {version}", package["ModelPackageArn"]), ("approval", found.approval)]
    rows += [("note", package.get("ApprovalDescription", "")), *lineage.rows_for_people(found)]
    rows += journey(root, door, found.arn, found.artifact_sha256)
    show.pairs(rows)
    if found.evaluation:
        show.metrics(found.evaluation)


def approve(door: Door, version: int, reason: str) -> None:
    """Approve a version and make it the champion."""
    package = _decide(door, version, "Approved", reason)
    champion.crown(door, package)
    show.verdict(True, f"model {version} approved: it is the champion now", f"mlops serve{door.option}")


def reject(door: Door, version: int, reason: str) -> None:
    """Reject a version; if it was the champion, the newest one that is still approved takes its place.

    Not one that was approved to be deployed, and failed: its stage says so.
    """
    _decide(door, version, "Rejected", reason)
    best = champion.current(door)
    if not best or best["version"] != version:
        show.verdict(True, f"model {version} rejected", None)
        return
    approved = [p["ModelPackageVersion"] for p in packages_of(door) if p["ModelApprovalStatus"] == "Approved"]
    described = (describe(door, number) for number in approved)
    heir = next((p for p in described if p.get("ModelLifeCycle", {}).get("StageStatus") != "Failed"), None)
    if heir:
        champion.crown(door, heir)
        show.verdict(True, f"model {version} rejected: the champion is model {heir['ModelPackageVersion']} again", None)
    else:
        champion.dethrone(door)
        show.verdict(True, f"model {version} rejected: there is no champion now", None)


def _decide(door: Door, version: int, status: str, reason: str) -> Json:
    """Set a version's approval; its description from before."""
    package = describe(door, version)
    door.sagemaker.update_model_package(
        ModelPackageArn=package["ModelPackageArn"], ModelApprovalStatus=status, ApprovalDescription=_signed(reason)
    )
    return package


def packages_of(door: Door) -> list[Json]:
    """The summaries of all versions, the newest first."""
    request = {"ModelPackageGroupName": door.names.group, "SortBy": "CreationTime", "SortOrder": "Descending"}
    try:
        return list(pages(door.sagemaker.list_model_packages, "ModelPackageSummaryList", **request))
    except Exception as error:
        if is_missing(door, error):  # the group comes with the first model
            return []
        raise


def describe(door: Door, version: int) -> Json:
    """One version; raises MlopsError if there is none."""
    try:
        found: Json = door.sagemaker.describe_model_package(ModelPackageName=door.names.package(version))
        return found
    except Exception as error:
        if not is_missing(door, error):
            raise
        known = ", ".join(str(p["ModelPackageVersion"]) for p in packages_of(door)) or "none"
        raise MlopsError(f"there is no model {version}: there are {known}") from None


def _metadata(package: Json, key: str) -> str:
    return str(package.get("CustomerMetadataProperties", {}).get(key, ""))


def _signed(reason: str) -> str:
    """The reason with who gave it; the field holds 1024 characters."""
    return f"{started_by()}: {reason}"[:1024]
