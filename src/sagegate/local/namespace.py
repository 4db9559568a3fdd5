"""Mount a job's folder on `/opt/ml`, for scripts with that path in their code.

Linux only. The mount is in a user and mount namespace of the job's own process, so it needs no privileges and no other
process sees it. Where the system forbids such namespaces, the job fails with a line that says what to do.
"""

from __future__ import annotations

import ast
import ctypes
import os
import re
import sys
import tempfile
from pathlib import Path

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
MAX_CODE_BYTES = 1_000_000  # a larger file is data
ADVICE = "take the path from an argument or an SM_ variable, or run where user namespaces are permitted"


def needs_mount(command: list[str], opt_ml: Path) -> bool:
    """Return True if a job's code contains the path `/opt/ml`; `command` has `opt_ml` in place of that path already.

    The code of `python3 SCRIPT ...` is the Python files beside the script. Any other command, such as a shell script,
    can start every file beside the files that it names, so there every mention counts.
    """
    if len(command) > 1 and command[1].endswith(".py"):
        return has_fixed_path(Path(command[1]).parent, opt_ml)
    below_opt_ml = re.compile(re.escape(str(opt_ml)) + r"/[^\s;&|'\"]+")
    folders = {Path(path).parent for part in command for path in below_opt_ml.findall(part)} - {opt_ml}
    files = (file for folder in folders for file in folder.rglob("*") if file.is_file())
    return any(file.stat().st_size < MAX_CODE_BYTES and b"/opt/ml" in file.read_bytes() for file in files)


def has_fixed_path(folder: Path, opt_ml: Path) -> bool:
    """Return True if a Python file of the job below `folder` has `/opt/ml` in a string that is not a docstring."""
    return folder.is_relative_to(opt_ml) and any(_has_path_literal(file) for file in folder.rglob("*.py"))


def _has_path_literal(file: Path) -> bool:
    content = file.read_bytes()
    if b"/opt/ml" not in content:
        return False
    try:
        nodes = list(ast.walk(ast.parse(content)))
    except (SyntaxError, ValueError):
        return False  # Python reports this when it runs the script
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    strings = (n.value for n in nodes if isinstance(n, ast.Constant) and id(n) not in docstrings)
    return any(isinstance(string, str) and "/opt/ml" in string for string in strings)


def enter(opt_ml: str) -> None:
    """Mount `opt_ml` on /opt/ml for this process and its children, or exit with one line if that is impossible."""
    try:
        _mount(opt_ml)
    except (OSError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or "not Linux"
        sys.exit(f"the script has the path /opt/ml in its code, and it cannot be mounted here ({reason}): {ADVICE}")


def _mount(opt_ml: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    _check(libc.unshare(CLONE_NEWUSER | CLONE_NEWNS))
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")

    def mount(source: str, target: str, flags: int) -> None:
        _check(libc.mount(source.encode(), target.encode(), None, flags, None))

    mount("none", "/", MS_REC | MS_PRIVATE)
    if os.path.isdir("/opt/ml"):
        mount(opt_ml, "/opt/ml", MS_BIND | MS_REC)
        return
    # /opt/ml does not exist, and only root can create it: mount a copy of /opt that has it.
    copy = tempfile.mkdtemp(dir=os.path.dirname(opt_ml))
    for entry in os.scandir("/opt") if os.path.isdir("/opt") else ():
        if entry.is_dir():
            os.mkdir(f"{copy}/{entry.name}")
            mount(entry.path, f"{copy}/{entry.name}", MS_BIND | MS_REC)
    os.mkdir(f"{copy}/ml")
    mount(opt_ml, f"{copy}/ml", MS_BIND | MS_REC)
    mount(copy, "/opt", MS_BIND | MS_REC)


def _check(result: int) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


if __name__ == "__main__":
    enter(sys.argv[1])
    try:
        os.execvp(sys.argv[2], sys.argv[2:])
    except OSError as error:
        print(f"{sys.argv[2]}: {error.strerror}", file=sys.stderr)
        sys.exit(127)
