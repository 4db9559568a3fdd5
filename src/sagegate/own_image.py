"""`sagegate image`: build the project's own container image, push it, and pin its digest in mlops.toml.

The image's tag is the digest of what it is made from, and a tag in the repository never moves, so the same files are
built once. SageMaker refuses images with an OCI manifest or with attestations, as Docker makes them by default
(github.com/aws/amazon-sagemaker-feedback/issues/180, "Support for OCI image manifest containers"). The options are in
"Image and registry exporters" in the Docker documentation.
"""

from __future__ import annotations

import base64
import re
import subprocess
from pathlib import Path
from typing import Any

from sagegate import markdown, output
from sagegate.config import ImageSection, load_settings, parse_settings
from sagegate.errors import SagegateError
from sagegate.files import write_atomically
from sagegate.images import image_uri, repository_uri, source_digest
from sagegate.repository import git
from sagegate.repository.github import BranchMovedError, GitHub, open_github
from sagegate.session import Session, open_session

BRANCH = "image"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
BUILD = ("buildx", "build", "--pull", "--platform=linux/amd64", "--provenance=false")
OUTPUT = "--output=type=image,oci-mediatypes=false,push=true"


def image(root: Path, opens: bool) -> None:
    """Build and push the image unless it was before, and write [image] in mlops.toml; `opens` a pull request for that.

    Raises SagegateError if a file, the repository, docker or the push is not as it must be.
    """
    source = source_digest(root)
    if source is None:
        raise SagegateError("image/Dockerfile is missing: write it first, see `sagegate image --help`")
    github = open_github(load_settings(root).project.repository) if opens else None
    session = open_session(root, "dev")
    if (digest := find_image(session, source)) is None:
        build_image(session, source)
        digest = find_image(session, source)
    if digest is None:
        raise SagegateError(f"ECR has no image {source[:12]} after the push: run `sagegate image` again")
    section = ImageSection(digest, source)
    if github:
        propose_image(github, git.path_prefix(root), section)
        return
    file = root / "mlops.toml"
    write_atomically(file, with_image(file.read_text(encoding="utf-8"), section).encode())
    output.verdict(True, f"mlops.toml has image {digest}", "commit it; jobs use it from the next run on")


def find_image(session: Session, source: str) -> str | None:
    """Return the digest of the image that was made from `source`, or None. Raises SagegateError if it is unusable."""
    ecr, repository = session.client("ecr"), session.names.image_repository
    try:
        found = ecr.describe_images(repositoryName=repository, imageIds=[{"imageTag": source}])["imageDetails"]
    except ecr.exceptions.ImageNotFoundException:
        return None
    except ecr.exceptions.RepositoryNotFoundException:
        raise SagegateError(
            f"account {session.names.account_id} has no ECR repository {repository}: write image_repository = true "
            "under [platform] in environments/dev.toml and run `sagegate bootstrap dev`"
        ) from None
    if (kind := found[0].get("imageManifestMediaType")) != MANIFEST:
        delete = f"aws ecr batch-delete-image --repository-name {repository} --image-ids imageTag={source}"
        raise SagegateError(
            f"SageMaker refuses an image with a manifest {kind}: update docker, run `{delete}`, try again"
        )
    return str(found[0]["imageDigest"])


def build_image(session: Session, source: str) -> None:
    """Build image/ on SageMaker's image and push it. Raises SagegateError if docker fails."""
    base, repository = image_uri(session.environment.region), repository_uri(session.names)
    # "The authorization token is valid for ... any Amazon ECR registry": GetAuthorizationToken, ECR API reference
    token = session.client("ecr").get_authorization_token()["authorizationData"][0]["authorizationToken"]
    user, _, password = base64.b64decode(token).decode().partition(":")
    for uri in (base, repository):
        _docker(session, "login", "--username", user, "--password-stdin", uri.partition("/")[0], input=password)
    _docker(session, *BUILD, OUTPUT, f"--build-arg=BASE={base}", f"--tag={repository}:{source}", "image")


def _docker(session: Session, *args: str, **options: Any) -> None:
    try:
        done = subprocess.run(["docker", *args], cwd=session.root, text=True, **options)
    except FileNotFoundError:
        raise SagegateError("docker is not installed: install it, or let the workflow image build the image") from None
    if done.returncode:
        raise SagegateError(f"docker {args[0]} failed with exit code {done.returncode}: its messages are above")


def with_image(text: str, section: ImageSection) -> str:
    """Return the text of a mlops.toml with this [image]. Raises SagegateError if its form is too unusual to change."""
    keys = {"digest": section.digest, "source": section.source}
    changed = text
    for key, value in keys.items():
        changed = re.sub(rf'(?ms)^(\[image\](?:(?!^\[).)*?^{key} *= *)"[^"\n]*"', rf'\g<1>"{value}"', changed, count=1)
    if not re.search(r"(?m)^\[image\]", text):
        lines = "".join(f'{key} = "{value}"\n' for key, value in keys.items())
        changed = f"{text.rstrip()}\n\n[image] # `sagegate image` writes it\n{lines}"
    try:
        fits = parse_settings(changed).image == section
    except SagegateError:  # as with an inline table
        fits = False
    if not fits:
        raise SagegateError(f"mlops.toml: [image] is not in its usual form: write it by hand: {keys}")
    return changed


def propose_image(github: GitHub, prefix: str, section: ImageSection) -> None:
    """Open the pull request that writes [image] into mlops.toml on the default branch, or update it."""
    base, path, title = github.default_branch(), f"{prefix}mlops.toml", f"Use container image {section.digest[:19]}"
    base_commit, head = github.branch_commit(base), github.branch_commit(BRANCH)
    text = github.read_file(base_commit, path) if base_commit else None
    if base_commit is None or text is None:
        raise SagegateError(f"{path} is missing on the default branch of {github.repository}: push the project there")
    if parse_settings(text).image == section:
        output.verdict(True, f"{path} on {base} has image {section.digest} already", None)
        return
    changed = with_image(text, section)
    pull = next((pull for pull in github.pulls(BRANCH, base) if pull["state"] == "open"), None)
    result = "unchanged"
    if pull is None or head is None or github.read_file(head, path) != changed:
        try:
            github.move_branch(BRANCH, head, github.commit_file(base_commit, path, changed, f"{title}\n"))
        except BranchMovedError:
            raise SagegateError(f"branch {BRANCH} moved: another `sagegate image` is running, try again") from None
        if pull is None:
            pull, result = github.create_pull(title, pull_request_body(section), BRANCH, base), "created"
        else:
            github.update_pull(pull["number"], title, pull_request_body(section))
            result = "updated"
    todo = "review and merge it: jobs use the image from then on"
    output.verdict(True, f"pull request {pull['number']} {result}: {pull['html_url']}", todo)
    markdown.append_summary(markdown.pull_request_summary(BRANCH, pull["number"], result, pull["html_url"], todo))


def pull_request_body(section: ImageSection) -> str:
    """Return the body, in Markdown: which image, and what merging does."""
    return f"""\
Built from `image/` and pushed to the repository in dev's account:

| | |
|---|---|
| digest | {markdown.code(section.digest, True)} |
| tag, the digest of the files in `image/` | {markdown.code(section.source, True)} |

Merging trains with this image. Models that are registered already keep theirs, and endpoints with them.

GitHub holds back the checks of a pull request that a workflow opened with its `GITHUB_TOKEN`, until somebody with \
write access approves the runs.
"""
