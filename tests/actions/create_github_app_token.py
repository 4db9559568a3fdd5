"""Stands in for actions/create-github-app-token: a token with the permissions that are asked for, and no others."""

from __future__ import annotations

import os

from job import fail, inputs, request, write


def main() -> None:
    """Make the token known to the fake GitHub."""
    asked = inputs()
    if asked["private-key"] != "fake-private-key" or not (asked["client-id"] or asked["app-id"]):
        fail("the GitHub App's identifier or private key is not right")
    prefix = "permission-"
    permissions = {k.removeprefix(prefix): v for k, v in asked.items() if k.startswith(prefix) and v}
    body = {"token": "fake-app-token", "permissions": permissions}
    request("POST", f"{os.environ['GITHUB_API_URL']}/fake/job", os.environ["STAND_IN_TOKEN"], body)
    write("GITHUB_OUTPUT", token="fake-app-token")


if __name__ == "__main__":
    main()
