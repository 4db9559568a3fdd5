"""Promotions at once: whoever wins, one pull request whose title, body and branch agree."""

from concurrent.futures import ThreadPoolExecutor

from promotion.lab import Lab, git


def test_promotions_at_once_come_to_one_pull_request(lab: Lab) -> None:
    """Some want a version, some the newest; what the branch pins is what title and body say."""
    wanted = [("--model", "1"), ("--model", "2"), (), ("--model", "1")]
    with ThreadPoolExecutor(len(wanted)) as pool:
        done = list(pool.map(lambda args: lab.promote("staging", *args), wanted))
    assert all(d.returncode == 0 for d in done)
    (pull,) = lab.open()
    version = lab.version()
    assert pull["title"].startswith(f"Promote model {version} to staging")
    assert f"staging: model {version} for nothing" in pull["body"].splitlines()[-1]
    assert git(lab.bare, "rev-list", "--count", "main..promote/staging") == "1"


def test_another_git_that_holds_the_remote_tracking_branch_is_not_in_the_way(lab: Lab) -> None:
    """A fetch of an editor, or of another promotion, has the lock: the look at the remote needs no ref of the clone."""
    lab.promote("staging", "--model", "1")
    held = lab.project / ".git" / "refs" / "remotes" / "origin" / "promote"
    held.mkdir(parents=True, exist_ok=True)
    other = git(lab.bare, "commit-tree", "main^{tree}", "-p", "main", "-m", "moved: a fetch would have to write")
    git(lab.bare, "update-ref", "refs/heads/promote/staging", other)
    (held / "staging.lock").touch()
    lab.promote("staging", "--model", "2")
    assert lab.version() == 2


def test_a_branch_that_moved_since_it_was_seen_is_not_overwritten(lab: Lab) -> None:
    """Another promotion, of model 3, is pushed after this one looked at the branch: this one looks again and agrees."""
    lab.promote("staging", "--model", "1")
    lab.promote("staging", "--model", "3")
    newer, older = (git(lab.bare, "rev-parse", "promote/staging"), git(lab.bare, "rev-parse", "main"))
    git(lab.bare, "update-ref", "refs/heads/promote/staging", older)

    def another(request: str) -> None:
        if request.endswith("/pulls"):
            lab.github.before = lambda _: None
            git(lab.bare, "update-ref", "refs/heads/promote/staging", newer)

    lab.github.before = another
    lab.promote()
    assert git(lab.bare, "rev-parse", "promote/staging") == newer


def test_title_and_body_follow_a_branch_that_another_moved(lab: Lab) -> None:
    """Another promotion takes the branch between this one's push and its change of title and body."""
    lab.promote("staging", "--model", "2")
    theirs = git(lab.bare, "rev-parse", "promote/staging")

    def another(request: str) -> None:
        if request.startswith("PATCH"):
            lab.github.before = lambda _: None
            git(lab.bare, "update-ref", "refs/heads/promote/staging", theirs)

    lab.github.before = another
    lab.promote()
    (pull,) = lab.open()
    assert pull["title"].startswith(f"Promote model {lab.version()} to staging")


def test_a_branch_that_moves_during_a_push_is_looked_at_again(lab: Lab) -> None:
    """A hook of the remote moves the branch just before the first push is checked: the push loses, and is repeated."""
    lab.promote("staging", "--model", "1")
    other = git(lab.bare, "commit-tree", "main^{tree}", "-p", "main", "-m", "someone else")
    hook = lab.bare / "hooks" / "pre-receive"
    hook.write_text(f"#!/bin/sh\nrm $0\nunset GIT_QUARANTINE_PATH\ngit update-ref refs/heads/promote/staging {other}\n")
    hook.chmod(0o755)
    assert "updated" in lab.promote("staging", "--model", "2").stdout
    assert not hook.exists()
    assert lab.version() == 2
    assert git(lab.bare, "rev-list", "--count", "main..promote/staging") == "1"
