"""Pull requests, issues, contents, statuses and checks of the fake GitHub."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fakes.github import Refused, Request, route
from fakes.github_git import Conflict

if TYPE_CHECKING:
    from fakes.github import FakeGitHub

Json = Any


class Pulls:
    """Issues and pull requests, which share their numbers; statuses and check runs by commit."""

    def __init__(self, github: FakeGitHub) -> None:
        self.github = github
        self.issues: dict[int, Json] = {}
        self.pulls: dict[int, Json] = {}
        self.comments: dict[int, list[Json]] = {}
        self.reviews: dict[int, list[Json]] = {}
        self.statuses: dict[str, list[Json]] = {}
        self.checks: dict[str, list[Json]] = {}
        self.delete_branch_on_merge = False

    def new_number(self) -> int:
        """The next number."""
        return len(self.issues) + len(self.pulls) + 1

    def get(self, number: int) -> Json:
        """A pull request as it is now: its head and base move with their branches while it is open."""
        if number not in self.pulls:
            raise Refused(404, "Not Found")
        pull, bare = self.pulls[number], self.github.bare
        if pull["state"] == "open":
            head, base = bare.branch(pull["head"]["ref"]), bare.branch(pull["base"]["ref"])
            if head is None:  # GitHub closes a pull request whose branch is deleted
                pull |= {"state": "closed", "closed_at": now()}
            else:
                pull["head"]["sha"], pull["base"]["sha"] = head, base
        return pull

    def create(self, body: Json, user: str) -> Json:
        """Open a pull request."""
        bare, owner = self.github.bare, self.github.repository.partition("/")[0]
        head, base = body["head"].rpartition(":")[2], body["base"]
        for name, branch in (("head", head), ("base", base)):
            if bare.branch(branch) is None:
                raise invalid("PullRequest", {"field": name, "code": "invalid"})
        if any(p["head"]["ref"] == head and p["base"]["ref"] == base for p in self.all("open")):
            said = f"A pull request already exists for {owner}:{head}."
            raise invalid("PullRequest", {"code": "custom", "message": said})
        if not bare.is_ahead(head, base):
            raise invalid("PullRequest", {"code": "custom", "message": f"No commits between {base} and {head}"})
        number = self.new_number()
        where = f"{self.github.url}/repos/{self.github.repository}/pulls/{number}"
        repository = {"full_name": self.github.repository}
        self.pulls[number] = {
            "number": number,
            "url": where,
            "html_url": f"https://github.com/{self.github.repository}/pull/{number}",
            "title": body["title"],
            "body": body.get("body"),
            "state": "open",
            "draft": body.get("draft", False),
            "merged": False,
            "merged_at": None,
            "merged_by": None,
            "merge_commit_sha": None,
            "closed_at": None,
            "created_at": now(),
            "updated_at": now(),
            "user": {"login": user},
            "labels": [],
            "head": {"ref": head, "label": f"{owner}:{head}", "sha": "", "repo": repository},
            "base": {"ref": base, "label": f"{owner}:{base}", "sha": "", "repo": repository},
        }
        return self.get(number)

    def all(self, state: str) -> list[Json]:
        """The pull requests in a state (open, closed or all), the newest first."""
        found = [self.get(number) for number in sorted(self.pulls, reverse=True)]
        return [pull for pull in found if state in ("all", pull["state"])]

    def merge(
        self, number: int, method: str = "merge", title: str = "", message: str = "", by: str = "reviewer"
    ) -> Json:
        """Merge as a person would on the website; raises Refused where that cannot be."""
        pull = self.get(number)
        if pull["state"] != "open":
            raise Refused(405, "Pull Request is not mergeable")
        head, base = pull["head"]["ref"], pull["base"]["ref"]
        merged = f"Merge pull request #{number} from {pull['head']['label'].replace(':', '/')}"
        default = f"{pull['title']} (#{number})" if method == "squash" else merged
        try:
            sha = self.github.bare.merge(base, head, method, title or default, message or pull["title"])
        except Conflict:
            raise Refused(405, "Pull Request is not mergeable") from None
        pull |= {"state": "closed", "merged": True, "merged_at": now(), "closed_at": now(), "merge_commit_sha": sha}
        pull["merged_by"] = {"login": by}
        if self.delete_branch_on_merge:
            self.github.bare.delete_branch(head)
        return {"sha": sha, "merged": True, "message": "Pull Request successfully merged"}

    def issue(self, number: int) -> Json:
        """An issue, or a pull request seen as one."""
        if number in self.issues:
            return self.issues[number]
        return self.get(number)


def now() -> str:
    """The time, as GitHub writes it."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def invalid(resource: str, error: Json) -> Refused:
    """The refusal of a request whose fields are not good."""
    return Refused(422, "Validation Failed", [{"resource": resource, **error}])


# --- pull requests -----------------------------------------------------------------------------------------------
@route("GET", "REPO/pulls", "pull-requests: read")
def list_pulls(request: Request) -> Json:
    """By state, head (`owner:branch`) and base; the newest first unless asked otherwise."""
    found = request.github.pulls.all(request.query.get("state", "open"))
    for name in ("head", "base"):
        wanted = request.query.get(name)
        key = "label" if name == "head" else "ref"
        found = [pull for pull in found if wanted in (None, pull[name][key])]
    return request.part(found if request.query.get("direction", "desc") == "desc" else found[::-1])


@route("POST", "REPO/pulls", "pull-requests: write", 201)
def create_pull(request: Request) -> Json:
    """Refused where the repository's setting keeps Actions from it."""
    if not request.github.actions.can_approve_pull_request_reviews:
        raise Refused(403, "GitHub Actions is not permitted to create or approve pull requests.")
    return request.github.pulls.create(request.body, "github-actions[bot]")


@route("GET", "REPO/pulls/{number}", "pull-requests: read")
def get_pull(request: Request, number: int) -> Json:
    return request.github.pulls.get(number)


@route("PATCH", "REPO/pulls/{number}", "pull-requests: write")
def update_pull(request: Request, number: int) -> Json:
    pull = request.github.pulls.get(number)
    pull |= {name: request.body[name] for name in ("title", "body", "state") if name in request.body}
    return pull | {"updated_at": now()}


@route("PUT", "REPO/pulls/{number}/merge", "contents: write")
def merge_pull(request: Request, number: int) -> Json:
    pull, body = request.github.pulls.get(number), request.body
    if body.get("sha", pull["head"]["sha"]) != pull["head"]["sha"]:
        raise Refused(409, "Head branch was modified. Review and try the merge again.")
    words = (body.get("commit_title", ""), body.get("commit_message", ""))
    return request.github.pulls.merge(number, body.get("merge_method", "merge"), *words)


@route("GET", "REPO/pulls/{number}/files", "pull-requests: read")
def pull_files(request: Request, number: int) -> Json:
    pull = request.github.pulls.get(number)
    return request.part(request.github.bare.files(pull["base"]["sha"], pull["head"]["sha"]))


@route("GET", "REPO/pulls/{number}/reviews", "pull-requests: read")
def list_reviews(request: Request, number: int) -> Json:
    return request.part(request.github.pulls.reviews.get(number, []))


@route("POST", "REPO/pulls/{number}/reviews", "pull-requests: write")
def add_review(request: Request, number: int) -> Json:
    states = {"APPROVE": "APPROVED", "REQUEST_CHANGES": "CHANGES_REQUESTED"}
    review = {"state": states.get(request.body.get("event"), "COMMENTED"), "user": {"login": "reviewer"}}
    review |= {"commit_id": request.github.pulls.get(number)["head"]["sha"], "body": request.body.get("body", "")}
    request.github.pulls.reviews.setdefault(number, []).append(review)
    return review


@route("GET", "REPO/commits/{sha}/pulls", "pull-requests: read")
def pulls_of_commit(request: Request, sha: str) -> Json:
    """Those that brought the commit: it is their merge commit or their head."""
    found = request.github.pulls.all("all")
    return [pull for pull in found if sha in (pull["merge_commit_sha"], pull["head"]["sha"])]


# --- issues, comments, labels ------------------------------------------------------------------------------------
@route("POST", "REPO/issues", "issues: write", 201)
def create_issue(request: Request) -> Json:
    pulls, body = request.github.pulls, request.body
    number = pulls.new_number()
    labels = [{"name": name} for name in body.get("labels", [])]
    pulls.issues[number] = {"number": number, "title": body["title"], "body": body.get("body"), "state": "open"}
    pulls.issues[number] |= {"labels": labels, "user": {"login": "github-actions[bot]"}, "created_at": now()}
    return pulls.issues[number]


@route("GET", "REPO/issues", "issues: read")
def list_issues(request: Request) -> Json:
    state, label = request.query.get("state", "open"), request.query.get("labels")
    pulls = request.github.pulls
    found = [*pulls.issues.values(), *(p | {"pull_request": {"url": p["url"]}} for p in pulls.all("all"))]
    chosen = [i for i in found if state in ("all", i["state"])]
    return request.part([i for i in chosen if label is None or label in {x["name"] for x in i["labels"]}])


@route("PATCH", "REPO/issues/{number}", "issues: write")
def update_issue(request: Request, number: int) -> Json:
    issue = request.github.pulls.issue(number)
    issue |= {name: request.body[name] for name in ("title", "body", "state") if name in request.body}
    return issue


@route("POST", "REPO/issues/{number}/labels", "issues: write")
def add_labels(request: Request, number: int) -> Json:
    issue = request.github.pulls.issue(number)
    names = dict.fromkeys([*(label["name"] for label in issue["labels"]), *request.body["labels"]])
    issue["labels"] = [{"name": name} for name in names]
    return issue["labels"]


@route("GET", "REPO/issues/{number}/comments", "issues: read")
def list_comments(request: Request, number: int) -> Json:
    request.github.pulls.issue(number)
    return request.part(request.github.pulls.comments.get(number, []))


@route("POST", "REPO/issues/{number}/comments", "issues: write", 201)
def add_comment(request: Request, number: int) -> Json:
    request.github.pulls.issue(number)
    comments = request.github.pulls.comments.setdefault(number, [])
    comments.append({"id": number * 1000 + len(comments), "body": request.body["body"], "created_at": now()})
    return comments[-1]
