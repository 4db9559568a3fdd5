"""Names and ARNs of a project's resources, derived from project, environment, account and region.

infra/platform.yaml and infra/endpoint.yaml build the same names, so nobody has to pass one on.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Names:
    """The names of one environment's resources."""

    project: str
    environment: str
    account_id: str
    region: str

    @property
    def partition(self) -> str:
        """The first part of every ARN after `arn:`."""
        return "aws-cn" if self.region.startswith("cn-") else "aws-us-gov" if "gov" in self.region else "aws"

    @property
    def pipeline(self) -> str:
        """The pipeline's name."""
        return self.project

    @property
    def pipeline_arn(self) -> str:
        """The pipeline's ARN."""
        return self._sagemaker(f"pipeline/{self.pipeline}")

    @property
    def group(self) -> str:
        """The model package group's name."""
        return self.project

    @property
    def bucket(self) -> str:
        """The artifact bucket; one per account and region."""
        return f"{self.project}-{self.account_id}-{self.region}"

    @property
    def artifacts(self) -> str:
        """The S3 prefix of all of the project's objects."""
        return f"s3://{self.bucket}/{self.project}"

    @property
    def role(self) -> str:
        """The ARN of the role that jobs run with."""
        return self.iam_role("execution")

    @property
    def image_repository(self) -> str:
        """The ECR repository of the project's own container image."""
        return self.project

    @property
    def endpoint(self) -> str:
        """The endpoint's name."""
        return f"{self.project}-{self.environment}"

    @property
    def endpoint_stack(self) -> str:
        """The CloudFormation stack of infra/endpoint.yaml."""
        return f"{self.project}-endpoint-{self.environment}"

    @property
    def platform_stack(self) -> str:
        """The CloudFormation stack of infra/platform.yaml; one per account and region."""
        return f"{self.project}-platform"

    def iam_role(self, purpose: str) -> str:
        """Return the ARN of one of the project's roles: `execution`, `endpoint`, `github-train`, ..."""
        return f"arn:{self.partition}:iam::{self.account_id}:role/{self.project}-{purpose}"

    def execution(self, name: str) -> str:
        """Return the ARN of an execution, given its ARN or the last part of it."""
        return f"{self.pipeline_arn}/execution/{name.rpartition('/')[2]}"

    def package(self, version: int) -> str:
        """Return the ARN of a model version."""
        return self._sagemaker(f"model-package/{self.group}/{version}")

    def _sagemaker(self, resource: str) -> str:
        return f"arn:{self.partition}:sagemaker:{self.region}:{self.account_id}:{resource}"
