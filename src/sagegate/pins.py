"""Compare the project's dependencies with the libraries of the container image.

Known are the versions of SageMaker's image (sagegate.images) and those in image/requirements.txt, from which the
project's own image is made. What else image/Dockerfile changes is not known.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sagegate.config import Settings
from sagegate.errors import SagegateError
from sagegate.images import IMAGE, VERSIONS, source_digest

REQUIREMENTS = "image/requirements.txt"
TRACKING = {"mlflow", "sagemaker-mlflow"}
REQUIREMENT = re.compile(r"^([A-Za-z0-9][\w.-]*)(?:\[[^]]*\])? *(?:== *([^\s;,\\*]+)(?![^\s;,\\]))?", re.MULTILINE)
LOCKED = re.compile(r'^\[\[package\]\]\nname = "([^"\n]+)"\nversion = "([^"\n]+)"', re.MULTILINE)


def differences(root: Path) -> Iterator[str]:
    """Yield a line for each dependency whose version in pyproject.toml, in uv.lock or installed is not the image's.

    If the project has its own image, the other libraries in image/requirements.txt are compared with uv.lock.
    """
    own, declared = _versions(_read(root / REQUIREMENTS)), _dependencies(root)
    locked: dict[str, list[str]] = {}
    for name, found in LOCKED.findall(_read(root / "uv.lock")):
        locked.setdefault(_normal(name), []).append(found)
    for name, have in sorted((VERSIONS | own).items()):
        if name not in declared and name not in own:
            continue
        image, remedy = (
            (REQUIREMENTS, "run the command in its first lines again")
            if name in own
            else (IMAGE, f'write "{name}=={have}"')
        )
        versions = {
            "pyproject.toml": [declared[name]] if declared.get(name) else [],
            "uv.lock": locked.get(name, []),
            "installed": _installed(name) if name in declared else [],
        }
        where = next((where for where, found in versions.items() if found and have not in found), None)
        if where == "installed":
            remedy = "install the project again, as by `uv sync`"
        if where:
            yield f"{where}: {name} {' and '.join(versions[where])}, but {image} has {have}: {remedy}"


def doubts(root: Path, settings: Settings, is_tracked: bool) -> Iterator[str]:
    """Yield a line for each dependency that the image is not known to have, and one if image/ changed since.

    With `[tracking]` in an environment, sagegate needs MLflow, and no job does.
    """
    known = VERSIONS.keys() | _versions(_read(root / REQUIREMENTS)).keys() | (TRACKING if is_tracked else set())
    for name in sorted(_dependencies(root).keys() - known):
        yield (
            f"pyproject.toml: {name} may be missing in jobs and endpoints, {IMAGE} is not known to have it: put it "
            "into your own image, see `sagegate image --help`, or into [dependency-groups] if no job imports it"
        )
    if problem := stale_image(root, settings):
        yield problem


def stale_image(root: Path, settings: Settings) -> str:
    """Return what is wrong if the image in mlops.toml was not made from image/ as it is now, else an empty text."""
    built, now = settings.image.source if settings.image else None, source_digest(root)
    if built == now:
        return ""
    if now is None:
        return (
            "image/Dockerfile is missing: restore it from git, or delete [image] in mlops.toml to use SageMaker's image"
        )
    what = "was made from other files than image/ has now" if built else "is missing, but there is image/Dockerfile"
    return f"mlops.toml: [image] {what}: merge the pull request of the workflow image, or run `sagegate image`"


def _dependencies(root: Path) -> dict[str, str]:
    """Return the dependencies in pyproject.toml: name to pinned version, or "". No job needs sagegate."""
    try:
        project = tomllib.loads(_read(root / "pyproject.toml")).get("project", {})
    except ValueError as error:
        raise SagegateError(f"pyproject.toml is not valid TOML: {error}") from None
    lines = "\n".join(map(str, project.get("dependencies", [])))
    return {_normal(name): pin for name, pin in REQUIREMENT.findall(lines) if name != "sagegate"}


def _versions(requirements: str) -> dict[str, str]:
    return {_normal(name): pin for name, pin in REQUIREMENT.findall(requirements) if pin}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()  # "Names and normalization", Python Packaging User Guide


def _installed(name: str) -> list[str]:
    try:
        return [version(name)]
    except PackageNotFoundError:  # as xgboost where xgboost-cpu is used
        return []


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""
