"""The GitHub client: branches, retries, errors; and escaping for Markdown."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.github import Failure, FakeGitHub

from sagegate.errors import SagegateError
from sagegate.markdown import code, link
from sagegate.repository.github import (
    ACTIONS_SETTING,
    BranchMovedError,
    GitHub,
    GitHubError,
    ensure_environment,
)


@pytest.fixture
def fake_github(tmp_path: Path) -> Iterator[FakeGitHub]:
    bare = tmp_path / "bare.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(bare)], check=True)
    with FakeGitHub(bare, "org/repo") as github:
        tree = github.bare.git("hash-object", "-w", "-t", "tree", "/dev/null")
        main = github.bare.git("commit-tree", tree, "-m", "first")
        github.bare.git("update-ref", "refs/heads/main", main)
        github.bare.git("update-ref", "refs/heads/topic", github.bare.git("commit-tree", tree, "-p", main, "-m", "x"))
        yield github


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that the client made instead of sleeping."""
    made: list[float] = []
    monkeypatch.setattr("sagegate.repository.github.time.sleep", made.append)
    return made


@pytest.fixture
def client(fake_github: FakeGitHub, waits: list[float]) -> GitHub:
    return GitHub(fake_github.url, fake_github.token, "org/repo")


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
def test_server_errors_and_rate_limits_are_retried(
    fake_github: FakeGitHub, client: GitHub, waits: list[float], failure: Failure, expected: list[float]
) -> None:
    fake_github.failures.append(failure)
    assert client.pulls("topic", "main") == []
    assert waits == expected


def test_the_error_of_the_last_attempt_is_reported(fake_github: FakeGitHub, client: GitHub, waits: list[float]) -> None:
    fake_github.failures.append(Failure("GET", 500, "Server Error", times=9))
    with pytest.raises(GitHubError, match=r"GitHub rejected GET /repos/org/repo/pulls \(500\): Server Error"):
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
def test_an_error_is_one_line_with_a_remedy(
    fake_github: FakeGitHub, client: GitHub, failure: Failure, words: str
) -> None:
    fake_github.failures.append(failure)
    with pytest.raises(GitHubError) as error:
        client.create_pull("title", "body", "topic", "main")
    assert words in str(error.value)
    assert "\n" not in str(error.value) and fake_github.token not in str(error.value)


def test_an_unreachable_server_is_one_line(client: GitHub, fake_github: FakeGitHub, waits: list[float]) -> None:
    fake_github.close()
    try:
        with pytest.raises(SagegateError, match="GitHub does not answer at http"):
            client.pulls("topic", "main")
        assert len(waits) == 3
    finally:
        fake_github.__init__(fake_github.bare.folder, "org/repo")  # type: ignore[misc]


def test_a_branch_is_moved_only_from_where_it_was_read(client: GitHub, fake_github: FakeGitHub) -> None:
    main, topic = client.branch_commit("main"), client.branch_commit("topic")
    assert main and topic and client.branch_commit("new") is None
    commit = client.commit_file(main, "deployments/staging.json", "{}\n", "Promote")
    with pytest.raises(BranchMovedError):
        client.move_branch("topic", main, commit)
    with pytest.raises(BranchMovedError):
        client.move_branch("topic", None, commit)
    client.move_branch("topic", topic, commit)
    client.move_branch("new", None, commit)
    assert client.branch_commit("topic") == client.branch_commit("new") == commit
    assert client.read_file(commit, "deployments/staging.json") == "{}\n"
    assert client.read_file(main, "deployments/staging.json") is None
    assert client.commits_of_file(commit, "deployments/staging.json") == [commit]
    assert fake_github.bare.git("rev-parse", "new^") == main


def test_a_token_without_the_permission_is_an_error(fake_github: FakeGitHub) -> None:
    fake_github.tokens["reader"] = {"contents": "read", "actions": "read"}
    reader = GitHub(fake_github.url, "reader", "org/repo")
    with pytest.raises(GitHubError, match="permissions: administration: write"):
        ensure_environment(reader, "prod", ())
    with pytest.raises(GitHubError, match="permissions: contents: write"):
        reader.commit_file(fake_github.bare.branch("main") or "", "a.txt", "a", "message")
    with pytest.raises(GitHubError) as other:
        GitHub(fake_github.url, fake_github.token, "org/other").pulls("topic", "main")
    assert other.value.status == 404


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


def test_a_bar_does_not_end_a_cell_and_an_unsafe_address_is_not_a_link() -> None:
    assert code("a|b", in_table=True) == "`a\\|b`"
    assert code("a|b") == "`a|b`"
    assert link("x", "https://github.com/a/b") == "[`x`](https://github.com/a/b)"
    assert link("x", "https://github.com/a) <b>") == link("x", "javascript:alert(1)") == "`x`"
