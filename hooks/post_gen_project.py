"""Remove the files that this project does not need and say what to do next. No commit, push or cloud call."""

from pathlib import Path

PROJECT_SLUG = {{cookiecutter.project_slug | pprint}}
DATASET = {{cookiecutter.__dataset | pprint}}

# file -> is it kept?
OPTIONAL_FILES = {f"data/{name}.csv": name == DATASET for name in ("breast_cancer", "wine", "diabetes")}

NEXT_STEPS = f"""
{PROJECT_SLUG} is ready. Next (with uv; `pip install uv` if you have none):
  cd {PROJECT_SLUG}
  uv run mlops run      train, evaluate, gate and register a model on this machine
  uv run pytest         run the tests
"""


def main() -> None:
    """Runs in the new project's folder."""
    for name, kept in OPTIONAL_FILES.items():
        if not kept:
            Path(name).unlink(missing_ok=True)
    print(NEXT_STEPS)


if __name__ == "__main__":
    main()
