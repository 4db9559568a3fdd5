"""Commands on a disk that is nearly full: one line, nothing half-written, and the next run works once there is room.

The disk is a small tmpfs in a user namespace. Where those are not allowed, files have a largest size instead.
"""

import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from campaigns.campaign import Campaign, Case
from campaigns.fast_project import ROOT, check_output, make_project

CHECKER = Path(__file__).with_name("fast_project.py")
TMPFS = """
mount -t tmpfs -o size=64m none "$PROJECT" && cp -a "$BASE/." "$PROJECT" && cd "$PROJECT" || exit 90
left=$(df --output=avail -k . | tail -n 1)
head -c $(((left - FREE) * 1024)) /dev/zero > filler
"$@" > "$OUT/out" 2> "$OUT/error" < /dev/null; echo $? > "$OUT/code"
rm filler
"""
LIMIT = """
cp -a "$BASE/." "$PROJECT" && cd "$PROJECT" || exit 90
(ulimit -f $((FREE + 8)); exec "$@" > "$OUT/out" 2> "$OUT/error" < /dev/null)
echo $? > "$OUT/code"
"""
AFTERWARDS = """
find .mlops -name '.?*.????????' -type f > "$OUT/temporary"
"$1" "$CHECKER" "$PROJECT" > "$OUT/check" 2>&1 || exit 91
"$1" -m sagegate run --again > "$OUT/again" 2>&1 || exit 92
"""


@contextmanager
def prepare(folder: Path) -> Iterator[Case]:
    """Yield a case: one command with a random number of free kilobytes."""
    project = make_project(folder)
    test = ["unshare", "-Urm", "mount", "-t", "tmpfs", "none", "/mnt"]
    has_disk = bool(shutil.which("unshare")) and subprocess.run(test, capture_output=True).returncode == 0
    if not has_disk:
        print(
            "no user namespaces here: a limit of the size of files takes the place of the small disk", file=sys.stderr
        )
    unshare, script = (["unshare", "-Urm"], TMPFS) if has_disk else ([], LIMIT)
    place, out = folder / "place", folder / "out"

    def case(chance: random.Random) -> None:
        for each in (place, out):
            shutil.rmtree(each, ignore_errors=True)
            each.mkdir()
        free = chance.choice([chance.randint(0, 40), chance.randint(0, 250), chance.randint(0, 600)])
        run = ["run", "--set", "max_depth=7"]
        command = chance.choice(
            [run, run, [*run, "--no-cache"], ["approve", "1", "--reason", "x"], ["clean"], ["models"]]
        )
        env = {"PROJECT": str(place), "BASE": str(project.root), "OUT": str(out), "FREE": str(free)}
        env |= {"CHECKER": str(CHECKER), "PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/local/bin:/usr/bin:/bin"}
        shell = [*unshare, "sh", "-c", script + AFTERWARDS, "sh", str(project.python), "-m", "sagegate", *command]
        done = subprocess.run(shell, env=env, capture_output=True, text=True, timeout=180)
        found = {file.name: file.read_text() for file in out.iterdir()}
        what = f"{' '.join(command)} with {free} KB: {done.stderr}{found}"
        check_output(what, int(found["code"]), found["out"], found["error"])
        assert found["temporary"] == "", what
        assert done.returncode == 0, what

    yield case


CAMPAIGN = Campaign("full disk", "a full disk is one line, and nothing is half-written", 60, 2, prepare)
