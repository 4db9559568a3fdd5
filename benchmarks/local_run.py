"""How fast is a local run, beside what users would otherwise do? Run it with `make bench`.

Each round times every contender once, in turn, so that all of them see the same machine; the ratios are taken within a
round. The contenders do the work of the same three scripts on the same data:

    shell chain   python preprocess.py && python train.py && tar && python evaluate.py
    one process   the three main functions in one interpreter: no isolation, no record, the least there can be
    imports       importing what they import, which `sagegate run` does once and the shell chain for each script
    sagegate run     every step, in processes of their own (`--no-cache`)
    nothing new   `sagegate run` again: every job comes from the cache
    --help        what each command costs before it does anything
    make, dvc ... the tools of peers.py that are on the PATH, each forced to run every stage, and "again" with nothing
                  changed if it has a cache; peers.py says how to have them all measured

`python benchmarks/local_run.py --rows 1000000` makes a table of that many rows and 30 columns in place of the sample.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "scripts")]

from clean_copy import ROOT, copy_template  # noqa: E402
from conftest import bake_template, shared_environment, without_shell_settings  # noqa: E402
from peers import Peer, Stage, installed  # noqa: E402

CHAIN = """
import sys; sys.path.insert(0, "model")
import hashlib, tarfile
from pathlib import Path
work = Path(sys.argv[1])
def pack():
    with tarfile.open(work / "packed" / "model.tar.gz", "w:gz") as tar:
        tar.add(work / "model", arcname=".")
"""
GATE = ["--metric", "auc", "--threshold", "0.6", "--min-improvement", "0.0"]


class Contest:
    """A baked project and the ways to run its three scripts."""

    def __init__(self, folder: Path, rows: int) -> None:
        self.project = bake_template(copy_template(folder / "template"), folder / "baked")
        self.python = str(shared_environment(self.project))
        self.work, self.used = folder / "work", folder / "used"
        self.used.mkdir()
        self.environment = without_shell_settings({"PYTHONPATH": str(ROOT / "src")})
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)
        if rows:
            self._make_table(rows)

    def _make_table(self, rows: int) -> None:
        """Noisy copies of the sample's rows, so that learning is as hard as it is there."""
        script = (
            "import sys, glob, numpy as np, pandas as pd\n"
            "file = glob.glob('data/*.csv')[0]; table = pd.read_csv(file); rng = np.random.default_rng(0)\n"
            "many = table.sample(int(sys.argv[1]), replace=True, random_state=0, ignore_index=True)\n"
            "numbers = many.select_dtypes('number').columns\n"
            "many[numbers] *= 1 + 0.3 * rng.standard_normal((len(many), len(numbers)))\n"
            "many.to_csv(file, index=False, float_format='%.6g')\n"
        )
        self._call([self.python, "-c", script, str(rows)])

    def _call(self, command: list[str], more: dict[str, str] | None = None) -> None:
        environment = self.environment | (more or {})
        done = subprocess.run(command, cwd=self.project, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)[:200]}\n{done.stdout}{done.stderr}")

    def _fresh_work(self) -> list[list[str]]:
        """An empty folder and the arguments of the three scripts in it."""
        if self.work.exists():  # not deleted: on ext4 that slows what creates files for minutes
            self.work.rename(self.used / f"{len(list(self.used.iterdir()))}")
        for name in ("packed", "champion"):
            (self.work / name).mkdir(parents=True)
        (self.work / "champion" / "no-champion.json").write_text("{}")
        names = ("train", "validation", "test", "model", "packed", "champion", "out")
        at = {name: str(self.work / name) for name in names}
        return [
            ["--input", "data", "--output", str(self.work)],
            ["--train", at["train"], "--validation", at["validation"], "--model-dir", at["model"]],
            ["--model", at["packed"], "--champion", at["champion"], "--test", at["test"], "--output", at["out"], *GATE],
        ]

    def shell_chain(self) -> None:
        """Three interpreters, one after the other."""
        first, second, third = self._fresh_work()
        self._call([self.python, "model/preprocess.py", *first])
        self._call([self.python, "model/train.py", *second])
        self._call(["tar", "-czf", str(self.work / "packed" / "model.tar.gz"), "-C", str(self.work / "model"), "."])
        self._call([self.python, "model/evaluate.py", *third])

    def peers(self) -> tuple[dict[str, Callable[[], None]], dict[str, str]]:
        """The other tools that are installed, and why the others are left out."""
        first, second, third = self._fresh_work()
        pack = f"tar -czf {self.work}/packed/model.tar.gz -C {self.work}/model ."
        code = sorted(f"model/{file.name}" for file in (self.project / "model").glob("*.py"))
        data = sorted(f"data/{file.name}" for file in (self.project / "data").glob("*.csv"))
        stages = [
            Stage("preprocess", self.python, first, [*code, *data]),
            Stage("train", self.python, second, code, pack),
            Stage("evaluate", self.python, third, code),
        ]
        found, missing = installed(self.project, stages)

        def contender(command: list[str], peer: Peer, fresh: bool) -> Callable[[], None]:
            def run() -> None:
                if fresh:
                    self._fresh_work()
                self._call(command, peer.environment)
                if not (self.work / "out" / "evaluation.json").is_file():
                    sys.exit(f"{' '.join(command)}: it ended well and evaluated nothing")

            return run

        contenders = {}
        for name, peer in found.items():
            contenders[name] = contender(peer.every, peer, True)
            if peer.again:
                contenders[f"{name} again"] = contender(peer.again, peer, False)
        return contenders, missing

    def one_process(self) -> None:
        """The three scripts in one interpreter."""
        first, second, third = self._fresh_work()
        calls = f"import preprocess, train, evaluate\npreprocess.main({first!r})\ntrain.main({second!r})\npack()\n"
        self._call([self.python, "-c", f"{CHAIN}{calls}evaluate.main({third!r})", str(self.work)])

    def imports(self) -> None:
        """The libraries of the three scripts, and nothing else."""
        self._call([self.python, "-c", f"{CHAIN}import preprocess, train, evaluate", str(self.work)])

    def run_all(self) -> None:
        """Every step."""
        self._call([self.python, "-m", "sagegate", "run", "--no-cache"])

    def run_again(self) -> None:
        """Nothing has changed."""
        self._call([self.python, "-m", "sagegate", "run"])

    def help(self) -> None:
        """Only the command line."""
        self._call([self.python, "-m", "sagegate", "--help"])


def main() -> None:
    """Time the contenders in turn and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=0, help="rows of a made table; 0 takes the sample data")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        contest = Contest(Path(folder), args.rows)
        peers, missing = contest.peers()
        contenders: dict[str, Callable[[], None]] = {
            "shell chain": contest.shell_chain,
            "one process": contest.one_process,
            "imports": contest.imports,
            "sagegate run": contest.run_all,
            "nothing new": contest.run_again,
            "--help": contest.help,
            **peers,
        }
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        for turn in range(args.rounds + 1):
            for name, contender in contenders.items():
                started = time.perf_counter()
                contender()
                if turn:  # the first round warms bytecode and file caches
                    seconds[name].append(time.perf_counter() - started)
    heading = f"{'':<16}{'median s':>9}{'min':>8}{'max':>8}{'/ shell':>9}{'/ one':>8}"
    print(f"{heading}   {args.rounds} rounds, {os.cpu_count()} cores")
    for name, found in seconds.items():
        ratios = [
            statistics.median(own / other for own, other in zip(found, seconds[base], strict=True))
            for base in ("shell chain", "one process")
        ]
        row = f"{statistics.median(found):>9.3f}{min(found):>8.3f}{max(found):>8.3f}"
        print(f"{name:<16}{row}{ratios[0]:>9.2f}{ratios[1]:>8.2f}")
    for name, why in missing.items():
        print(f"{name:<16}{why}")


if __name__ == "__main__":
    main()
