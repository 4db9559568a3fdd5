"""Authoring verbs: compile the pipeline, and find mistakes without running anything."""

from __future__ import annotations

import sys

import click

from mlops.commands.options import environment, project
from mlops.errors import MlopsError


@click.command(name="compile")
@click.option("--check", "only_checks", is_flag=True, help="Write nothing; fail if the committed definition differs.")
@click.option("--changed-since", "since", metavar="REVISION", help="With --check: only if its sources changed since.")
def compile_(only_checks: bool, since: str | None) -> None:
    """Write pipeline/definition.json from pipeline/pipeline.py."""
    from mlops.definitions.compile import check_compiled, compile_project
    from mlops.root import find_root

    if only_checks:
        print(check_compiled(find_root(), since))
        return
    changed = compile_project(find_root())
    print("pipeline/definition.json " + ("changed: commit it" if changed else "is up to date"))


@click.command()
def check() -> None:
    """Check the project offline: settings, definition and deployments/ are sound, and nothing undoes the gate."""
    from mlops.definitions import check as verb
    from mlops.definitions import definition, guarded_files, guards
    from mlops.registry import deployments
    from mlops.root import find_root
    from mlops.settings import ENVIRONMENTS, load_environment, load_settings

    root = find_root()
    settings = load_settings(root)
    for name in ENVIRONMENTS:
        load_environment(root, name)
    deployments.check(root)
    compiled = definition.load(root)
    faults = [*verb.reference_faults(compiled), *verb.shape_faults(compiled)]
    for fault in faults:
        print(f"pipeline/definition.json: {fault}", file=sys.stderr)
    if faults:
        raise MlopsError(f"{len(faults)} faults: mend pipeline/pipeline.py and run `mlops compile`")
    if definition.is_stale(root, settings):
        raise MlopsError(
            "pipeline/definition.json is stale (pipeline.py, or a name or type in [hyperparameters], is not what it "
            "was compiled from): run `mlops compile` and commit it"
        )
    rules = {*guards.RULES, *guards.SETTINGS, *guarded_files.RULES}
    found = [*guards.in_definition(compiled), *guards.in_settings(settings), *guarded_files.in_files(root)]
    breaches = guards.not_waived(found, settings.waivers, rules)
    for breach in breaches:
        print(f"{breach.message} [{breach.rule}]", file=sys.stderr)
    if breaches:
        raise MlopsError(f"{len(breaches)} rules are broken: mend that, or waive it in mlops.toml under [waivers]")
    for name, reason in settings.waivers.items():
        print(f"waived: {name}: {reason}")
    print(f"ok: {len(definition.steps_of(compiled))} steps, {len(compiled['Parameters'])} parameters")


@click.command()
@environment
@click.option("--against", metavar="REVISION", help="Compare with a git revision instead: no credentials, no AWS.")
@click.option("--markdown", is_flag=True, help="Print GitHub's Markdown, for a job summary.")
def plan(environment: str, against: str | None, markdown: bool) -> None:
    """What `mlops run` would change, run and store: steps, parameters, cached results, code, data."""
    from mlops.outline import to_markdown, to_terminal
    from mlops.root import find_root

    if against:
        from mlops.plans.against import against as verb

        outline = verb(find_root(), environment, against)
    else:
        from mlops.plans.plan import plan as planned

        with project(environment) as (root, door):
            outline = planned(root, door)
    print(to_markdown(outline)) if markdown else to_terminal(outline)


COMMANDS = (compile_, check, plan)
