"""Rollback by pull request. A closed, reverted or rolled-back proposal is not made again."""

import subprocess
from pathlib import Path

from promotion.lab import Lab, git


def test_a_closed_proposal_is_made_again_only_by_its_version(lab: Lab) -> None:
    lab.promote()
    lab.open()[0]["state"] = "closed"
    said = lab.promote().stdout
    assert "closed without merging" in said and "--model VERSION" in said
    assert lab.open() == []
    assert "created" in lab.promote("staging", "--model", "3").stdout


def test_rolling_back_pins_the_version_before(lab: Lab) -> None:
    failed = lab.sagegate("rollback", "staging", check=False)
    assert failed.returncode == 1 and "nothing was promoted" in failed.stderr
    for version in ("1", "2", "3"):
        lab.promote("staging", "--model", version)
        lab.merge()
    for expected in (2, 1):
        assert "created" in lab.sagegate("rollback", "staging").stdout
        (pull,) = lab.open()
        assert pull["title"] == f"Roll staging back to model {expected}"
        assert f"sagegate promote staging --model {expected + 1}" in pull["body"]
        assert lab.pin("rollback/staging")["replaces"] == expected + 1
        lab.merge()
        assert lab.version("main") == expected
    failed = lab.sagegate("rollback", "staging", check=False)
    assert failed.returncode == 1 and "there is none to go back to" in failed.stderr


def test_a_model_that_was_rolled_back_is_not_proposed_again(lab: Lab) -> None:
    lab.promote("staging", "--model", "2")
    lab.merge()
    lab.promote()
    lab.merge()
    lab.sagegate("rollback", "staging")
    lab.merge()
    assert "(model 3 was rolled back) and no newer one" in lab.promote().stdout
    assert lab.open() == []


def test_a_reverted_pull_request_is_not_proposed_again(lab: Lab) -> None:
    lab.promote("staging", "--model", "2")
    lab.merge()
    lab.promote()
    lab.merge()
    git(lab.project, "fetch", "-q", "origin")
    git(lab.project, "switch", "-q", "--detach", "origin/main")
    git(lab.project, "revert", "--no-edit", "-m", "1", "HEAD")
    git(lab.project, "push", "-q", "origin", "HEAD:main")
    assert "merged and reverted since" in lab.promote().stdout
    assert lab.open() == []


def test_a_shallow_clone_can_roll_back_by_pull_request(lab: Lab, tmp_path: Path) -> None:
    for version in ("1", "2"):
        lab.promote("staging", "--model", version)
        lab.merge()
    subprocess.run(["git", "clone", "-q", "--depth", "1", lab.bare.as_uri(), str(tmp_path / "shallow")], check=True)
    lab.project = tmp_path / "shallow"
    lab.sagegate("rollback", "staging")
    assert lab.version("rollback/staging") == 1
    failed = lab.sagegate("rollback", "staging", "--no-pull-request", check=False)
    assert failed.returncode == 1 and "`git fetch --unshallow`" in failed.stderr
