"""How long does a request with one row take, beside the model's own work? Run `.venv/bin/python benchmarks/serving.py`.

Each round asks every contender in turn, the servers over a connection on the loopback interface:

    predict       `Model.predict` on a table that is there already: the least there can be
    transform_fn  the project's inference code in the same process, from the body to the answer
    sagegate      `sagegate serve`'s server
    container     the server of SageMaker's image: sagemaker_containers under gunicorn, as in tests/container/

`sagegate` should take at most 1.5 times as long as `predict`, and 1 ms more.
"""

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / folder) for folder in ("src", "tests", "tests/local", "tests/container", "scripts")]

from clean_copy import copy_template  # noqa: E402
from conftest import bake_template, shared_environment, without_shell_settings  # noqa: E402
from test_container import SERVING, Container, make_image  # noqa: E402

SERVE = """
import sys
from pathlib import Path
from sagegate.local.server import serve_folder
serve_folder(Path(sys.argv[1]), 0, "the model")
"""
CALLS = """
import json, sys, time
sys.path.insert(0, sys.argv[1] + "/code")
import inference
model, body = inference.model_fn(sys.argv[1]), open(sys.argv[1] + "/one_row.json").read()
kind = "application/json"
table = inference.read_rows(body, kind)
transform = lambda: inference.transform_fn(model, body, kind, kind)
calls = {"predict": lambda: model.predict(table), "transform_fn": transform}
for line in sys.stdin:
    name, count = line.split()
    seconds = []
    for _ in range(int(count)):
        started = time.perf_counter()
        calls[name]()
        seconds.append(time.perf_counter() - started)
    print(json.dumps(seconds), flush=True)
"""


def train(project: Path, python: Path, folder: Path) -> bytes:
    """Train a model into `folder`/model. Returns the body of a request with one row."""
    preprocess = ["preprocess.py", "--input", project / "data", "--output", folder]
    splits = ["--train", folder / "train", "--validation", folder / "validation", "--model-dir", folder / "model"]
    for script, *arguments in (preprocess, ["train.py", *splits]):
        command = [python, project / "model" / str(script), *arguments]
        subprocess.run(list(map(str, command)), check=True, capture_output=True)
    rows = json.loads((folder / "model" / "sample_request.json").read_text())["instances"][:1]
    body = json.dumps({"instances": rows}).encode()
    (folder / "model" / "one_row.json").write_bytes(body)
    return body


def asker(port: int, body: bytes) -> Callable[[int], list[float]]:
    """Return a function that sends requests over one connection, and returns the seconds of each."""

    def ask(count: int) -> list[float]:
        seconds, connection = [], http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for _ in range(count):
            started = time.perf_counter()
            connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            content = response.read()
            seconds.append(time.perf_counter() - started)
            assert response.status == 200, content
        connection.close()
        return seconds

    return ask


def main() -> None:
    """Ask the contenders in turn and print medians, 99th percentiles, rows per second and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--requests", type=int, default=50, help="in each round, of each contender")
    args = parser.parse_args()
    started: list[subprocess.Popen[str]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        project = bake_template(copy_template(folder / "template"), folder / "baked")
        python = shared_environment(project)
        body = train(project, python, folder)
        container = Container(make_image(), folder / "container")
        (folder / "model").rename(container.opt_ml / "model")
        model = str(container.opt_ml / "model")
        env = without_shell_settings({"PYTHONPATH": str(ROOT / "src")})
        try:
            for code in (SERVE, CALLS):
                command = [str(python), "-c", code, model]
                pipe = subprocess.PIPE
                started.append(subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, text=True))
            started.append(container.start("serve", SERVING))
            serve, calls, _ = started
            assert serve.stdout and calls.stdin and calls.stdout
            port = int(serve.stdout.readline().rpartition(":")[2].split()[0])
            while not container.is_up():
                time.sleep(0.1)
            own, to_calls, from_calls = asker(port, body), calls.stdin, calls.stdout

            def call(which: str, count: int) -> list[float]:
                print(which, count, file=to_calls, flush=True)
                return list(json.loads(from_calls.readline()))

            contenders: dict[str, Callable[[int], list[float]]] = {
                "predict": lambda count: call("predict", count),
                "transform_fn": lambda count: call("transform_fn", count),
                "sagegate": own,
                "container": asker(container.port, body),
            }
            rounds: dict[str, list[list[float]]] = {each: [] for each in contenders}
            for turn in range(args.rounds + 1):
                for each, contender in contenders.items():
                    seconds = contender(args.requests)
                    if turn:  # the first round warms up
                        rounds[each].append(seconds)
        finally:
            for process in started:
                process.terminate()
                process.communicate(timeout=30)
    medians = {each: [statistics.median(seconds) for seconds in found] for each, found in rounds.items()}
    heading = (
        f"{'':<14}{'p50 ms':>9}{'p99 ms':>9}{'rows/s':>9}{'/ predict':>11}{'/ transform_fn':>16}{'/ container':>13}"
    )
    print(f"{heading}   {args.rounds} rounds of {args.requests} requests with one row, {os.cpu_count()} cores")
    for each, found in rounds.items():
        every = sorted(second for seconds in found for second in seconds)
        p50, p99, rate = 1e3 * statistics.median(every), 1e3 * every[int(0.99 * len(every))], len(every) / sum(every)
        ratios = [
            statistics.median(own / other for own, other in zip(medians[each], medians[base], strict=True))
            for base in ("predict", "transform_fn", "container")
        ]
        print(f"{each:<14}{p50:>9.2f}{p99:>9.2f}{rate:>9.0f}{ratios[0]:>11.2f}{ratios[1]:>16.2f}{ratios[2]:>13.2f}")
    over = [1e3 * (a - 1.5 * b) for a, b in zip(medians["sagegate"], medians["predict"], strict=True)]
    print(f"sagegate takes 1.5 times predict and {statistics.median(over):.2f} ms (at most 1)")


if __name__ == "__main__":
    main()
