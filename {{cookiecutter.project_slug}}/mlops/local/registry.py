"""The Model Registry on this machine: `.mlops/registry/GROUP/VERSION.json`, in the shape of DescribeModelPackage.

A version's number is taken by creating its file, which only one process can do; the file appears whole.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from mlops.files import write_json
from mlops.local.records import ResourceNotFound, now, read_json

Json = dict[str, Any]


class Registry:
    """Model package groups and their versions."""

    def __init__(self, folder: Path, arn_prefix: str) -> None:
        self.folder = folder
        self.arn_prefix = arn_prefix

    def register(self, request: Json) -> Json:
        """Add a model package as the next version of its group (made if new); its description."""
        group = self.folder / request["ModelPackageGroupName"]
        group.mkdir(parents=True, exist_ok=True)
        version = max(self.versions(group.name), default=0)
        while True:
            version += 1
            package = self._described(request, group.name, version)
            handle, temporary = tempfile.mkstemp(dir=group, prefix=".")
            with os.fdopen(handle, "w") as stream:
                json.dump(package, stream, indent=1, default=lambda v: v.isoformat())
            try:
                os.link(temporary, group / f"{version}.json")
                return package
            except FileExistsError:
                continue
            finally:
                os.unlink(temporary)

    def versions(self, group: str) -> list[int]:
        """The version numbers of a group."""
        return sorted(int(f.stem) for f in (self.folder / group).glob("[0-9]*.json"))

    def read(self, arn: str) -> Json | None:
        """The package with that ARN."""
        group, _, version = arn.rpartition(":model-package/")[2].rpartition("/")
        file = self.folder / group / f"{version}.json"
        return read_json(file) if group and file.is_file() else None

    def update(self, arn: str, changes: Json) -> None:
        """Change fields of a package."""
        package = self.read(arn)
        assert package is not None
        package |= changes | {"LastModifiedTime": now()}
        file = self.folder / package["ModelPackageGroupName"] / f"{package['ModelPackageVersion']}.json"
        write_json(file, package)

    def _described(self, request: Json, group: str, version: int) -> Json:
        return request | {
            "ModelPackageName": group,
            "ModelPackageVersion": version,
            "ModelPackageArn": f"{self.arn_prefix}:model-package/{group}/{version}",
            "CreationTime": now(),
            "ModelPackageStatus": "Completed",
            "ModelPackageStatusDetails": {"ValidationStatuses": [], "ImageScanStatuses": []},
        }


class RegistryCalls:
    """The calls of boto3's SageMaker client about model packages."""

    registry: Registry

    def list_model_packages(self, *, ModelPackageGroupName: str, **filters: Any) -> Json:
        """The versions of a group, the newest first."""
        arns = [
            f"{self.registry.arn_prefix}:model-package/{ModelPackageGroupName}/{version}"
            for version in reversed(self.registry.versions(ModelPackageGroupName))
        ]
        found = [self.describe_model_package(ModelPackageName=arn) for arn in arns]
        wanted = filters.get("ModelApprovalStatus")
        summaries = [_package_summary(p) for p in found if wanted in (None, p["ModelApprovalStatus"])]
        return {"ModelPackageSummaryList": summaries}

    def describe_model_package(self, *, ModelPackageName: str) -> Json:
        """A version of a model."""
        package = self.registry.read(ModelPackageName)
        if package is None:
            raise ResourceNotFound(f"model package {ModelPackageName} does not exist")
        return package

    def update_model_package(self, *, ModelPackageArn: str, **changes: Any) -> Json:
        """Change a version's approval or metadata."""
        self.describe_model_package(ModelPackageName=ModelPackageArn)
        self.registry.update(ModelPackageArn, changes)
        return {"ModelPackageArn": ModelPackageArn}


def _package_summary(package: Json) -> Json:
    fields = ("ModelPackageArn", "ModelPackageGroupName", "ModelPackageVersion", "CreationTime")
    more = ("ModelPackageStatus", "ModelApprovalStatus")
    return {field: package[field] for field in (*fields, *more)}
