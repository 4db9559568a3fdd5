"""`/opt/ml` for scripts that have the path written in them: the job's own folder, mounted there for this process alone.

Linux only, in a user and mount namespace of the process's own, so it needs no privileges and nobody else sees it. Where
the system forbids such namespaces, the job fails with a line that says what to do.
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
CODE_BYTES = 1_000_000  # a larger file is data
ADVICE = "take the path from an argument or an SM_ variable, or run where user namespaces are permitted"


def needs_mount(argv: list[str], opt_ml: Path) -> bool:
    """Whether a job's code has `/opt/ml` written in it; `argv` is its command, with its own folder in place of that.

    The code of `python3 SCRIPT ...` is the folder of the script. Any other command may run whatever lies beside the
    files that it names, in any language, so there every mention counts.
    """
    if len(argv) > 1 and argv[1].endswith(".py"):
        return has_hard_path(Path(argv[1]).parent, opt_ml)
    named = {Path(path).parent for part in argv for path in re.findall(re.escape(str(opt_ml)) + r"/[^\s;&|'\"]+", part)}
    files = (file for folder in named if folder != opt_ml for file in folder.rglob("*") if file.is_file())
    return any(file.stat().st_size < CODE_BYTES and b"/opt/ml" in file.read_bytes() for file in files)


def has_hard_path(folder: Path, opt_ml: Path) -> bool:
    """Whether a Python file of the job's code in `folder` has `/opt/ml` in a text that is not a docstring."""
    return folder.is_relative_to(opt_ml) and any(_mentions(file) for file in folder.rglob("*.py"))


def _mentions(file: Path) -> bool:
    content = file.read_bytes()
    if b"/opt/ml" not in content:
        return False
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return False  # the script fails with its own message
    texts = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)}
    constants = (n for n in ast.walk(tree) if isinstance(n, ast.Constant) and id(n) not in texts)
    return any(isinstance(n.value, str) and "/opt/ml" in n.value for n in constants)


def enter(opt_ml: str) -> None:
    """Mount `opt_ml` on /opt/ml for this process and its children; ends the process with one line if it cannot."""
    try:
        _mount(opt_ml)
    except (OSError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or "not Linux"
        sys.exit(f"the script has /opt/ml written in it, and mounting it here is not possible ({reason}): {ADVICE}")


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
    # There is no /opt/ml to mount on, and making one is not ours: /opt becomes a folder with it and all else it had.
    stand_in = tempfile.mkdtemp(dir=os.path.dirname(opt_ml))
    for entry in os.scandir("/opt") if os.path.isdir("/opt") else ():
        if entry.is_dir():
            os.mkdir(f"{stand_in}/{entry.name}")
            mount(entry.path, f"{stand_in}/{entry.name}", MS_BIND | MS_REC)
    os.mkdir(f"{stand_in}/ml")
    mount(opt_ml, f"{stand_in}/ml", MS_BIND | MS_REC)
    mount(stand_in, "/opt", MS_BIND | MS_REC)


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
