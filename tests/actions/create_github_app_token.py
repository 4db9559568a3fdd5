"""Stands in for actions/create-github-app-token: a token with the permissions that are asked for, and no others."""

from __future__ import annotations

import os

from job import fail, inputs, request, write


def main() -> None:
    """Make the token known to the stand-in for GitHub."""
    asked = inputs()
    if asked["private-key"] != "stand-in-private-key" or not (asked["client-id"] or asked["app-id"]):
        fail("the GitHub App's identifier or private key is not right")
    prefix = "permission-"
    permissions = {k.removeprefix(prefix): v for k, v in asked.items() if k.startswith(prefix) and v}
    body = {"token": "stand-in-app-token", "permissions": permissions}
    request("POST", f"{os.environ['GITHUB_API_URL']}/stand-in/job", os.environ["STAND_IN_TOKEN"], body)
    write("GITHUB_OUTPUT", token="stand-in-app-token")


if __name__ == "__main__":
    main()
