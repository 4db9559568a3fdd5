"""The story: candidate, staging, prod, a bad model is rejected, another one, rolled back; no request fails."""

from places import ACCOUNT

from deployment.conftest import git
from deployment.lab import PROJECT, REGION, Lab, failures


def test_a_model_s_way_to_prod_and_back(repository: Lab) -> None:
    shop = repository

    def merged(environment: str) -> None:
        git(shop.project, "add", f"deployments/{environment}.json")
        git(shop.project, "commit", "-qm", f"promote to {environment}")

    def live(environment: str, version: int, stage: str) -> None:
        assert shop.answers(environment, version)
        assert shop.results(environment)[-1] == (version, "healthy")
        assert "smoke test passed" in shop.records(environment)[-1]["reason"]
        package = shop.package(version)
        assert package["ModelApprovalStatus"] == "Approved"
        assert package["ApprovalDescription"].startswith(f"deployed to {environment}: by ada, commit ")
        assert package["ModelLifeCycle"]["Stage"] == stage and shop.champion() == version
        arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model-package/{PROJECT}/{version}"
        record = shop.records(environment)[-1]
        assert (record["model_package_arn"], record["deployed_by"]) == (arn, "ada")

    shop.sagegate("promote", "staging", "--model", "1")
    merged("staging")
    refused = shop.sagegate("promote", "prod", code=1)
    assert "did not run in staging yet" in refused
    shop.sagegate("deploy", "staging")
    live("staging", 1, "Staging")
    shop.sagegate("promote", "prod")
    code, said = shop.answered("n", "deploy", "prod")
    assert code == 1 and "deployments/prod.json is not committed" in said and "prod: nothing was changed" in said
    assert "Deploy model 1 to prod" in said and shop.results("prod") == []
    merged("prod")
    code, said = shop.answered("n", "deploy", "prod", "--yes")
    assert code == 0 and "not committed" not in said, said
    live("prod", 1, "Production")
    with shop.hammer("staging", "prod") as answers:
        rejected = shop.sagegate("run", "--env", "dev", "--set", "num_round=1", "--set", "eta=0.001", code=3)
        assert "gate" in rejected.lower()
        assert len(shop.snapshot.packages) == len(
            shop.sagemaker.list_model_packages(ModelPackageGroupName=PROJECT)["ModelPackageSummaryList"]
        )
        shop.sagegate("promote", "staging", "--model", "2")
        merged("staging")
        shop.sagegate("deploy", "staging")
        live("staging", 2, "Staging")
        assert shop.answers("prod", 1)
        shop.sagegate("promote", "prod")
        merged("prod")
        shop.sagegate("deploy", "prod")
        live("prod", 2, "Production")
        told = shop.sagegate("rollback", "prod", "--now")
        assert "model 1 is live" in told and "sagegate rollback prod" in told
        live("prod", 1, "Production")
        assert shop.answers("staging", 2)
    assert not failures(answers), failures(answers)
    seen = {(environment, who) for environment, who in answers}
    assert seen == {(e, f"model {v}") for e in ("staging", "prod") for v in (1, 2)}
