"""The bare git repository of the fake GitHub."""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

WHO = {
    f"GIT_{role}_{key}": value
    for role in ("AUTHOR", "COMMITTER")
    for key, value in (("NAME", "GitHub"), ("EMAIL", "noreply@github.com"))
}


class Conflict(Exception):
    """The branches cannot be merged."""


@dataclass(frozen=True)
class Bare:
    """A bare repository."""

    folder: Path

    def git(
        self,
        *args: str,
        cwd: Path | None = None,
        check: bool = True,
        author: str = "GitHub",
        index: str = "",
        text: str = "",
    ) -> str:
        """Run git and return its output. Raises CalledProcessError if it fails; `check=False` returns "" instead."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | WHO | {"LC_ALL": "C"}
        env |= {"GIT_AUTHOR_NAME": author} | ({"GIT_INDEX_FILE": index} if index else {})
        done = subprocess.run(
            ["git", *args], cwd=cwd or self.folder, env=env, input=text, capture_output=True, text=True
        )
        if done.returncode and check:
            raise subprocess.CalledProcessError(done.returncode, ["git", *args], done.stdout, done.stderr)
        return done.stdout.strip() if done.returncode == 0 else ""

    @property
    def default_branch(self) -> str:
        """The branch of HEAD."""
        return self.git("symbolic-ref", "--short", "HEAD")

    def commit(self, revision: str) -> str | None:
        """Return a commit's hash, or None."""
        return self.git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", check=False) or None

    def branch(self, name: str) -> str | None:
        """Return the commit of a branch, or None."""
        return self.commit(f"refs/heads/{name}")

    def is_ahead(self, head: str, base: str) -> bool:
        """Return True if `head` has commits that `base` lacks."""
        return self.git("rev-list", "--count", f"{base}..{head}") != "0"

    def delete_branch(self, name: str) -> None:
        """Delete a branch."""
        self.git("update-ref", "-d", f"refs/heads/{name}", check=False)

    def content(self, revision: str, path: str) -> bytes | None:
        """Return a file's content, or None."""
        done = subprocess.run(["git", "cat-file", "blob", f"{revision}:{path}"], cwd=self.folder, capture_output=True)
        return done.stdout if done.returncode == 0 else None

    def tree_with(self, base: str, files: list[tuple[str, str, str]]) -> str:
        """Write a tree: `base` with files (mode, path, content) added or replaced; return its hash."""
        with tempfile.TemporaryDirectory() as scratch:
            index = str(Path(scratch) / "index")
            self.git("read-tree", base, index=index)
            for mode, path, content in files:
                blob = self.git("hash-object", "-w", "--stdin", text=content)
                self.git("update-index", "--add", "--cacheinfo", f"{mode},{blob},{path}", index=index)
            return self.git("write-tree", index=index)

    def merge(self, base: str, head: str, method: str, title: str, message: str) -> str:
        """Merge branch `head` into branch `base`, and return the new commit. Raises Conflict."""
        with tempfile.TemporaryDirectory() as scratch:
            clone = Path(scratch) / "clone"
            self.git("clone", "--quiet", "--branch", base, str(self.folder), str(clone), cwd=Path(scratch))
            theirs = f"origin/{head}"
            try:
                if method == "rebase":
                    self.git("checkout", "--quiet", "-B", "rebased", theirs, cwd=clone)
                    self.git("rebase", "--quiet", f"origin/{base}", cwd=clone)
                elif method == "squash":
                    self.git("merge", "--squash", "--quiet", theirs, cwd=clone)
                    self.git("commit", "--quiet", "-m", title, "-m", message or " ", cwd=clone)
                else:
                    self.git("merge", "--no-ff", "--quiet", "-m", title, "-m", message or " ", theirs, cwd=clone)
                self.git("push", "--quiet", "origin", f"HEAD:refs/heads/{base}", cwd=clone)
            except subprocess.CalledProcessError as error:
                raise Conflict(error.stderr) from None
            return self.git("rev-parse", "HEAD", cwd=clone)
