"""The routes and data of the fake GitHub: pull requests, repository, environments, accounts."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fakes.github import Rejected, Request, route
from fakes.github_git import Conflict
from fakes.json_server import Json

if TYPE_CHECKING:
    from fakes.github import FakeGitHub

NODE_ID = "R_fake"
OWNER_ID, REPOSITORY_ID = 101, 202


@dataclass
class Actions:
    """Settings of the repository that an administrator changes, and the accounts that exist."""

    can_approve_pull_request_reviews: bool = True
    # True for every repository made, renamed or transferred since 2026-07-15; None for a server that does not say it.
    has_immutable_subject: bool | None = True
    subject_claims: list[str] | None = None  # an owner's own template of the subject
    variables: dict[str, str] = field(default_factory=dict)
    environments: dict[str, Json] = field(default_factory=dict)
    branch_policies: dict[str, list[Json]] = field(default_factory=dict)
    protected: set[str] = field(default_factory=set)
    locked_branches: set[str] = field(default_factory=set)  # a ruleset rejects updates of these
    rules: list[Json] = field(default_factory=list)
    codeowners_errors: list[Json] = field(default_factory=list)
    lock_message: str = "Repository rule violations found"
    users: dict[str, int] = field(default_factory=lambda: {"reviewer": 11, "my-org": 12})
    teams: dict[str, int] = field(default_factory=lambda: {"ml-platform": 21})


class Pulls:
    """The pull requests."""

    def __init__(self, github: FakeGitHub) -> None:
        self.github = github
        self.pulls: dict[int, Json] = {}

    def get(self, number: int) -> Json:
        """Return a pull request. While it is open, its head and base move with their branches."""
        if number not in self.pulls:
            raise Rejected(404, "Not Found")
        pull, bare = self.pulls[number], self.github.bare
        if pull["state"] == "open":
            head, base = bare.branch(pull["head"]["ref"]), bare.branch(pull["base"]["ref"])
            if head is None:  # GitHub closes a pull request whose branch is deleted
                pull["state"] = "closed"
            else:
                pull["head"]["sha"], pull["base"]["sha"] = head, base
        return pull

    def create(self, body: Json) -> Json:
        """Open a pull request; raises Rejected."""
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
        number = len(self.pulls) + 1
        self.pulls[number] = {
            "number": number,
            "html_url": f"https://github.com/{self.github.repository}/pull/{number}",
            "title": body["title"],
            "body": body.get("body"),
            "state": "open",
            "merged_at": None,
            "merge_commit_sha": None,
            "head": {"ref": head, "label": f"{owner}:{head}", "sha": ""},
            "base": {"ref": base, "sha": ""},
        }
        return self.get(number)

    def all(self, state: str) -> list[Json]:
        """Return the pull requests in a state (open, closed or all), newest first."""
        found = [self.get(number) for number in sorted(self.pulls, reverse=True)]
        return [pull for pull in found if state in ("all", pull["state"])]

    def merge(self, number: int, method: str = "merge") -> None:
        """Merge as a person does on the website; raises Rejected if it cannot be merged."""
        pull = self.get(number)
        if pull["state"] != "open":
            raise Rejected(405, "Pull Request is not mergeable")
        head, base = pull["head"]["ref"], pull["base"]["ref"]
        merged = f"Merge pull request #{number} from {pull['head']['label'].replace(':', '/')}"
        title = f"{pull['title']} (#{number})" if method == "squash" else merged
        try:
            sha = self.github.bare.merge(base, head, method, title, pull["title"])
        except Conflict:
            raise Rejected(405, "Pull Request is not mergeable") from None
        pull |= {"state": "closed", "merged_at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", "merge_commit_sha": sha}


def invalid(resource: str, error: Json) -> Rejected:
    """Return the error of a request with a wrong field."""
    return Rejected(422, "Validation Failed", [{"resource": resource, **error}])


# --- pull requests -----------------------------------------------------------------------------------------------
@route("GET", "REPO/pulls", "pull-requests: read")
def list_pulls(request: Request) -> Json:
    """List by state, head (`owner:branch`) and base, newest first by default."""
    found = request.github.pulls.all(request.query.get("state", "open"))
    for name in ("head", "base"):
        wanted = request.query.get(name)
        key = "label" if name == "head" else "ref"
        found = [pull for pull in found if wanted in (None, pull[name][key])]
    return request.part(found if request.query.get("direction", "desc") == "desc" else found[::-1])


@route("POST", "REPO/pulls", "pull-requests: write", 201)
def create_pull(request: Request) -> Json:
    """Rejected where the repository's setting keeps Actions from it."""
    if not request.github.actions.can_approve_pull_request_reviews:
        raise Rejected(403, "GitHub Actions is not permitted to create or approve pull requests.")
    return request.github.pulls.create(request.body)


@route("PATCH", "REPO/pulls/{number}", "pull-requests: write")
def update_pull(request: Request, number: int) -> Json:
    pull = request.github.pulls.get(number)
    pull |= {name: request.body[name] for name in ("title", "body", "state") if name in request.body}
    return pull


@route("GET", "REPO/commits/{sha}/pulls", "pull-requests: read")
def pulls_of_commit(request: Request, sha: str) -> Json:
    """Return the pull requests whose merge commit or head is the commit."""
    found = request.github.pulls.all("all")
    return [pull for pull in found if sha in (pull["merge_commit_sha"], pull["head"]["sha"])]


# --- the repository ----------------------------------------------------------------------------------------------
@route("GET", "REPO")
def get_repository(request: Request) -> Json:
    github = request.github
    return {"full_name": github.repository, "node_id": NODE_ID, "default_branch": github.bare.default_branch}


@route("GET", "REPO/contents/{path*}", "contents: read")
def get_content(request: Request, path: str) -> Json:
    revision = request.query.get("ref", "HEAD")
    content = request.github.bare.content(revision, str(path))
    if content is None:
        raise Rejected(404, "Not Found")
    return {"type": "file", "encoding": "base64", "content": base64.b64encode(content).decode()}


@route("GET", "REPO/git/ref/heads/{branch*}", "contents: read")
def get_ref(request: Request, branch: str) -> Json:
    sha = request.github.bare.branch(str(branch))
    if sha is None:
        raise Rejected(404, "Not Found")
    return {"ref": f"refs/heads/{branch}", "object": {"type": "commit", "sha": sha}}


@route("GET", "REPO/commits", "contents: read")
def list_commits(request: Request) -> Json:
    """Return the commits up to `sha` that changed `path`, newest first."""
    log = request.github.bare.git("log", "--format=%H", request.query["sha"], "--", request.query["path"])
    return request.part([{"sha": sha} for sha in log.split()])


@route("GET", "REPO/git/commits/{sha}", "contents: read")
def get_commit(request: Request, sha: str) -> Json:
    bare = request.github.bare
    if bare.commit(str(sha)) is None:
        raise Rejected(404, "Not Found")
    return {"sha": sha, "tree": {"sha": bare.git("rev-parse", f"{sha}^{{tree}}")}}


@route("POST", "REPO/git/trees", "contents: write", 201)
def create_tree(request: Request) -> Json:
    """Create a tree from `base_tree` (the hash of a tree) and files with content."""
    bare, body = request.github.bare, request.body
    if bare.git("cat-file", "-t", body["base_tree"], check=False) != "tree":
        raise Rejected(422, "base_tree is not a valid tree oid")
    files = [(entry["mode"], entry["path"], entry["content"]) for entry in body["tree"] if entry["type"] == "blob"]
    return {"sha": bare.tree_with(body["base_tree"], files)}


@route("POST", "REPO/git/commits", "contents: write", 201)
def create_commit(request: Request) -> Json:
    """Create a commit; with a job's token its author is GitHub's bot."""
    bare, body = request.github.bare, request.body
    if bare.git("cat-file", "-t", body["tree"], check=False) != "tree" or not all(map(bare.commit, body["parents"])):
        raise Rejected(422, "Tree SHA or parent does not exist or is not a tree or commit object")
    parents = [part for parent in body["parents"] for part in ("-p", parent)]
    return {"sha": bare.git("commit-tree", body["tree"], *parents, "-m", body["message"], author="github-actions[bot]")}


@route("POST", "/(?:api/)?graphql", "contents: write")
def update_refs(request: Request) -> Json:
    """Run the mutation updateRefs. GraphQL answers 200 with `errors` if it rejects a request."""
    changes = request.body["variables"]["input"]
    if "updateRefs" not in request.body["query"] or changes["repositoryId"] != NODE_ID:
        return {"errors": [{"type": "NOT_FOUND", "message": "Could not resolve to a node"}]}
    (update,) = changes["refUpdates"]
    bare, branch = request.github.bare, update["name"].removeprefix("refs/heads/")
    if (bare.branch(branch) or "0" * 40) != update["beforeOid"]:
        return {"data": {"updateRefs": None}, "errors": [{"message": "A ref is not at its expected object id"}]}
    if branch in request.github.actions.locked_branches:
        return {"data": {"updateRefs": None}, "errors": [{"message": request.github.actions.lock_message}]}
    bare.git("update-ref", update["name"], update["afterOid"])
    return {"data": {"updateRefs": {"clientMutationId": None}}}


@route("GET", "REPO/actions/permissions/workflow", "administration: read")
def get_workflow_permissions(request: Request) -> Json:
    actions = request.github.actions
    return {
        "default_workflow_permissions": "read",
        "can_approve_pull_request_reviews": actions.can_approve_pull_request_reviews,
    }


@route("GET", "REPO/actions/variables/{name}", "administration: read")
def get_variable(request: Request, name: str) -> Json:
    if name not in request.github.actions.variables:
        raise Rejected(404, "Not Found")
    return {"name": name, "value": request.github.actions.variables[name]}


@route("POST", "REPO/actions/variables", "administration: write", 201)
def create_variable(request: Request) -> Json:
    if request.body["name"] in request.github.actions.variables:
        raise Rejected(409, "Already exists - Variable already exists")
    request.github.actions.variables[request.body["name"]] = request.body["value"]
    return {}


@route("PATCH", "REPO/actions/variables/{name}", "administration: write", 204)
def update_variable(request: Request, name: str) -> Json:
    request.github.actions.variables[name] = request.body["value"]


@route("GET", "REPO/actions/oidc/customization/sub", "actions: read")
def get_subject_customization(request: Request) -> Json:
    """Source: "GitHub Actions OIDC" in GitHub's REST reference."""
    actions = request.github.actions
    found: Json = {"use_default": actions.subject_claims is None}
    if actions.subject_claims is not None:
        return found | {"include_claim_keys": actions.subject_claims}
    if actions.has_immutable_subject is None:
        return found
    prefix = subject_prefix(request.github.repository, actions.has_immutable_subject)
    return found | {"use_immutable_subject": actions.has_immutable_subject, "sub_claim_prefix": prefix}


def subject_prefix(repository: str, is_immutable: bool | None = True) -> str:
    """Return how the subject of the repository's tokens begins."""
    owner, _, name = repository.partition("/")
    return f"repo:{owner}@{OWNER_ID}/{name}@{REPOSITORY_ID}" if is_immutable else f"repo:{repository}"


@route("PUT", "REPO/environments/{name}", "administration: write")
def put_environment(request: Request, name: str) -> Json:
    """Create or change an environment. Reviewers must exist, and be six at most."""
    actions, body = request.github.actions, request.body
    known = {"User": {v: k for k, v in actions.users.items()}, "Team": {v: k for k, v in actions.teams.items()}}
    reviewers = []
    for reviewer in body.get("reviewers") or []:
        if reviewer["id"] not in known[reviewer["type"]]:
            raise Rejected(422, f"Invalid reviewer: {reviewer['type']} {reviewer['id']}")
        title = "login" if reviewer["type"] == "User" else "slug"
        who = {"id": reviewer["id"], title: known[reviewer["type"]][reviewer["id"]]}
        reviewers.append({"type": reviewer["type"], "reviewer": who})
    if len(reviewers) > 6:
        raise Rejected(422, "Too many reviewers")
    alone = bool(body.get("prevent_self_review"))
    required = {"type": "required_reviewers", "prevent_self_review": alone, "reviewers": reviewers}
    rules: list[Json] = [required] if reviewers else []
    rules += [{"type": "wait_timer", "wait_timer": body["wait_timer"]}] if body.get("wait_timer") else []
    policy = body.get("deployment_branch_policy")
    rules += [{"type": "branch_policy"}] if policy else []
    actions.environments[str(name)] = {"name": name, "protection_rules": rules, "deployment_branch_policy": policy}
    return actions.environments[str(name)]


@route("GET", "REPO/environments/{name}", "actions: read")
def get_environment(request: Request, name: str) -> Json:
    if str(name) not in request.github.actions.environments:
        raise Rejected(404, "Not Found")
    return request.github.actions.environments[str(name)]


@route("GET", "REPO/environments/{name}/deployment-branch-policies", "actions: read")
def list_branch_policies(request: Request, name: str) -> Json:
    found = request.github.actions.branch_policies.get(str(name), [])
    return {"total_count": len(found), "branch_policies": request.part(found)}


@route("POST", "REPO/environments/{name}/deployment-branch-policies", "administration: write")
def add_branch_policy(request: Request, name: str) -> Json:
    """Add a branch to an environment with custom branch policies."""
    actions = request.github.actions
    policy = actions.environments.get(str(name), {}).get("deployment_branch_policy") or {}
    if not policy.get("custom_branch_policies"):
        raise Rejected(404, "Not Found")
    found = actions.branch_policies.setdefault(str(name), [])
    made = {"id": 1 + max((p["id"] for p in found), default=100), "name": request.body["name"], "type": "branch"}
    found.append(made)
    return made


@route("DELETE", "REPO/environments/{name}/deployment-branch-policies/{number}", "administration: write", 204)
def delete_branch_policy(request: Request, name: str, number: int) -> Json:
    kept = request.github.actions.branch_policies[str(name)]
    kept[:] = [policy for policy in kept if policy["id"] != number]


@route("GET", "REPO/branches/{name}", "contents: read")
def get_branch(request: Request, name: str) -> Json:
    commit = request.github.bare.branch(str(name))
    if commit is None:
        raise Rejected(404, "Branch not found")
    return {"name": name, "commit": {"sha": commit}, "protected": name in request.github.actions.protected}


@route("GET", "REPO/rules/branches/{name}", "contents: read")
def get_branch_rules(request: Request, name: str) -> list[Json]:
    """Return the rules of rulesets. Source: docs.github.com/rest/repos/rules, "Get rules for a branch"."""
    return request.github.actions.rules


@route("GET", "REPO/codeowners/errors", "contents: read")
def get_codeowners_errors(request: Request) -> Json:
    """Source: docs.github.com/rest/repos/repos, "List CODEOWNERS errors"."""
    if request.github.bare.content(request.query["ref"], ".github/CODEOWNERS") is None:
        raise Rejected(404, "Not Found")
    return {"errors": request.github.actions.codeowners_errors}


@route("GET", "/users/{login}")
def get_user(request: Request, login: str) -> Json:
    if str(login) not in request.github.actions.users:
        raise Rejected(404, "Not Found")
    return {"login": login, "id": request.github.actions.users[str(login)], "type": "User"}


@route("GET", "/orgs/{organisation}/teams/{slug}")
def get_team(request: Request, organisation: str, slug: str) -> Json:
    if str(slug) not in request.github.actions.teams:
        raise Rejected(404, "Not Found")
    return {"slug": slug, "id": request.github.actions.teams[str(slug)], "organization": {"login": organisation}}
