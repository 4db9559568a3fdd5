"""Concurrent promotions end as one pull request whose title, body and branch agree."""

from concurrent.futures import ThreadPoolExecutor

from promotion.lab import Lab, git


def test_concurrent_promotions_end_as_one_pull_request(lab: Lab) -> None:
    """Some ask for a version, some for the newest; title and body name the version that the branch pins."""
    wanted = [("--model", "1"), ("--model", "2"), (), ("--model", "1")]
    with ThreadPoolExecutor(len(wanted)) as pool:
        done = list(pool.map(lambda args: lab.promote("staging", *args), wanted))
    assert all(d.returncode == 0 for d in done)
    (pull,) = lab.open()
    version = lab.version()
    assert pull["title"].startswith(f"Promote model {version} to staging")
    assert f"staging: model {version} for nothing" in pull["body"].splitlines()[-1]
    assert git(lab.bare, "rev-list", "--count", "main..promote/staging") == "1"


def test_a_newer_proposal_of_another_promotion_is_not_overwritten(lab: Lab) -> None:
    """Another promotion proposes model 3 after this one has read the branch: this one reads it again and agrees."""
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
    """Another promotion moves the branch after this one has moved it and before this one updates title and body."""
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


def test_a_branch_that_moves_just_before_the_update_is_read_again(lab: Lab) -> None:
    """GitHub rejects the update, because the branch is not where this promotion read it."""
    lab.promote("staging", "--model", "1")
    other = git(lab.bare, "commit-tree", "main^{tree}", "-p", "main", "-m", "someone else")

    def another(request: str) -> None:
        if request == "POST /graphql":
            lab.github.before = lambda _: None
            git(lab.bare, "update-ref", "refs/heads/promote/staging", other)

    lab.github.before = another
    lab.github.requests.clear()
    assert "updated" in lab.promote("staging", "--model", "2").stdout
    assert lab.github.requests.count(("POST", "/graphql")) == 2
    assert lab.version() == 2
    assert git(lab.bare, "rev-list", "--count", "main..promote/staging") == "1"
