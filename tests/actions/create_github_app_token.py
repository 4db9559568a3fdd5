"""Fake of actions/create-github-app-token: gives a token with exactly the requested permissions."""

from __future__ import annotations

import os

from job import fail, inputs, request, write


def main() -> None:
    """Register the token with the fake of GitHub."""
    given = inputs()
    if given["private-key"] != "fake-private-key" or not (given["client-id"] or given["app-id"]):
        fail("the GitHub App's identifier or private key is not right")
    prefix = "permission-"
    permissions = {k.removeprefix(prefix): v for k, v in given.items() if k.startswith(prefix) and v}
    body = {"token": "fake-app-token", "permissions": permissions}
    request("POST", f"{os.environ['GITHUB_API_URL']}/fake/token", os.environ["FAKE_TOKEN"], body)
    write("GITHUB_OUTPUT", token="fake-app-token")


if __name__ == "__main__":
    main()
