"""Cases that need the libraries of a generated project: one process of its Python makes all of a campaign."""

import json
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from campaigns.campaign import Case, Chance


@contextmanager
def project_cases(folder: Path, module: str) -> Iterator[Case]:
    """Yield a case that `cases(scratch)` of a module in this folder makes, beside the project's model/ files."""
    from clean_copy import ROOT, copy_template
    from conftest import bake_template, shared_environment, without_shell_settings

    project = bake_template(copy_template(folder / "template"), folder / "baked")
    command = map(str, (shared_environment(project), "-m", "campaigns.in_project", module, project / "model", folder))
    env = without_shell_settings({"PYTHONPATH": str(ROOT / "tests")})
    with subprocess.Popen([*command], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        seeds, errors = process.stdin, process.stdout

        def case(chance: Chance) -> None:
            print(chance.getrandbits(64), chance.number, file=seeds, flush=True)
            error = json.loads(errors.readline())
            assert not error, error

        yield case
        seeds.close()


def main() -> None:
    """Make a case for each seed on standard input, and answer with its error or an empty text."""
    module, model, scratch = sys.argv[1:]
    sys.path.insert(0, model)
    answers, sys.stdout = sys.stdout, sys.stderr
    case = import_module(f"campaigns.{module}").cases(Path(scratch))
    for seed in sys.stdin:
        error = ""
        try:
            chance = Chance(int(seed.split()[0]))
            chance.number = int(seed.split()[1])
            case(chance)
        except Exception:
            error = traceback.format_exc()
        print(json.dumps(error), file=answers, flush=True)


if __name__ == "__main__":
    main()
