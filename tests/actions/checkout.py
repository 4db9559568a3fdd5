"""Fake of actions/checkout: checks out the event's commit, or `ref`, with the requested depth.

No workflow keeps the job's token in the working copy (persist-credentials), so neither does this.
"""

from __future__ import annotations

import os
import subprocess

from job import begin_job, fail, inputs


def main() -> None:
    """Fetch the commit and check it out into the workspace."""
    given = inputs()
    begin_job(given["token"])
    server, repository = os.environ["GITHUB_SERVER_URL"], os.environ["GITHUB_REPOSITORY"]
    depth = int(given["fetch-depth"])
    branch = given["ref"]
    git("init", "--quiet", "--initial-branch=main")
    git("remote", "add", "origin", f"{server}/{repository}")
    history = [f"--depth={depth}"] if depth else ["--tags"]
    if branch:
        git("fetch", "--quiet", *history, "origin", f"+refs/heads/{branch}:refs/remotes/origin/{branch}")
        git("checkout", "--quiet", "-B", branch, f"refs/remotes/origin/{branch}")
    else:
        if not depth:
            git("fetch", "--quiet", *history, "origin", "+refs/heads/*:refs/remotes/origin/*")
        git("fetch", "--quiet", *history, "origin", os.environ["GITHUB_SHA"])
        git("checkout", "--quiet", "--detach", os.environ["GITHUB_SHA"])
    print(git("log", "-1", "--format=%H"))


def git(*args: str) -> str:
    """Run git in the workspace and return its output."""
    done = subprocess.run(["git", *args], cwd=os.environ["GITHUB_WORKSPACE"], capture_output=True, text=True)
    if done.returncode:
        fail(f"git {args[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


if __name__ == "__main__":
    main()
