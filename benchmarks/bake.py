"""How long does it take to generate a project? Times the whole command. Run it with `make bench`."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUNS = 15


def bake_seconds() -> float:
    """One run of the cookiecutter command into a fresh folder."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "cookiecutter",
            "--no-input",
            "--default-config",
            str(ROOT),
            "--output-dir",
            folder,
        ]
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        return time.perf_counter() - started


def main() -> None:
    bake_seconds()  # warms the file cache
    seconds = sorted(bake_seconds() for _ in range(RUNS))
    print(
        f"bake: median {statistics.median(seconds):.3f} s, fastest {seconds[0]:.3f} s, "
        f"slowest {seconds[-1]:.3f} s ({RUNS} runs)"
    )


if __name__ == "__main__":
    main()
