"""Run the fake AWS by hand, with a Python whose jobs can train: `make fake-aws`. Ctrl-C ends it.

Then, in a generated project and a shell with the printed variables: `uv run sagegate run --env dev`.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clean_copy import ROOT, copy_template

sys.path.insert(0, str(ROOT / "tests"))
from conftest import bake_template, fake_aws_python, without_shell_settings


@contextmanager
def quiet() -> Iterator[None]:
    """Without what the template's hook prints, so that a shell can `eval` the output."""
    own = os.dup(1)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(own, 1)
        os.close(own)


def main() -> int:
    """Make the environment if there is none yet, then serve; the server's exit code."""
    with tempfile.TemporaryDirectory() as folder, quiet():
        python = fake_aws_python(bake_template(copy_template(Path(folder) / "template"), Path(folder) / "project"))
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
    command = [str(python), "-m", "fakes", *sys.argv[1:]]
    with subprocess.Popen(command, env=without_shell_settings({"PYTHONPATH": path})) as server:
        signal.signal(signal.SIGTERM, lambda *_: server.terminate())
        while True:
            try:
                return server.wait()
            except KeyboardInterrupt:
                continue  # the server has it too, and ends by itself


if __name__ == "__main__":
    sys.exit(main())
