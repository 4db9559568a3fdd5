"""CloudFormation's resource types of an account's platform: buckets, roles, policies, topics (resource_types.py)."""

from __future__ import annotations

import json
from typing import Any

from sagegate.files import Json

from .resource_types import TYPES, Clients, Kind, Made, call


def _text(document: Any) -> str:
    return document if isinstance(document, str) else json.dumps(document, default=str)


class Provider(Kind):
    """AWS::IAM::OIDCProvider."""

    def request(self, properties: Json) -> Json:
        """The API writes ID in capitals."""
        names = {"ClientIdList": "ClientIDList"}
        return {"ThumbprintList": []} | {names.get(key, key): value for key, value in properties.items()}

    def made(self, properties: Json, answer: Json) -> Made:
        """Ref gives the ARN."""
        return Made(answer["OpenIDConnectProviderArn"], {"Arn": answer["OpenIDConnectProviderArn"]})

    def update(self, clients: Clients, identity: str, old: Json, new: Json) -> Made:
        """Audiences, by difference."""
        client = clients("iam")
        before, after = set(old.get("ClientIdList", [])), set(new.get("ClientIdList", []))
        for one in after - before:
            client.add_client_id_to_open_id_connect_provider(OpenIDConnectProviderArn=identity, ClientID=one)
        for one in before - after:
            client.remove_client_id_from_open_id_connect_provider(OpenIDConnectProviderArn=identity, ClientID=one)
        return Made(identity, {"Arn": identity})

    def deletion(self, identity: str, properties: Json) -> Json:
        """By ARN."""
        return {"OpenIDConnectProviderArn": identity}


class Role(Kind):
    """AWS::IAM::Role, with its inline and managed policies."""

    SEPARATE = ("Policies", "ManagedPolicyArns")

    def create(self, clients: Clients, properties: Json) -> Made:
        """The role, then its policies."""
        made = super().create(clients, {k: v for k, v in properties.items() if k not in self.SEPARATE})
        self._policies(clients, {}, properties)
        return made

    def made(self, properties: Json, answer: Json) -> Made:
        """Ref gives the name."""
        return Made(properties["RoleName"], {"Arn": answer["Role"]["Arn"], "RoleId": answer["Role"]["RoleId"]})

    def update(self, clients: Clients, identity: str, old: Json, new: Json) -> Made:
        """Trust, duration, boundary, policies."""
        client = clients("iam")
        trust = _text(new["AssumeRolePolicyDocument"])
        client.update_assume_role_policy(RoleName=identity, PolicyDocument=trust)
        kept: Json = {k: new[k] for k in ("Description", "MaxSessionDuration") if k in new}
        call(client, "update_role", {"RoleName": identity} | kept)
        if boundary := new.get("PermissionsBoundary"):
            client.put_role_permissions_boundary(RoleName=identity, PermissionsBoundary=boundary)
        elif "PermissionsBoundary" in old:
            client.delete_role_permissions_boundary(RoleName=identity)
        self._policies(clients, old, new)
        return self.made(new, client.get_role(RoleName=identity))

    def _policies(self, clients: Clients, old: Json, new: Json) -> None:
        client, name = clients("iam"), (new or old)["RoleName"]
        for policy in new.get("Policies", []):
            document = _text(policy["PolicyDocument"])
            client.put_role_policy(RoleName=name, PolicyName=policy["PolicyName"], PolicyDocument=document)
        inline = {p["PolicyName"] for p in old.get("Policies", [])} - {p["PolicyName"] for p in new.get("Policies", [])}
        for one in inline:
            client.delete_role_policy(RoleName=name, PolicyName=one)
        before, after = set(old.get("ManagedPolicyArns", [])), set(new.get("ManagedPolicyArns", []))
        for arn in after - before:
            client.attach_role_policy(RoleName=name, PolicyArn=arn)
        for arn in before - after:
            client.detach_role_policy(RoleName=name, PolicyArn=arn)

    def delete(self, clients: Clients, identity: str, properties: Json) -> None:
        """Its policies, then the role."""
        self._policies(clients, properties, {})
        super().delete(clients, identity, properties)


class ManagedPolicy(Kind):
    """AWS::IAM::ManagedPolicy."""

    def request(self, properties: Json) -> Json:
        """The API's names."""
        kept = {k: properties[k] for k in ("Path", "Description") if k in properties}
        document = _text(properties["PolicyDocument"])
        return {"PolicyName": properties["ManagedPolicyName"], "PolicyDocument": document} | kept

    def made(self, properties: Json, answer: Json) -> Made:
        """Ref gives the ARN."""
        return Made(answer["Policy"]["Arn"], {"PolicyArn": answer["Policy"]["Arn"]})

    def create(self, clients: Clients, properties: Json) -> Made:
        """The policy, attached to its roles."""
        made = super().create(clients, properties)
        for role in properties.get("Roles", []):
            clients("iam").attach_role_policy(RoleName=role, PolicyArn=made.identity)
        return made

    def update(self, clients: Clients, identity: str, old: Json, new: Json) -> Made:
        """A new version becomes the default; the old ones go."""
        client = clients("iam")
        document = _text(new["PolicyDocument"])
        client.create_policy_version(PolicyArn=identity, PolicyDocument=document, SetAsDefault=True)
        for version in client.list_policy_versions(PolicyArn=identity)["Versions"]:
            if not version["IsDefaultVersion"]:
                client.delete_policy_version(PolicyArn=identity, VersionId=version["VersionId"])
        for role in set(new.get("Roles", [])) - set(old.get("Roles", [])):
            client.attach_role_policy(RoleName=role, PolicyArn=identity)
        for role in set(old.get("Roles", [])) - set(new.get("Roles", [])):
            client.detach_role_policy(RoleName=role, PolicyArn=identity)
        return Made(identity, {"PolicyArn": identity})

    def delete(self, clients: Clients, identity: str, properties: Json) -> None:
        """Detached, then deleted."""
        for role in properties.get("Roles", []):
            clients("iam").detach_role_policy(RoleName=role, PolicyArn=identity)
        clients("iam").delete_policy(PolicyArn=identity)


class ServiceLinkedRole(Kind):
    """AWS::IAM::ServiceLinkedRole."""

    def made(self, properties: Json, answer: Json) -> Made:
        """Ref gives the name."""
        return Made(answer["Role"]["RoleName"], {"RoleName": answer["Role"]["RoleName"]})

    def deletion(self, identity: str, properties: Json) -> Json:
        """By name."""
        return {"RoleName": identity}


class Bucket(Kind):
    """AWS::S3::Bucket with the settings that a platform needs; each is a call of its own."""

    SETTINGS = (
        ("VersioningConfiguration", "put_bucket_versioning", "VersioningConfiguration"),
        ("PublicAccessBlockConfiguration", "put_public_access_block", "PublicAccessBlockConfiguration"),
        ("OwnershipControls", "put_bucket_ownership_controls", "OwnershipControls"),
    )

    def create(self, clients: Clients, properties: Json) -> Made:
        """The bucket, then its settings."""
        client, name = clients("s3"), properties["BucketName"]
        region = client.meta.region_name
        place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        client.create_bucket(Bucket=name, **place)
        return self.update(clients, name, {}, properties)

    def update(self, clients: Clients, identity: str, old: Json, new: Json) -> Made:
        """All settings again."""
        client = clients("s3")
        for key, method, argument in self.SETTINGS:
            if key in new:
                call(client, method, {"Bucket": identity, argument: new[key]})
        if rules := new.get("BucketEncryption", {}).get("ServerSideEncryptionConfiguration"):
            names = {"ServerSideEncryptionByDefault": "ApplyServerSideEncryptionByDefault"}
            rules = [{names.get(k, k): v for k, v in rule.items()} for rule in rules]
            request = {"Bucket": identity, "ServerSideEncryptionConfiguration": {"Rules": rules}}
            call(client, "put_bucket_encryption", request)
        if rules := new.get("LifecycleConfiguration", {}).get("Rules"):
            configuration = {"Rules": [lifecycle(rule) for rule in rules]}
            call(client, "put_bucket_lifecycle_configuration", {
                "Bucket": identity, "LifecycleConfiguration": configuration,
            })  # fmt: skip
        if "EventBridgeConfiguration" in new.get("NotificationConfiguration", {}):
            events: Json = {"EventBridgeConfiguration": {}}
            client.put_bucket_notification_configuration(Bucket=identity, NotificationConfiguration=events)
        if tags := new.get("Tags"):
            client.put_bucket_tagging(Bucket=identity, Tagging={"TagSet": tags})
        names = {"Arn": f"arn:aws:s3:::{identity}", "DomainName": f"{identity}.s3.amazonaws.com"}
        return Made(identity, names)

    def deletion(self, identity: str, properties: Json) -> Json:
        """By name; S3 refuses a bucket that is not empty."""
        return {"Bucket": identity}


def lifecycle(rule: Json) -> Json:
    """One lifecycle rule, from CloudFormation's names to S3's."""
    found: Json = {"Status": rule["Status"], "Filter": {"Prefix": rule.get("Prefix", "")}}
    if "Id" in rule:
        found["ID"] = rule["Id"]
    if "ExpirationInDays" in rule:
        found["Expiration"] = {"Days": int(rule["ExpirationInDays"])}
    elif "ExpiredObjectDeleteMarker" in rule:
        found["Expiration"] = {"ExpiredObjectDeleteMarker": str(rule["ExpiredObjectDeleteMarker"]).lower() == "true"}
    if "NoncurrentVersionExpiration" in rule:
        found["NoncurrentVersionExpiration"] = rule["NoncurrentVersionExpiration"]
    if "AbortIncompleteMultipartUpload" in rule:
        found["AbortIncompleteMultipartUpload"] = rule["AbortIncompleteMultipartUpload"]
    if "Transitions" in rule:
        moves = rule["Transitions"]
        found["Transitions"] = [{"Days": int(m["TransitionInDays"]), "StorageClass": m["StorageClass"]} for m in moves]
    return found


class BucketPolicy(Kind):
    """AWS::S3::BucketPolicy."""

    def deletion(self, identity: str, properties: Json) -> Json:
        """By bucket."""
        return {"Bucket": identity}

    def request(self, properties: Json) -> Json:
        """The API's names."""
        return {"Bucket": properties["Bucket"], "Policy": _text(properties["PolicyDocument"])}

    def made(self, properties: Json, answer: Json) -> Made:
        """Ref gives the bucket."""
        return Made(properties["Bucket"], {})


class TopicPolicy(Kind):
    """AWS::SNS::TopicPolicy."""

    def create(self, clients: Clients, properties: Json) -> Made:
        """An attribute of each topic."""
        for topic in properties["Topics"]:
            value = _text(properties["PolicyDocument"])
            clients("sns").set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=value)
        return Made("|".join(properties["Topics"]), {})

    def delete(self, clients: Clients, identity: str, properties: Json) -> None:
        """It goes with its topic."""


class Subscription(Kind):
    """AWS::SNS::Subscription."""

    def made(self, properties: Json, answer: Json) -> Made:
        """Ref gives the ARN."""
        return Made(answer["SubscriptionArn"], {"Arn": answer["SubscriptionArn"]})

    def deletion(self, identity: str, properties: Json) -> Json:
        """By ARN."""
        return {"SubscriptionArn": identity}


class Permission(Kind):
    """AWS::Lambda::Permission."""

    def create(self, clients: Clients, properties: Json) -> Made:
        """A statement of the function's policy."""
        identity = "-".join(properties[k] for k in ("FunctionName", "Principal")).replace(".", "-").replace(":", "-")
        call(clients("lambda"), "add_permission", {"StatementId": identity[-100:], **properties})
        return Made(identity[-100:], {"Id": identity[-100:]})

    def deletion(self, identity: str, properties: Json) -> Json:
        """By statement."""
        return {"FunctionName": properties["FunctionName"], "StatementId": identity}


TYPES.update({
    "AWS::IAM::OIDCProvider": Provider(
        "iam", "create_open_id_connect_provider", "delete_open_id_connect_provider", "", ("Url",)
    ),
    "AWS::IAM::Role": Role("iam", "create_role", "delete_role", "RoleName", ("RoleName", "Path")),
    "AWS::IAM::ManagedPolicy": ManagedPolicy("iam", "create_policy", "", "ManagedPolicyName"),
    "AWS::IAM::ServiceLinkedRole": ServiceLinkedRole(
        "iam", "create_service_linked_role", "delete_service_linked_role", "", ("*",)
    ),
    "AWS::S3::Bucket": Bucket("s3", "create_bucket", "delete_bucket", "BucketName"),
    "AWS::S3::BucketPolicy": BucketPolicy("s3", "put_bucket_policy", "delete_bucket_policy", "", ("Bucket",)),
    "AWS::SNS::TopicPolicy": TopicPolicy("sns", "set_topic_attributes", "", "", ("Topics",)),
    "AWS::SNS::Subscription": Subscription("sns", "subscribe", "unsubscribe", "", ("*",)),
    "AWS::Lambda::Permission": Permission("lambda", "add_permission", "remove_permission", "", ("*",)),
})  # fmt: skip
