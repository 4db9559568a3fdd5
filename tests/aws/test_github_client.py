"""sagegate/repository/github.py and the fake GitHub: retries, refusals, environments, identity tokens."""

import base64
import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.github import OIDC_TOKEN, Failure, GitHubStandIn

from sagegate.errors import SagegateError
from sagegate.output import code, link
from sagegate.repository.git import Repository
from sagegate.repository.github import ACTIONS_SETTING, GitHub, GitHubError


@pytest.fixture
def fake_aws(tmp_path: Path) -> Iterator[GitHubStandIn]:
    bare = tmp_path / "bare.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(bare)], check=True)
    with GitHubStandIn(bare, "org/repo") as github:
        tree = github.bare.git("hash-object", "-w", "-t", "tree", "/dev/null")
        main = github.bare.git("commit-tree", tree, "-m", "first")
        github.bare.git("update-ref", "refs/heads/main", main)
        github.bare.git("update-ref", "refs/heads/topic", github.bare.git("commit-tree", tree, "-p", main, "-m", "x"))
        yield github


@pytest.fixture
def waits() -> list[float]:
    """The pauses that the client made instead of sleeping."""
    return []


@pytest.fixture
def client(fake_aws: GitHubStandIn, waits: list[float]) -> GitHub:
    return GitHub(fake_aws.url, fake_aws.token, "org/repo", waits.append)


def test_pull_requests_are_opened_listed_and_changed(client: GitHub) -> None:
    made = client.create_pull("title", "body", "topic", "main")
    assert [pull["number"] for pull in client.pulls("topic", "main")] == [made["number"]]
    assert client.pulls("other", "main") == []
    with pytest.raises(GitHubError, match="already exists for org:topic") as again:
        client.create_pull("title", "body", "topic", "main")
    assert again.value.status == 422
    assert client.update_pull(made["number"], title="better")["title"] == "better"
    client.update_pull(made["number"], state="closed")
    assert client.pulls("topic", "main") == [] and len(client.pulls("topic", "main", "all")) == 1


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (Failure("GET", 429, headers={"Retry-After": "7"}), [7.0]),
        (Failure("GET", 502, times=2), [2.0, 4.0]),
        (Failure("GET", 403, "You have exceeded a secondary rate limit", {"Retry-After": "3"}), [3.0]),
        (Failure("GET", 503, headers={"Retry-After": "9999"}), [60.0]),
    ],
    ids=["429", "502", "secondary", "long"],
)
def test_what_passes_is_tried_again(
    fake_aws: GitHubStandIn, client: GitHub, waits: list[float], failure: Failure, expected: list[float]
) -> None:
    fake_aws.failures.append(failure)
    assert client.pulls("topic", "main") == []
    assert waits == expected


def test_the_last_try_is_reported(fake_aws: GitHubStandIn, client: GitHub, waits: list[float]) -> None:
    fake_aws.failures.append(Failure("GET", 500, "Server Error", times=9))
    with pytest.raises(GitHubError, match=r"GitHub refused GET /repos/org/repo/pulls \(500\): Server Error"):
        client.pulls("topic", "main")
    assert waits == [2.0, 4.0, 8.0]


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (Failure(".", 401, "Bad credentials"), "does not accept GITHUB_TOKEN (Bad credentials)"),
        (Failure(".", 403, "Resource not accessible by integration"), "`permissions: pull-requests: write`"),
        (Failure(".", 403, "GitHub Actions is not permitted to create or approve pull requests."), ACTIONS_SETTING),
        (Failure(".", 404, "Not Found"), "check `repository` in mlops.toml"),
        (Failure(".", 422, "Validation\nFailed"), "(422): Validation Failed"),
        (Failure(".", 403, "API rate limit exceeded", times=9), "rate limit is reached"),
    ],
    ids=["401", "403", "setting", "404", "422", "limit"],
)
def test_a_refusal_is_one_line_with_a_remedy(
    fake_aws: GitHubStandIn, client: GitHub, failure: Failure, words: str
) -> None:
    fake_aws.failures.append(failure)
    with pytest.raises(GitHubError) as refused:
        client.create_pull("title", "body", "topic", "main")
    assert words in str(refused.value)
    assert "\n" not in str(refused.value) and fake_aws.token not in str(refused.value)


def test_no_answer_is_one_line(client: GitHub, fake_aws: GitHubStandIn, waits: list[float]) -> None:
    fake_aws.close()
    try:
        with pytest.raises(SagegateError, match="GitHub does not answer at http"):
            client.pulls("topic", "main")
        assert len(waits) == 3
    finally:
        fake_aws.__init__(fake_aws.bare.folder, "org/repo")  # type: ignore[misc]


def test_an_environment_gets_its_reviewers(client: GitHub) -> None:
    assert client.environment("prod") is None
    reviewers = [
        {"type": "User", "id": client.user("reviewer")["id"]},
        {"type": "Team", "id": client.team("org", "ml-platform")["id"]},
    ]
    client.put_environment("prod", reviewers, protected_branches=True, wait_minutes=5)
    found = client.environment("prod")
    assert found is not None
    rules = {rule["type"]: rule for rule in found["protection_rules"]}
    assert [r["reviewer"]["id"] for r in rules["required_reviewers"]["reviewers"]] == [11, 21]
    assert rules["wait_timer"]["wait_timer"] == 5 and "branch_policy" in rules
    with pytest.raises(GitHubError, match="Invalid reviewer"):
        client.put_environment("prod", [{"type": "User", "id": 999}], protected_branches=True, wait_minutes=0)
    with pytest.raises(GitHubError) as nobody:
        client.user("nobody")
    assert nobody.value.status == 404


def test_a_job_gets_an_identity_for_its_environment(fake_aws: GitHubStandIn) -> None:
    env = fake_aws.job_environment("prod")
    url = env["ACTIONS_ID_TOKEN_REQUEST_URL"] + "&audience=sts.amazonaws.com"
    request = urllib.request.Request(url, headers={"Authorization": f"bearer {OIDC_TOKEN}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        token = json.loads(answer.read())["value"]
    middle = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    assert (claims["sub"], claims["aud"]) == ("repo:org/repo:environment:prod", "sts.amazonaws.com")
    assert claims["sha"] == fake_aws.bare.branch("main")


def test_the_stand_in_refuses_what_a_token_may_not(fake_aws: GitHubStandIn) -> None:
    fake_aws.tokens["reader"] = {"contents": "read"}
    with pytest.raises(GitHubError, match="permissions: administration: write"):
        GitHub(fake_aws.url, "reader", "org/repo").put_environment("prod", [], protected_branches=False, wait_minutes=0)
    with pytest.raises(GitHubError) as other:
        GitHub(fake_aws.url, fake_aws.token, "org/other").pulls("topic", "main")
    assert other.value.status == 404


def credentials(folder: Path, remote: str) -> dict[str, str]:
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    subprocess.run(["git", "remote", "add", "origin", remote], cwd=folder, check=True)
    return Repository(folder)._credentials()


@pytest.mark.parametrize(
    ("remote", "server"),
    [("https://github.com/o/r", ""), ("https://ghe.example.com:8443/o/r.git", "https://ghe.example.com:8443")],
)
def test_the_token_goes_to_github_and_replaces_what_checkout_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remote: str, server: str
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "secret")
    monkeypatch.setenv("GITHUB_SERVER_URL", server)
    env = credentials(tmp_path, remote)
    left = f"http.https://{remote.split('/')[2]}/.extraheader"
    subprocess.run(["git", "config", left, "AUTHORIZATION: basic b2xk"], cwd=tmp_path, check=True)
    command = ["git", "config", "--get-urlmatch", "http.extraheader", remote]
    done = subprocess.run(command, cwd=tmp_path, env=dict(os.environ) | env, capture_output=True, text=True)
    assert done.stdout.split() == ["AUTHORIZATION:", "basic", base64.b64encode(b"x-access-token:secret").decode()]
    assert env["GIT_CONFIG_VALUE_0"] == ""  # empties git's list of headers


@pytest.mark.parametrize("remote", ["https://example.com/o/r", "http://github.com/o/r", "git@github.com:o/r", "/a/b"])
def test_the_token_goes_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remote: str) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "secret")
    monkeypatch.delenv("GITHUB_SERVER_URL", raising=False)
    assert credentials(tmp_path, remote) == {"GIT_TERMINAL_PROMPT": "0"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "`plain`"),
        ("a`b", "``a`b``"),
        ("`", "`` ` ``"),
        ("a\nb\x00c", "`a b c`"),
        ("", ""),
        ("x" * 400, f"`{'x' * 299}…`"),
    ],
    ids=["plain", "backtick", "only", "control", "empty", "long"],
)
def test_text_becomes_a_code_span(text: str, expected: str) -> None:
    assert code(text) == expected


def test_a_bar_does_not_end_a_cell_and_a_strange_address_is_no_link() -> None:
    assert code("a|b", in_table=True) == "`a\\|b`"
    assert code("a|b") == "`a|b`"
    assert link("x", "https://github.com/a/b") == "[`x`](https://github.com/a/b)"
    assert link("x", "https://github.com/a) <b>") == link("x", "javascript:alert(1)") == "`x`"
