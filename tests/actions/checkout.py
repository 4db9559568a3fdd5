"""Stands in for actions/checkout: the event's commit, or `ref`, at the depth that is asked for."""

from __future__ import annotations

import base64
import os
import subprocess

from job import fail, inputs, job, may, request


def main() -> None:
    """Fetch and check out into the workspace."""
    asked = inputs()
    if not may("contents", "read"):
        fail("Not Found: the job's permissions do not let it read the repository")
    # Every job's first step: from here on its token may do what the workflow's file lets the job do.
    body = {"token": asked["token"], "permissions": job()["permissions"]}
    request("POST", f"{os.environ['GITHUB_API_URL']}/fake/job", os.environ["STAND_IN_TOKEN"], body)
    server, repository = os.environ["GITHUB_SERVER_URL"], os.environ["GITHUB_REPOSITORY"]
    depth = int(asked["fetch-depth"])
    branch = asked["ref"]
    git("init", "--quiet", "--initial-branch=main")
    git("remote", "add", "origin", f"{server}/{repository}")
    how = [f"--depth={depth}"] if depth else ["--tags"]
    if branch:
        git("fetch", "--quiet", *how, "origin", f"+refs/heads/{branch}:refs/remotes/origin/{branch}")
        git("checkout", "--quiet", "-B", branch, f"refs/remotes/origin/{branch}")
    else:
        if not depth:
            git("fetch", "--quiet", *how, "origin", "+refs/heads/*:refs/remotes/origin/*")
        git("fetch", "--quiet", *how, "origin", os.environ["GITHUB_SHA"])
        git("checkout", "--quiet", "--detach", os.environ["GITHUB_SHA"])
    if asked["persist-credentials"] == "true":
        basic = base64.b64encode(f"x-access-token:{asked['token']}".encode()).decode()
        git("config", f"http.{server}/.extraheader", f"AUTHORIZATION: basic {basic}")
    print(git("log", "-1", "--format=%H"))


def git(*args: str) -> str:
    """Run git in the workspace; its output."""
    done = subprocess.run(["git", *args], cwd=os.environ["GITHUB_WORKSPACE"], capture_output=True, text=True)
    if done.returncode:
        fail(f"git {args[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


if __name__ == "__main__":
    main()
