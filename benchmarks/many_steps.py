"""Time of the local engine per step, for pipelines of several sizes. Run it with `make bench`.

Each step is a Processing job with an empty script, in a process of its own, one after the other. All folders
are kept to the end, because on ext4 deleting many files slows down creating files for some minutes.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "local"), str(ROOT / "src")]

from local_lab import make_lab  # noqa: E402

COUNTS = (25, 50, 100, 200)
ROUNDS = 3


def milliseconds_per_step(folder: Path, count: int) -> float:
    """Run a chain of `count` steps in a new folder; return the time per step."""
    folder.mkdir()
    lab = make_lab(folder)
    steps = [lab.processing(f"S{i}", "", step={"DependsOn": [f"S{i - 1}"]} if i else {}) for i in range(count)]
    text = json.dumps({"Version": "2020-12-01", "Metadata": {}, "Parameters": [], "Steps": steps})
    lab.client.create_pipeline(PipelineName="many", PipelineDefinition=text, RoleArn="role")
    started = time.perf_counter()
    done = lab.ended(lab.client.start_pipeline_execution(PipelineName="many")["PipelineExecutionArn"])
    elapsed = time.perf_counter() - started
    lab.client.close()
    assert done.status == "Succeeded", done.reason
    return elapsed / count * 1000


def main() -> None:
    """Print the shortest of several rounds for each size."""
    print("steps   ms per step")
    with tempfile.TemporaryDirectory() as folder:
        for count in COUNTS:
            rounds = [milliseconds_per_step(Path(folder, f"{count}-{turn}"), count) for turn in range(ROUNDS)]
            print(f"{count:>5}{min(rounds):>14.1f}")


if __name__ == "__main__":
    main()
