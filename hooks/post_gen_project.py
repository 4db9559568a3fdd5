"""Remove the files that this project does not need, write where its `sagegate` comes from, and say what to do next.

No commit, no push, no call to a cloud.
"""

import re
import subprocess
import sys
from os import environ
from pathlib import Path
from urllib.parse import quote, urlsplit

PROJECT_SLUG = {{cookiecutter.project_slug | pprint}}
DATASET = {{cookiecutter.__dataset | pprint}}
TEMPLATE = {{cookiecutter.get("_template", "") | string | pprint}}
CLONE = {{cookiecutter.get("_repo_dir", "") | string | pprint}}
COMMIT = {{cookiecutter.get("_commit", "") | string | pprint}}  # cruft gives it
OUTPUT = {{cookiecutter.get("_output_dir", "") | string | pprint}}

# file -> is it kept?
OPTIONAL_FILES = {f"data/{name}.csv": name == DATASET for name in ("breast_cancer", "wine", "diabetes")}

NEXT_STEPS = f"""
{PROJECT_SLUG} is ready. Next (with uv; `pip install uv` if you have none):
  cd {PROJECT_SLUG}
  uv run sagegate run   train, evaluate, gate and register a model on your machine
  uv run pytest         run the tests
  git init -b main && git add --all && git commit -m "Generate the project"   with uv.lock, which CI needs
"""


def package_address() -> str:
    """Return where pip and uv find the `sagegate` that belongs to this template, as the URL of a direct reference.

    A folder gives `file://`, a Git address `git+...@COMMIT`, an archive its own address. Raises ValueError for another.
    """
    for start in (environ.get("PWD", ""), OUTPUT, str(Path(OUTPUT).parent)):
        folder = Path(start, TEMPLATE)
        if TEMPLATE and (folder / "cookiecutter.json").is_file() and (folder / "src" / "sagegate").is_dir():
            return folder.resolve().as_uri()
    if TEMPLATE.endswith(".zip"):
        return TEMPLATE if "://" in TEMPLATE else Path(TEMPLATE).resolve().as_uri()
    address, commit = TEMPLATE, COMMIT
    if not commit:  # cookiecutter cloned it, and may have expanded an abbreviation such as gh:
        address, commit = git("config", "--get", "remote.origin.url"), git("rev-parse", "HEAD")
    if scp := re.fullmatch(r"([\w.-]+@)?([\w.-]+):(?!//)(.+)", address):
        address = f"ssh://{scp[1] or ''}{scp[2]}/{scp[3].lstrip('/')}"
    if "://" not in address:
        raise ValueError(f"{TEMPLATE!r} is neither a folder with this template nor a Git address")
    parts = urlsplit(address)
    if parts.password or (parts.username and parts.scheme.startswith("http")):
        parts = parts._replace(netloc=parts.netloc.rpartition("@")[2])  # no credentials in a file
    return f"git+{parts.scheme}://{parts.netloc}{quote(parts.path)}@{commit}"


def git(*command: str) -> str:
    """Return what a git command prints in the clone that cookiecutter made of the template."""
    try:
        done = subprocess.run(["git", "-C", CLONE, *command], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ValueError(f"cannot ask git in {CLONE!r}: {error}") from None
    return done.stdout.strip()


def main() -> None:
    """Work in the new project's folder."""
    for name, kept in OPTIONAL_FILES.items():
        if not kept:
            Path(name).unlink(missing_ok=True)
    file = Path("pyproject.toml")
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace('"sagegate",', f'"sagegate @ {package_address()}",'), encoding="utf-8")
    print(NEXT_STEPS)


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(f"The project needs the address of its template to install sagegate: {error}. Give one of them.")
