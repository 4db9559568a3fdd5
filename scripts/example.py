"""Generate a project with the default answers, to look at: `python scripts/example.py FOLDER`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from clean_copy import copy_template
from cookiecutter.main import cookiecutter


def main() -> None:
    """Generate it from a clean copy, so that no cache of the working tree gets in."""
    with tempfile.TemporaryDirectory() as scratch:
        template = copy_template(Path(scratch) / "template")
        config = Path(scratch) / "config.json"
        config.write_text(f'{{"replay_dir": "{scratch}/replay", "cookiecutters_dir": "{scratch}/copies"}}')
        print(cookiecutter(str(template), no_input=True, output_dir=sys.argv[1], config_file=str(config)))


if __name__ == "__main__":
    main()
