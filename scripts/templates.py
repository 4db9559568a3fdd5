"""Read CloudFormation templates and evaluate parameters, conditions and intrinsic functions without AWS."""

import json
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml
from clean_copy import ROOT

INFRA = ROOT / "{{cookiecutter.project_slug}}" / "infra"
PLATFORM, ENDPOINT = INFRA / "platform.yaml", INFRA / "endpoint.yaml"
REGION, DEV, OPS = "eu-west-1", "111111111111", "222222222222"
Json = dict[str, Any]


class _Absent:
    """The value of `AWS::NoValue`."""


ABSENT = _Absent()


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms: `!Sub x` is {"Fn::Sub": x}."""


def _short_form(loader: _Loader, suffix: str, node: yaml.Node) -> Json:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    name = suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}"
    return {name: value.split(".", 1) if suffix == "GetAtt" else value}


_Loader.add_multi_constructor("!", _short_form)


def load(path: Path) -> Json:
    """Return a template with the long forms of its functions."""
    template: Json = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    return template


class Stack:
    """A template with values for its parameters: the resources that it creates, and their properties."""

    def __init__(self, path: Path, account: str, parameters: Mapping[str, Any]) -> None:
        self.template = load(path)
        declared = self.template["Parameters"]
        unknown = parameters.keys() - declared.keys() - {"AWS::Partition"}
        assert not unknown, f"{path.name} has no parameters {sorted(unknown)}"
        self.values: Json = {
            "AWS::AccountId": account,
            "AWS::Region": REGION,
            "AWS::Partition": parameters.get("AWS::Partition", "aws"),
            **{name: parameters.get(name, entry.get("Default")) for name, entry in declared.items()},
        }
        missing = [name for name in declared if self.values[name] is None]
        assert not missing, f"{path.name} needs {missing}"
        for name, entry in declared.items():
            if entry["Type"] == "CommaDelimitedList" and isinstance(self.values[name], str):
                self.values[name] = [part for part in self.values[name].split(",") if part]
        self.resources: Json = {
            name: self.resolve({**body, "Condition": None})
            for name, body in self.template["Resources"].items()
            if "Condition" not in body or self.holds(body["Condition"])
        }

    def holds(self, name: str) -> bool:
        """Return the value of one of the template's conditions."""
        return self._condition(self.template["Conditions"][name])

    def _condition(self, body: Json) -> bool:
        ((function, argument),) = body.items()
        if function == "Condition":
            return self.holds(argument)
        if function == "Fn::Equals":
            left, right = (self.resolve(value) for value in argument)
            return str(left) == str(right)
        results = [self._condition(value) for value in argument]
        return {"Fn::Not": not results[0], "Fn::And": all(results), "Fn::Or": any(results)}[function]

    def resolve(self, value: Any) -> Any:
        """Return a value of the template with its functions evaluated."""
        if isinstance(value, list):
            return [item for item in map(self.resolve, value) if item is not ABSENT]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((function, argument),) = value.items()
            if function == "Ref":
                return self._ref(argument)
            if function == "Fn::Sub":
                # `${!x}` is CloudFormation's way to write a literal `${x}`, a variable of IAM.
                return re.sub(
                    r"\$\{(!?)([^}]+)\}", lambda m: f"${{{m[2]}}}" if m[1] else str(self._ref(m[2])), argument
                )
            if function == "Fn::GetAtt":
                return self._ref(".".join(argument))
            if function == "Fn::If":
                return self.resolve(argument[1] if self.holds(argument[0]) else argument[2])
            if function == "Fn::Join":
                return str(argument[0]).join(map(str, self.resolve(argument[1])))
        resolved = {key: self.resolve(item) for key, item in value.items()}
        return {key: item for key, item in resolved.items() if item is not ABSENT}

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return ABSENT
        if name in self.values:
            return self.values[name]
        logical, _, attribute = name.partition(".")
        assert logical in self.template["Resources"], f"{name}: no such parameter or resource"
        body = self.template["Resources"][logical]
        own = {"AWS::S3::Bucket": "BucketName", "AWS::IAM::Role": "RoleName", "AWS::CloudWatch::Alarm": "AlarmName"}
        if body["Type"] == "AWS::S3::Bucket":
            bucket = self.resolve(body["Properties"]["BucketName"])
            return f"arn:aws:s3:::{bucket}" if attribute == "Arn" else bucket
        if body["Type"] in own and not attribute:
            return self.resolve(body["Properties"][own[body["Type"]]])
        account, properties = self.values["AWS::AccountId"], body["Properties"]
        if body["Type"] == "AWS::IAM::Role":
            return f"arn:aws:iam::{account}:role/" + self._ref(logical)
        if body["Type"] == "AWS::SNS::Topic":
            return f"arn:aws:sns:{REGION}:{account}:" + self.resolve(properties["TopicName"])
        return f"<{name}>"

    def of_type(self, kind: str) -> Json:
        """Return the properties of the resources of one type, by logical id."""
        return {name: body["Properties"] for name, body in self.resources.items() if body["Type"] == kind}

    def role(self, name: str) -> Json:
        """Return a role's properties by its full name."""
        roles: dict[str, Json] = {body["RoleName"]: body for body in self.of_type("AWS::IAM::Role").values()}
        assert name in roles, f"no role {name}: {sorted(roles)}"
        return roles[name]

    def statements(self, name: str) -> list[Json]:
        """Return all statements of a role, with the values of its tags for IAM's `${aws:PrincipalTag/KEY}`."""
        role = self.role(name)
        documents = [policy["PolicyDocument"] for policy in role.get("Policies", [])]
        for reference in role.get("ManagedPolicyArns", []):
            documents.append(self.resources[reference.strip("<>")]["Properties"]["PolicyDocument"])
        text = json.dumps([statement for document in documents for statement in document["Statement"]])
        for tag in role.get("Tags", []):
            text = text.replace(f"${{aws:PrincipalTag/{tag['Key']}}}", tag["Value"])
        statements: list[Json] = json.loads(text)
        return statements


def as_list(value: Any) -> list[Any]:
    """Return a list; IAM accepts a single value in its place."""
    return value if isinstance(value, list) else [value]


def conditions_hold(conditions: Json, context: Mapping[str, str]) -> bool:
    """Evaluate conditions as IAM does: every operator and key must match, with at least one of a key's values."""
    for operator, keys in conditions.items():
        for key, accepted in keys.items():
            given = context.get(key)
            values = [str(value) for value in as_list(accepted)]
            if operator == "StringEqualsIfExists" and given is None:
                continue
            if given is None:
                return False
            if operator in ("StringEquals", "StringEqualsIfExists", "Bool"):
                if given not in values:
                    return False
            elif operator in ("StringLike", "ArnLike"):
                if not any(fnmatchcase(given, value) for value in values):
                    return False
            else:
                raise AssertionError(f"unknown operator {operator}")
    return True


def allowed(statements: list[Json], action: str, resource: str, **context: str) -> bool:
    """Evaluate one call as IAM does: no Deny matches, and an Allow does. Context keys: `iam__PassedToService`."""
    known = {key.replace("__", ":", 1).replace("__", "-"): value for key, value in context.items()}
    is_allowed = False
    for statement in statements:
        if not any(fnmatchcase(action.lower(), str(a).lower()) for a in as_list(statement["Action"])):
            continue
        if not any(fnmatchcase(resource, str(r)) for r in as_list(statement["Resource"])):
            continue
        if conditions_hold(statement.get("Condition", {}), known):
            if statement["Effect"] == "Deny":
                return False
            is_allowed = True
    return is_allowed


def platform(hosts: str = "dev", account: str = DEV, **parameters: Any) -> Stack:
    """Return the platform stack of an account with these environments: `platform("staging prod", OPS)`."""
    hosted = {f"Hosts{name.capitalize()}": str(name in hosts.split()).lower() for name in ("dev", "staging", "prod")}
    fixed = {
        "ProjectName": "tumour",
        "GitHubRepository": "my-org/tumour",
        "GitHubSubject": "repo:my-org@1/tumour@2",
        "TrainingAccountId": DEV,
    }
    return Stack(PLATFORM, account, fixed | hosted | parameters)


def endpoint(**parameters: Any) -> Stack:
    """Return the endpoint stack of staging with model 7."""
    fixed = {
        "ProjectName": "tumour",
        "Environment": "staging",
        "ModelPackageArn": f"arn:aws:sagemaker:{REGION}:{DEV}:model-package/tumour/7",
        "ModelVersion": "7",
        "ArtifactDigest": "a" * 64,
        "Revision": "0123abcd",
        "EndpointRoleArn": f"arn:aws:iam::{OPS}:role/tumour-endpoint",
    }
    return Stack(ENDPOINT, OPS, fixed | parameters)
