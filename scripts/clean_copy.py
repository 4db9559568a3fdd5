"""A copy of the template's working tree without what git ignores.

Caches and environments that tools leave inside the template's folder would otherwise be baked into a project.
"""

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def tracked_files(root: Path) -> list[Path]:
    """The files of a working tree that git has or would add, relative to the root."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    return [Path(name) for name in sorted(set(listing.split("\0"))) if name and (root / name).is_file()]


def copy_template(target: Path) -> Path:
    """Copy the template's working tree without what git ignores: caches, environments, builds."""
    for name in tracked_files(ROOT):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name)
    return target
