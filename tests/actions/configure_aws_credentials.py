"""Stands in for aws-actions/configure-aws-credentials: the job's identity token for a role's credentials.

The fake for STS takes any token, so what AWS would refuse is refused here: a role that does not trust the token's
subject and audience, and a session longer than the role allows.
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
    asked = inputs()
    role, region, profile = asked["role-to-assume"], asked["aws-region"], asked["aws-profile"]
    if not role.startswith("arn:") or not region:
        fail(f"role-to-assume is {role!r}, aws-region is {region!r}")
    if not may("id-token", "write"):
        fail("Credentials could not be loaded: the job has no permission id-token: write")
    token = identity_token()
    found = role_of(role, region)
    if not trusts(found["AssumeRolePolicyDocument"], claims_of(token)):
        fail(f"Not authorized to perform sts:AssumeRoleWithWebIdentity on {role} as {claims_of(token)['sub']}")
    duration = int(asked["role-duration-seconds"])
    if duration > found["MaxSessionDuration"]:
        fail(f"The requested DurationSeconds exceeds the MaxSessionDuration set for {role}")
    sts = boto3.client("sts", region_name=region, config=Config(signature_version=UNSIGNED))
    given = sts.assume_role_with_web_identity(
        RoleArn=role, RoleSessionName="GitHubActions", WebIdentityToken=token, DurationSeconds=duration
    )["Credentials"]
    keys = {
        "aws_access_key_id": given["AccessKeyId"],
        "aws_secret_access_key": given["SecretAccessKey"],
        "aws_session_token": given["SessionToken"],
    }
    if profile:
        write_profile(profile, keys, region)
    else:
        write("GITHUB_ENV", AWS_REGION=region, AWS_DEFAULT_REGION=region)
        write("GITHUB_ENV", **{name.upper(): value for name, value in keys.items()})
    print(f"Authenticated as {role} by {claims_of(token)['sub']}")


def identity_token() -> str:
    """The job's, with the claim of the environment that the workflow's file gives it."""
    url, environment = os.environ["ACTIONS_ID_TOKEN_REQUEST_URL"], job()["environment"]
    where = f"&environment={environment}" if environment else ""
    asked = f"{url}&audience=sts.amazonaws.com{where}"
    token: str = request("GET", asked, os.environ["ACTIONS_ID_TOKEN_REQUEST_TOKEN"])["value"]
    return token


def claims_of(token: str) -> Json:
    """What a token says."""
    part = token.split(".")[1]
    claims: Json = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims


def role_of(arn: str, region: str) -> Json:
    """The role as IAM has it."""
    key = f"STANDIN0{arn.split(':')[4]}"
    iam = boto3.client("iam", region_name=region, aws_access_key_id=key, aws_secret_access_key="not-a-secret")
    try:
        found: Json = iam.get_role(RoleName=arn.rpartition("/")[2])["Role"]
    except iam.exceptions.NoSuchEntityException:
        fail(f"there is no role {arn}: `sagegate bootstrap` makes it")
    return found


def trusts(policy: Json, claims: Json) -> bool:
    """Whether a role's trust policy lets whoever has these claims assume it."""
    return any(allows(statement, claims) for statement in policy["Statement"])


def allows(statement: Json, claims: Json) -> bool:
    """One statement. Source: "Configuring a role for GitHub OIDC identity provider" in IAM's user guide."""
    federated = as_list(statement.get("Principal", {}).get("Federated", []))
    if statement["Effect"] != "Allow" or "sts:AssumeRoleWithWebIdentity" not in as_list(statement["Action"]):
        return False
    if not any(name.endswith(f"oidc-provider/{ISSUER}") for name in federated):
        return False
    conditions = [
        (operator, key.removeprefix(f"{ISSUER}:"), as_list(wanted))
        for operator, block in statement.get("Condition", {}).items()
        for key, wanted in block.items()
    ]
    return all(holds(operator, str(claims.get(key, "")), wanted) for operator, key, wanted in conditions)


def holds(operator: str, claim: str, wanted: list[str]) -> bool:
    """One condition; an operator that is not known here does not hold."""
    if operator == "StringEquals":
        return claim in wanted
    return operator == "StringLike" and any(fnmatchcase(claim, pattern) for pattern in wanted)


def as_list(value: Any) -> list[Any]:
    """IAM lets a list of one be written without brackets."""
    return value if isinstance(value, list) else [value]


def write_profile(name: str, keys: dict[str, str], region: str) -> None:
    """In files of this job alone, as a runner's home folder is."""
    folder = Path(os.environ["RUNNER_TEMP"]) / "aws"
    folder.mkdir(mode=0o700, exist_ok=True)
    sections = {"credentials": (name, keys), "config": (f"profile {name}", {"region": region})}
    for file, (section, values) in sections.items():
        parser = configparser.RawConfigParser()
        parser.read(folder / file)
        if parser.has_section(section):
            fail(f"Profile '{name}' already exists; set overwrite-aws-profile")
        parser[section] = values
        with (folder / file).open("w", encoding="utf-8") as out:
            parser.write(out)
    write(
        "GITHUB_ENV",
        AWS_SHARED_CREDENTIALS_FILE=str(folder / "credentials"),
        AWS_CONFIG_FILE=str(folder / "config"),
    )


if __name__ == "__main__":
    main()
