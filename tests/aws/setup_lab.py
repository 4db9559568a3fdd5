"""A generated project with accounts of the fake AWS, set up by its own commands."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clean_copy import ROOT
from conftest import RunIn, find_uv, without_shell_settings
from fakes.remote import client

if TYPE_CHECKING:
    from fakes.remote import Remote

DEV, STAGING, PROD = "111111111111", "222222222222", "333333333333"
REGION = "us-east-1"
PLATFORM = "my-model-platform"
SUBJECT = "repo:acme@101/my-model@202"


class SetupLab:
    """A project of its own, whose environments are in these accounts; each account's administrator at hand."""

    def __init__(self, baked: Path, folder: Path, fake_aws: Remote, run_in: RunIn, python: Path) -> None:
        self.project = folder / "my-model"
        shutil.copytree(baked, self.project, ignore=shutil.ignore_patterns(".mlops", "__pycache__"))
        self.fake_aws, self._run_in, self.python = fake_aws, run_in, python
        self.extra: dict[str, str] = {}
        self.edit("mlops.toml", "my-org/my-model", "acme/my-model")

    def accounts(self, dev: str = DEV, staging: str = STAGING, prod: str = PROD) -> None:
        """Put each environment into an account."""
        for name, account in (("dev", dev), ("staging", staging), ("prod", prod)):
            file = self.project / "environments" / f"{name}.toml"
            text = re.sub('account_id = ".*"', f'account_id = "{account}"', file.read_text(encoding="utf-8"))
            file.write_text(text, encoding="utf-8")

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace text in one of the project's files."""
        path = self.project / file
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    def add(self, file: str, text: str) -> None:
        """Append to one of the project's files."""
        path = self.project / file
        path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")

    def environment(self, account: str = DEV) -> dict[str, str]:
        """The variables of an account's administrator."""
        return (
            self.fake_aws.environment(account, REGION) | {"SAGEGATE_POLL_SECONDS": "0.1", "UV": find_uv()} | self.extra
        )

    def sagegate(self, *args: str, account: str | None = DEV, code: int = 0) -> str:
        """Return the output of `sagegate ARGS` with an account's credentials, or none; the exit code must be `code`."""
        args = self.with_subject(args)
        env = self.environment(account) if account else no_credentials() | {"UV": find_uv()} | self.extra
        done = self._run_in(self.project, "sagegate", *args, check=False, env=env)
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def with_subject(self, args: tuple[str, ...]) -> tuple[str, ...]:
        """Add to `bootstrap` what GitHub would say of the repository, where it cannot be asked."""
        if args[0] != "bootstrap" or "GITHUB_TOKEN" in self.extra or "--subject-prefix" in args:
            return args
        return (*args, "--subject-prefix", SUBJECT)

    def at_terminal(self, *args: str, answer: str, code: int = 0) -> str:
        """As `sagegate`, at a terminal where a person types one answer."""
        terminal, side = pty.openpty()
        env = without_shell_settings({"PYTHONPATH": str(ROOT / "src")} | self.environment())
        command = [str(self.python), "-m", "sagegate", *self.with_subject(args)]
        os.write(terminal, f"{answer}\n".encode())  # it waits there for the question
        with subprocess.Popen(command, cwd=self.project, env=env, stdin=side, stdout=side, stderr=side) as process:
            os.close(side)
            said = b""
            with suppress(OSError):  # Linux's end of a terminal
                while part := os.read(terminal, 65536):
                    said += part
        os.close(terminal)
        assert process.returncode == code, f"exit code {process.returncode}\n{said.decode()}"
        return said.decode()

    def client(self, service: str, account: str = DEV) -> Any:
        """boto3's client of an account's administrator."""
        return client(service, self.fake_aws.environment(account, REGION))

    def stack(self, name: str = PLATFORM, account: str = DEV) -> dict[str, Any]:
        """A stack as CloudFormation describes it."""
        return dict(self.client("cloudformation", account).describe_stacks(StackName=name)["Stacks"][0])

    def stacks(self, account: str = DEV) -> list[str]:
        """The names of an account's stacks."""
        return [s["StackName"] for s in self.client("cloudformation", account).describe_stacks()["Stacks"]]

    def parameters(self, account: str = DEV) -> dict[str, str]:
        """The platform stack's parameters."""
        return {p["ParameterKey"]: p["ParameterValue"] for p in self.stack(account=account)["Parameters"]}

    def roles(self, account: str = DEV) -> set[str]:
        """The names of an account's roles."""
        return {role["RoleName"] for role in self.client("iam", account).list_roles()["Roles"]}


def no_credentials() -> dict[str, str]:
    """Variables with which boto3 finds no credentials, wherever this runs."""
    nowhere = {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}
    return nowhere | {"AWS_EC2_METADATA_DISABLED": "true"}
