"""Fake of aws-actions/configure-aws-credentials: exchanges the job's identity token for a role's credentials.

Source: src/index.ts, src/assumeRole.ts and src/profileManager.ts of the action.
"""

from __future__ import annotations

import configparser
import os
from pathlib import Path

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from job import fail, inputs, request, write


def main() -> None:
    """Assume the role, and ask who the caller is, as the real action does."""
    given = inputs()
    role, region, profile = given["role-to-assume"], given["aws-region"], given["aws-profile"]
    if not role.startswith("arn:") or not region:
        fail(f"role-to-assume is {role!r}, aws-region is {region!r}")
    url = f"{os.environ['ACTIONS_ID_TOKEN_REQUEST_URL']}&audience=sts.amazonaws.com"
    token = request("GET", url, os.environ["ACTIONS_ID_TOKEN_REQUEST_TOKEN"])["value"]
    sts = boto3.client("sts", region_name=region, config=Config(signature_version=UNSIGNED))
    try:
        session = sts.assume_role_with_web_identity(
            RoleArn=role,
            RoleSessionName="GitHubActions",
            WebIdentityToken=token,
            DurationSeconds=int(given["role-duration-seconds"]),
        )["Credentials"]
    except ClientError as error:
        fail(f"Could not assume role with OIDC: {error.response['Error']['Message']}")
    keys = {
        "aws_access_key_id": session["AccessKeyId"],
        "aws_secret_access_key": session["SecretAccessKey"],
        "aws_session_token": session["SessionToken"],
    }
    identity = boto3.client("sts", region_name=region, **keys).get_caller_identity()
    if profile:
        write_profile(profile, keys, region)
    else:
        write("GITHUB_ENV", AWS_REGION=region, AWS_DEFAULT_REGION=region)
        write("GITHUB_ENV", **{name.upper(): value for name, value in keys.items()})
    print(f"Authenticated as {identity['Arn']}")


def write_profile(name: str, keys: dict[str, str], region: str) -> None:
    """Write a profile into AWS's files, which variables may place elsewhere than in the home folder.

    Nothing removes a profile after the job, so a second job with the same files fails.
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
