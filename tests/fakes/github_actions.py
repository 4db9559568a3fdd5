"""Repository, contents, statuses, Actions settings, environments, variables and people of the fake GitHub."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from typing import Any

from fakes.github import Refused, Request, route
from fakes.github_pulls import now

Json = Any
NODE_ID = "R_fake"


@dataclass
class Actions:
    """What an administrator sets, and who there is."""

    can_approve_pull_request_reviews: bool = True
    default_workflow_permissions: str = "read"
    environments: dict[str, Json] = field(default_factory=dict)
    branch_policies: dict[str, list[Json]] = field(default_factory=dict)
    protected: set[str] = field(default_factory=set)
    locked_branches: set[str] = field(default_factory=set)  # a ruleset keeps the token from updating them
    variables: dict[str, str] = field(default_factory=dict)
    users: dict[str, int] = field(default_factory=lambda: {"reviewer": 11, "my-org": 12})
    teams: dict[str, int] = field(default_factory=lambda: {"ml-platform": 21})


# --- the repository ----------------------------------------------------------------------------------------------
@route("GET", "REPO")
def get_repository(request: Request) -> Json:
    github = request.github
    owner, _, name = github.repository.partition("/")
    found = {"full_name": github.repository, "name": name, "owner": {"login": owner}, "private": True}
    return found | {
        "node_id": NODE_ID,
        "default_branch": github.bare.default_branch,
        "delete_branch_on_merge": github.pulls.delete_branch_on_merge,
    }


@route("GET", "REPO/contents/{path*}", "contents: read")
def get_content(request: Request, path: str) -> Json:
    revision = request.query.get("ref", "HEAD")
    content = request.github.bare.content(revision, str(path))
    if content is None:
        raise Refused(404, "Not Found")
    text = base64.b64encode(content).decode()
    digest = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    return {"type": "file", "path": path, "encoding": "base64", "content": text, "sha": digest, "size": len(content)}


@route("GET", "REPO/git/ref/heads/{branch*}", "contents: read")
def get_ref(request: Request, branch: str) -> Json:
    sha = request.github.bare.branch(str(branch))
    if sha is None:
        raise Refused(404, "Not Found")
    return {"ref": f"refs/heads/{branch}", "object": {"type": "commit", "sha": sha}}


@route("GET", "REPO/commits", "contents: read")
def list_commits(request: Request) -> Json:
    """The commits up to `sha` that changed `path`, the newest first."""
    log = request.github.bare.git("log", "--format=%H", request.query["sha"], "--", request.query["path"])
    return request.part([{"sha": sha} for sha in log.split()])


@route("GET", "REPO/git/commits/{sha}", "contents: read")
def get_commit(request: Request, sha: str) -> Json:
    bare = request.github.bare
    if bare.commit(str(sha)) is None:
        raise Refused(404, "Not Found")
    return {"sha": sha, "tree": {"sha": bare.git("rev-parse", f"{sha}^{{tree}}")}}


@route("POST", "REPO/git/trees", "contents: write", 201)
def create_tree(request: Request) -> Json:
    """A tree from `base_tree`, which must be the hash of a tree, and files with their content."""
    bare, body = request.github.bare, request.body
    if bare.git("cat-file", "-t", body["base_tree"], check=False) != "tree":
        raise Refused(422, "base_tree is not a valid tree oid")
    files = [(entry["mode"], entry["path"], entry["content"]) for entry in body["tree"] if entry["type"] == "blob"]
    return {"sha": bare.tree_with(body["base_tree"], files)}


@route("POST", "REPO/git/commits", "contents: write", 201)
def create_commit(request: Request) -> Json:
    """A commit by the token's owner, which a job's token makes GitHub's bot."""
    bare, body = request.github.bare, request.body
    if bare.git("cat-file", "-t", body["tree"], check=False) != "tree" or not all(map(bare.commit, body["parents"])):
        raise Refused(422, "Tree SHA or parent does not exist or is not a tree or commit object")
    parents = [part for parent in body["parents"] for part in ("-p", parent)]
    return {"sha": bare.git("commit-tree", body["tree"], *parents, "-m", body["message"], author="github-actions[bot]")}


@route("POST", "/(?:api/)?graphql", "contents: write")
def update_refs(request: Request) -> Json:
    """The mutation updateRefs. GraphQL answers 200 with `errors` if it rejects a request."""
    changes = request.body["variables"]["input"]
    if "updateRefs" not in request.body["query"] or changes["repositoryId"] != NODE_ID:
        return {"errors": [{"type": "NOT_FOUND", "message": "Could not resolve to a node"}]}
    (update,) = changes["refUpdates"]
    bare, branch = request.github.bare, update["name"].removeprefix("refs/heads/")
    if (bare.branch(branch) or "0" * 40) != update["beforeOid"]:
        return {"data": {"updateRefs": None}, "errors": [{"message": "A ref is not at its expected object id"}]}
    if branch in request.github.actions.locked_branches:
        return {"data": {"updateRefs": None}, "errors": [{"message": "Repository rule violations found"}]}
    bare.git("update-ref", update["name"], update["afterOid"])
    return {"data": {"updateRefs": {"clientMutationId": None}}}


@route("DELETE", "REPO/git/refs/heads/{branch*}", "contents: write", 204)
def delete_ref(request: Request, branch: str) -> Json:
    if request.github.bare.branch(str(branch)) is None:
        raise Refused(422, "Reference does not exist")
    request.github.bare.delete_branch(str(branch))


# --- statuses and checks -----------------------------------------------------------------------------------------
@route("POST", "REPO/statuses/{sha}", "statuses: write", 201)
def add_status(request: Request, sha: str) -> Json:
    status = {"context": "default", "created_at": now(), **request.body}
    request.github.pulls.statuses.setdefault(str(sha), []).insert(0, status)
    return status


@route("GET", "REPO/commits/{sha}/status", "statuses: read")
def get_status(request: Request, sha: str) -> Json:
    """The latest status of each context, and what they come to."""
    latest: dict[str, Json] = {}
    for status in request.github.pulls.statuses.get(str(sha), []):
        latest.setdefault(status["context"], status)
    states = {status["state"] for status in latest.values()}
    whole = "failure" if states & {"failure", "error"} else "success" if states == {"success"} else "pending"
    return {"state": whole, "sha": sha, "statuses": list(latest.values()), "total_count": len(latest)}


@route("POST", "REPO/check-runs", "checks: write", 201)
def add_check(request: Request) -> Json:
    checks = request.github.pulls.checks.setdefault(request.body["head_sha"], [])
    checks.append({"id": len(checks) + 1, "status": "queued", "conclusion": None, **request.body})
    return checks[-1]


@route("GET", "REPO/commits/{sha}/check-runs", "checks: read")
def list_checks(request: Request, sha: str) -> Json:
    checks = request.github.pulls.checks.get(str(sha), [])
    return {"total_count": len(checks), "check_runs": checks}


# --- Actions' settings -------------------------------------------------------------------------------------------
@route("GET", "REPO/actions/permissions", "administration: read")
def get_permissions(request: Request) -> Json:
    return {"enabled": True, "allowed_actions": "all"}


@route("GET", "REPO/actions/permissions/workflow", "administration: read")
def get_workflow_permissions(request: Request) -> Json:
    actions = request.github.actions
    return {
        "default_workflow_permissions": actions.default_workflow_permissions,
        "can_approve_pull_request_reviews": actions.can_approve_pull_request_reviews,
    }


@route("PUT", "REPO/actions/permissions/workflow", "administration: write", 204)
def put_workflow_permissions(request: Request) -> Json:
    actions, body = request.github.actions, request.body
    if "can_approve_pull_request_reviews" in body:
        actions.can_approve_pull_request_reviews = body["can_approve_pull_request_reviews"]
    if "default_workflow_permissions" in body:
        actions.default_workflow_permissions = body["default_workflow_permissions"]


@route("GET", "REPO/actions/variables", "variables: read")
def list_variables(request: Request) -> Json:
    found = [{"name": name, "value": value} for name, value in sorted(request.github.actions.variables.items())]
    return {"total_count": len(found), "variables": found}


@route("POST", "REPO/actions/variables", "variables: write", 201)
def add_variable(request: Request) -> Json:
    name = request.body["name"].upper()
    if name in request.github.actions.variables:
        raise Refused(409, "Already exists")
    request.github.actions.variables[name] = request.body["value"]
    return {}


@route("PATCH", "REPO/actions/variables/{name}", "variables: write", 204)
def update_variable(request: Request, name: str) -> Json:
    if str(name) not in request.github.actions.variables:
        raise Refused(404, "Not Found")
    request.github.actions.variables[str(name)] = request.body["value"]


# --- environments ------------------------------------------------------------------------------------------------
@route("PUT", "REPO/environments/{name}", "administration: write")
def put_environment(request: Request, name: str) -> Json:
    """Reviewers must exist, and be six at most."""
    actions, body = request.github.actions, request.body
    known = {"User": {v: k for k, v in actions.users.items()}, "Team": {v: k for k, v in actions.teams.items()}}
    reviewers = []
    for reviewer in body.get("reviewers") or []:
        if reviewer["id"] not in known[reviewer["type"]]:
            raise Refused(422, f"Invalid reviewer: {reviewer['type']} {reviewer['id']}")
        title = "login" if reviewer["type"] == "User" else "slug"
        who = {"id": reviewer["id"], title: known[reviewer["type"]][reviewer["id"]]}
        reviewers.append({"type": reviewer["type"], "reviewer": who})
    if len(reviewers) > 6:
        raise Refused(422, "Too many reviewers")
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
        raise Refused(404, "Not Found")
    return request.github.actions.environments[str(name)]


@route("GET", "REPO/environments", "actions: read")
def list_environments(request: Request) -> Json:
    found = list(request.github.actions.environments.values())
    return {"total_count": len(found), "environments": found}


@route("GET", "REPO/environments/{name}/deployment-branch-policies", "actions: read")
def list_branch_policies(request: Request, name: str) -> Json:
    found = request.github.actions.branch_policies.get(str(name), [])
    return {"total_count": len(found), "branch_policies": request.part(found)}


@route("POST", "REPO/environments/{name}/deployment-branch-policies", "administration: write")
def add_branch_policy(request: Request, name: str) -> Json:
    """Only for an environment that names its branches."""
    actions = request.github.actions
    policy = actions.environments.get(str(name), {}).get("deployment_branch_policy") or {}
    if not policy.get("custom_branch_policies"):
        raise Refused(404, "Not Found")
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
        raise Refused(404, "Branch not found")
    return {"name": name, "commit": {"sha": commit}, "protected": name in request.github.actions.protected}


# --- people ------------------------------------------------------------------------------------------------------
@route("GET", "/users/{login}")
def get_user(request: Request, login: str) -> Json:
    if str(login) not in request.github.actions.users:
        raise Refused(404, "Not Found")
    return {"login": login, "id": request.github.actions.users[str(login)], "type": "User"}


@route("GET", "/orgs/{organisation}/teams/{slug}")
def get_team(request: Request, organisation: str, slug: str) -> Json:
    if str(slug) not in request.github.actions.teams:
        raise Refused(404, "Not Found")
    return {"slug": slug, "id": request.github.actions.teams[str(slug)], "organization": {"login": organisation}}
