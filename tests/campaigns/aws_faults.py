"""Calls to AWS that are throttled, reset or cut off: a command succeeds or fails in one line, with no effect twice."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from campaigns.campaign import Campaign, Case, Chance
from campaigns.fast_project import Project, check_output, make_project

SHARES = (0.05, 0.2, 0.5)  # of all calls


@contextmanager
def prepare(folder: Path) -> Iterator[Case]:
    """Yield a case: some commands on a fake AWS, behind a proxy that disturbs a share of all calls."""
    from conftest import fake_aws_python
    from fakes.proxy import Proxy, Weather
    from fakes.remote import Remote, client
    from places import ACCOUNT, use_account

    project = make_project(folder)
    use_account(project.root)
    aws = Remote(fake_aws_python(project.root))
    aws.prepare("my-model", ACCOUNT)
    environment = aws.environment(ACCOUNT)
    direct = client("sagemaker", environment)
    project = Project(project.root, project.python, environment | {"SAGEGATE_POLL_SECONDS": "0.05"})

    def counts() -> tuple[int, int]:
        """Return the numbers of executions and of registered models."""
        if not direct.list_pipelines()["PipelineSummaries"]:
            return 0, 0
        executions = direct.list_pipeline_executions(PipelineName="my-model", MaxResults=100)
        if not direct.list_model_package_groups()["ModelPackageGroupSummaryList"]:
            return len(executions["PipelineExecutionSummaries"]), 0
        packages = direct.list_model_packages(ModelPackageGroupName="my-model", MaxResults=100)
        return len(executions["PipelineExecutionSummaries"]), len(packages["ModelPackageSummaryList"])

    def case(chance: Chance) -> None:
        share = SHARES[chance.number % len(SHARES)]
        parts = [chance.random() for _ in range(4)]
        proxy = Proxy(
            environment["AWS_ENDPOINT_URL"], Weather(*(share * part / sum(parts) for part in parts)), chance.number
        )
        project.env["AWS_ENDPOINT_URL"] = proxy.url
        try:
            for command in chance.sample(["run", "models", "status", "approve", "reject", "explain"], 3):
                executions, models = counts()
                options = {"approve": ("1", "--reason", "x"), "reject": ("1", "--reason", "x"), "run": ("--again",)}
                process = project.start(command, *options.get(command, ()), "--env", "dev")
                out, error = process.communicate(timeout=300)
                check_output(command, process.returncode, out, error)
                started, registered = (now - before for now, before in zip(counts(), (executions, models), strict=True))
                most = 1 if command == "run" else 0
                assert 0 <= registered <= started <= most, f"{command}: {started} executions, {registered} models"
                assert command != "run" or process.returncode or started == registered == 1, out + error
        finally:
            proxy.close()

    try:
        yield case
    finally:
        aws.close()


CAMPAIGN = Campaign("AWS faults", "a command succeeds or fails in one line, and nothing happens twice", 60, 2, prepare)
