"""How long does it take to generate a project? Times the whole command. Run it with `make bench`."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from clean_copy import copy_template  # noqa: E402

RUNS = 15


def bake_seconds(template: Path, folder: Path) -> float:
    """One run of the cookiecutter command of a clean copy of the template into a folder."""
    options = ["--no-input", "--default-config", "--output-dir", str(folder)]
    command = [sys.executable, "-m", "cookiecutter", *options, str(template)]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    """Time the runs after a first one, which warms the file cache; all they made is kept until then."""
    with tempfile.TemporaryDirectory() as folder:
        template = copy_template(Path(folder, "template"))
        _, *timed = [bake_seconds(template, Path(folder, str(turn))) for turn in range(RUNS + 1)]
    seconds = sorted(timed)
    print(
        f"bake: median {statistics.median(seconds):.3f} s, fastest {seconds[0]:.3f} s, "
        f"slowest {seconds[-1]:.3f} s ({RUNS} runs)"
    )


if __name__ == "__main__":
    main()
