"""Fake of aws-actions/configure-aws-credentials: exchanges the job's identity token for a role's credentials.

The fake AWS accepts every token, so this action rejects what AWS would reject: a role that does not trust the
token's subject and audience, and a session that is longer than the role allows.
"""

from __future__ import annotations

import base64
import configparser
import json
import os
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from job import fail, inputs, job, may, request, write

Json = dict[str, Any]
ISSUER = "token.actions.githubusercontent.com"


def main() -> None:
    """Assume the role."""
    given = inputs()
    role, region, profile = given["role-to-assume"], given["aws-region"], given["aws-profile"]
    if not role.startswith("arn:") or not region:
        fail(f"role-to-assume is {role!r}, aws-region is {region!r}")
    if not may("id-token", "write"):
        fail("Credentials could not be loaded: the job has no permission id-token: write")
    token = identity_token()
    iam_role = role_of(role, region)
    if not trusts(iam_role["AssumeRolePolicyDocument"], claims_of(token)):
        fail(f"Not authorized to perform sts:AssumeRoleWithWebIdentity on {role} as {claims_of(token)['sub']}")
    duration = int(given["role-duration-seconds"])
    if duration > iam_role["MaxSessionDuration"]:
        fail(f"The requested DurationSeconds exceeds the MaxSessionDuration set for {role}")
    sts = boto3.client("sts", region_name=region, config=Config(signature_version=UNSIGNED))
    session = sts.assume_role_with_web_identity(
        RoleArn=role, RoleSessionName="GitHubActions", WebIdentityToken=token, DurationSeconds=duration
    )["Credentials"]
    keys = {
        "aws_access_key_id": session["AccessKeyId"],
        "aws_secret_access_key": session["SecretAccessKey"],
        "aws_session_token": session["SessionToken"],
    }
    if profile:
        write_profile(profile, keys, region)
    else:
        write("GITHUB_ENV", AWS_REGION=region, AWS_DEFAULT_REGION=region)
        write("GITHUB_ENV", **{name.upper(): value for name, value in keys.items()})
    print(f"Authenticated as {role} by {claims_of(token)['sub']}")


def identity_token() -> str:
    """Return the job's token. Its claim `environment` is the one that the workflow declares for the job.

    GitHub knows the job by its request token; the fake is told. Each workflow here has the name of its file.
    """
    url, environment = os.environ["ACTIONS_ID_TOKEN_REQUEST_URL"], job()["environment"]
    query = f"&audience=sts.amazonaws.com&ref={os.environ['GITHUB_REF']}&workflow={os.environ['GITHUB_WORKFLOW']}.yml"
    query += f"&environment={environment}" if environment else ""
    token: str = request("GET", url + query, os.environ["ACTIONS_ID_TOKEN_REQUEST_TOKEN"])["value"]
    return token


def claims_of(token: str) -> Json:
    """Return the claims of a token."""
    part = token.split(".")[1]
    claims: Json = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims


def role_of(arn: str, region: str) -> Json:
    """Return the role from IAM; fails the step if there is none."""
    key = f"FAKEKEY0{arn.split(':')[4]}"
    iam = boto3.client("iam", region_name=region, aws_access_key_id=key, aws_secret_access_key="not-a-secret")
    try:
        role: Json = iam.get_role(RoleName=arn.rpartition("/")[2])["Role"]
    except iam.exceptions.NoSuchEntityException:
        fail(f"there is no role {arn}: `sagegate bootstrap` creates it")
    return role


def trusts(policy: Json, claims: Json) -> bool:
    """Return True if a trust policy lets a token with these claims assume the role."""
    return any(allows(statement, claims) for statement in policy["Statement"])


def allows(statement: Json, claims: Json) -> bool:
    """Evaluate one statement. Source: "Configuring a role for GitHub OIDC identity provider", IAM user guide."""
    federated = as_list(statement.get("Principal", {}).get("Federated", []))
    if statement["Effect"] != "Allow" or "sts:AssumeRoleWithWebIdentity" not in as_list(statement["Action"]):
        return False
    if not any(name.endswith(f"oidc-provider/{ISSUER}") for name in federated):
        return False
    conditions = [
        (operator, key.removeprefix(f"{ISSUER}:"), as_list(values))
        for operator, block in statement.get("Condition", {}).items()
        for key, values in block.items()
    ]
    return all(holds(operator, str(claims.get(key, "")), values) for operator, key, values in conditions)


def holds(operator: str, claim: str, values: list[str]) -> bool:
    """Evaluate one condition; an unknown operator is False."""
    if operator == "StringEquals":
        return claim in values
    return operator == "StringLike" and any(fnmatchcase(claim, pattern) for pattern in values)


def as_list(value: Any) -> list[Any]:
    """Return a list; IAM accepts a single value in its place."""
    return value if isinstance(value, list) else [value]


def write_profile(name: str, keys: dict[str, str], region: str) -> None:
    """Write a profile where the real action does: into AWS's files, which may be elsewhere than in the home folder.

    Nothing removes a profile after the job, so a second job with the same files fails. Source: src/profileManager.ts.
    """
    for variable, default, section, values in (
        ("AWS_SHARED_CREDENTIALS_FILE", "credentials", name, keys),
        ("AWS_CONFIG_FILE", "config", f"profile {name}", {"region": region}),
    ):
        file = Path(os.environ.get(variable) or Path.home() / ".aws" / default)
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        parser = configparser.RawConfigParser()
        parser.read(file)
        if parser.has_section(section):
            fail(f"Profile '{name}' already exists; set overwrite-aws-profile")
        parser[section] = values
        with file.open("w", encoding="utf-8") as out:
            parser.write(out)


if __name__ == "__main__":
    main()
