"""What a rule of `sagegate explain` is: a pattern, the cause it shows, the fix.
The failures that `sagegate explain` knows: a pattern, the cause it shows, and the fix. The first that fits decides.

Texts in braces are the pattern's named groups, a rule's `defaults` where a group did not match, and the facts that
causes.py gathers: {step} {script} {at} {role} {file} {section} {instance_type} {region} {retry} and others there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Rule:
    """One kind of failure. `in_log` rules are looked for at the end of the log too, not only in SageMaker's reason."""

    kind: str
    pattern: re.Pattern[str]
    cause: str
    fix: str
    in_log: bool = True
    defaults: dict[str, str] = field(default_factory=dict)


def rule(kind: str, pattern: str, cause: str, fix: str, in_log: bool = True, **defaults: str) -> Rule:
    """A rule; `defaults` are for the pattern's groups that did not match."""
    return Rule(kind, re.compile(pattern, re.DOTALL | re.MULTILINE), cause, fix, in_log, defaults)


ALLOW = "add it to that role in infra/platform.yaml and deploy it with `sagegate bootstrap{env}`"
PLATFORM = "`sagegate bootstrap{env}` makes what infra/platform.yaml describes"

BUCKETS = (
    "for S3 the role needs s3:GetObject, s3:PutObject and s3:ListBucket; a bucket other than {bucket} has to be named "
    "in infra/platform.yaml and must allow it in its own policy. `sagegate bootstrap{env}` deploys it"
)

RULES = (
    # --- before a job exists ---------------------------------------------------------------------------------------
    rule(
        "assume-role",
        r"[Cc]ould not assume role|unable to (?:assume the role|perform: sts:AssumeRole)|not authorized to perform: "
        r"sts:AssumeRole\b|sts:AssumeRole\"? for the service principal",
        "SageMaker cannot use the role {role}: it does not exist, or its trust policy does not name "
        "sagemaker.amazonaws.com",
        PLATFORM + ", this role with its trust policy among it; then {retry}",
        in_log=False,
    ),
    rule(
        "pass-role",
        r"not authorized to perform: iam:PassRole on resource:? (?P<resource>[^\s'\"]+)",
        "role {role} may not hand {resource} to SageMaker (iam:PassRole)",
        "allow iam:PassRole on it, only to sagemaker.amazonaws.com: " + ALLOW,
        in_log=False,
    ),
    rule(
        "quota",
        r"service[ -]limit '(?P<quota>[^']+)' is (?P<allowed>\d+ \w+), with current utilization of (?P<used>\d+)"
        r"[^.]*?request delta of (?P<asked>\d+)",
        "this account's quota '{quota}' in {region} is {allowed}; {used} are in use, this step asks for {asked} more",
        "ask for more under Service Quotas, Amazon SageMaker, '{quota}', or wait for other jobs to end, and {retry}; "
        "or use another instance_type under [{section}] in {file} and {run}",
        in_log=False,
    ),
    rule(
        "quota",
        r"(?:request delta of (?P<asked>\d+ ?\w+) for '(?P<quota>[^']+)' is greater|ResourceLimitExceeded)",
        "a quota of this account in {region} is reached: '{quota}', {asked} asked for",
        "ask for more under Service Quotas, Amazon SageMaker, and {retry}; or use less under [{section}] in {file} and "
        "{run}",
        in_log=False,
        quota="see the reason",
        asked="more",
    ),
    rule(
        "spot",
        r"MaxWaitTimeExceeded|[Ss]pot (?:instance|capacity|training)[^.]*(?:interrupt|reclaim)|\bInterrupted\b",
        "spot instances of type {instance_type} were taken back, or were not to be had in the time that max_wait_in_"
        "seconds allows",
        "{retry}; if it happens again, raise max_wait_in_seconds, choose another instance_type, or set spot = false "
        "under [training] in {file}",
        in_log=False,
    ),
    rule(
        "capacity",
        r"CapacityError|InsufficientInstanceCapacity|[Ii]nsufficient(?: instance)? capacity|not enough capacity|"
        r"Unable to provision requested ML compute",
        "AWS has no {instance_type} free in {region} at the moment; this is no quota and no fault of yours",
        "{retry} later; or use another instance_type under [{section}] in {file} (in a VPC, more subnets under "
        "[network]) and {run}",
        in_log=False,
    ),
    rule(
        "instance-type",
        r"requested resource \S*?/(?P<type>ml\.[\w.-]+) is not available in this region",
        "there is no {type} for this kind of job in {region}",
        "choose an instance_type that this region has, under [{section}] in {file}; then {run}",
        in_log=False,
    ),
    rule(
        "throttled",
        r"Rate exceeded|ThrottlingException|TooManyRequestsException|RequestLimitExceeded|Throttl(?:ed|ing)\b|SlowDown",
        "AWS took too many calls from this account at once and refused this one",
        "{retry}; fewer parallel executions or steps help if it comes back",
    ),
    # --- image ------------------------------------------------------------------------------------------------------
    rule(
        "image-access",
        r"(?:does not grant |have |perform:? )(?:ecr:)?(?P<action>BatchGetImage|GetDownloadUrlForLayer|"
        r"BatchCheckLayerAvailability|GetAuthorizationToken)|ecr:(?P<other>\w+)",
        "role {role} may not pull the container image (ecr:{action}{other})",
        "allow ecr:BatchGetImage, ecr:GetDownloadUrlForLayer and ecr:BatchCheckLayerAvailability on the image's "
        "repository: add them to that role in infra/platform.yaml, and to the repository's policy if it is another "
        "account's; deploy it with `sagegate bootstrap{env}`",
        in_log=False,
        action="",
        other="",
    ),
    rule(
        "image-missing",
        r"Cannot find the requested image|Cannot pull algorithm container|manifest (?:for|unknown)|"
        r"image not found|ImageNotFound|RepositoryNotFound|[Ii]mage \S+ does not exist",
        "the container image does not exist in {region}, or not with this tag",
        "compare the reason with sagegate/images.py, which names each region's image, and correct region in {file}",
        in_log=False,
    ),
    # --- permissions and places -------------------------------------------------------------------------------------
    rule(
        "kms",
        r"(?P<action>kms:\w+)|KMS(?:AccessDenied|InvalidState|NotFound|Disabled|\.\w+Exception)|customer master key|"
        r"KMS key",
        "role {role} may not use the KMS key that encrypts volumes or objects ({action}), or the key is disabled",
        "allow kms:Decrypt, kms:GenerateDataKey and kms:CreateGrant for {role} in the key's policy; kms_key_arn stands "
        "under [encryption] in {file}",
        action="kms:Decrypt or kms:GenerateDataKey",
    ),
    rule(
        "permission",
        r"not authorized to perform:?\s+(?P<action>[a-z0-9-]+:\w+)(?:\s+on(?: the)? resource:?\s+"
        r"['\"]?(?P<resource>[^\s'\"]+))?(?P<denied>[^\n]*explicit deny[^\n]*)",
        "a policy denies role {role} {action} on {resource} in so many words ({denied})",
        "no permission of the role helps against an explicit deny: ask who keeps the account's service control "
        "policies, permission boundaries or the bucket's policy",
        resource="what the reason names",
    ),
    rule(
        "permission",
        r"not authorized to perform:?\s+(?P<action>[a-z0-9-]+:\w+)(?:\s+on(?: the)? resource:?\s+"
        r"['\"]?(?P<resource>[^\s'\"]+))?",
        "role {role} lacks the permission {action} on {resource}",
        ALLOW + "; then {retry}",
        resource="what the reason names",
    ),
    rule(
        "permission",
        r"Access denied for bucket: (?P<bucket_name>[^,\s]+)(?:, object key: (?P<key>\S+?))?(?=[.,;]?(?:\s|$))|"
        r"object s3://(?P<object>\S+) \(AccessDenied",
        "role {role} may not read or write s3://{object}{bucket_name}/{key}",
        BUCKETS,
        object="",
        bucket_name="",
        key="",
    ),
    rule(
        "permission",
        r"\(AccessDenied\w*\) when calling the (?P<operation>\w+)|\(403\) when calling the (?P<head>\w+)|"
        r"sufficient permissions|AccessDenied",
        "role {role} lacks the permission for {operation}{head}{at}",
        BUCKETS,
        operation="",
        head="",
    ),
    rule(
        "region",
        r"PermanentRedirect|must be addressed using the specified endpoint|AuthorizationHeaderMalformed|"
        r"region '[^']*' is wrong; expecting '(?P<expected>[^']+)'",
        "the bucket is not in {region}{expected}, and SageMaker reads only from its own region",
        "use a bucket of {region} (data.source in mlops.toml), or correct region in {file}",
        expected="",
    ),
    rule(
        "bucket",
        r"NoSuchBucket|[Tt]he specified bucket does not exist|bucket does not exist",
        "the bucket does not exist; this project's own is {bucket}",
        f"{PLATFORM}; a bucket of your own is named by data.source in mlops.toml",
    ),
    rule(
        "code",
        r"sagemaker_submit_directory: no code package at (?P<uri>\S+)",
        "the step's code package is gone from {uri}",
        "`sagegate run{env}` stores it again",
    ),
    rule(
        "data-missing",
        r"No S3 objects found under S3 URL \"(?P<uri>[^\"]+)\"|no object at (?P<place>s3://\S+)|"
        r"Failed to download data[^\n]*(?P<download>s3://\S+)|NoSuchKey|HeadObject operation: Not Found|"
        r"[Tt]he specified key does not exist",
        "there is nothing at {uri}{place}{download}",
        "check data.source in mlops.toml, or what the step before should have written there; `sagegate run{env}` stores "
        "local data again",
        uri="",
        place="",
        download="",
    ),
    rule(
        "network",
        r"ensure that the subnet's route table|Unable to execute request to S3|Could not connect to the endpoint URL|"
        r"[Cc]onnect timeout on endpoint|EndpointConnectionError|ConnectTimeoutError|NewConnectionError|"
        r"Temporary failure in name resolution|Name or service not known|Max retries exceeded with url",
        "the job could not reach the network that it needs{at}",
        "without [network] in {file} a job has the internet; with it, its subnets need routes: a gateway endpoint for "
        "S3, interface endpoints or a NAT gateway for the rest, and security groups that allow outbound HTTPS",
    ),
    # --- limits of the machine --------------------------------------------------------------------------------------
    rule(
        "disk",
        r"No space left on device|Insufficient disk space|Disk quota exceeded",
        "the disk is full{at}",
        "{room}; then {run}",
    ),
    rule(
        "memory",
        r"instance type with more memory|[Ee]xit ?[Cc]ode:? ?\"?(?:137|-9)\b|\bMemoryError\b|bad_alloc|OutOfMemory|"
        r"[Oo]ut of memory|Unable to allocate [\d.]+ \w+|Cannot allocate memory|ended by signal 9|^Killed$|SIGKILL",
        "{step} ran out of memory on {machine}{at}",
        "{larger}; then {run}",
    ),
    rule(
        "crash",
        r"[Ee]xit ?[Cc]ode:? ?\"?(?:139|-11|132|-4|134|-6)\b|Segmentation fault|ended by signal (?:11|4|6)\b",
        "native code of a library crashed in {step}: no Python exception, only a signal",
        "try the same data on this machine (`sagegate run`), and compare the image's versions with pyproject.toml",
    ),
    rule(
        "time",
        r"MaxRuntimeExceeded|longer than its MaxRuntimeInSeconds|exceed\w* (?:the )?max\w* (?:allowed )?(?:run ?time)",
        "{step} took longer than max_runtime_in_seconds allows ({limit})",
        "raise max_runtime_in_seconds under [limits] in {file}, or choose a faster instance_type under [{section}]; "
        "then {run}",
        in_log=False,
    ),
    # --- the pipeline -----------------------------------------------------------------------------------------------
    rule(
        "reference",
        r"[Pp]roperty ?[Ff]ile|JsonGet|[Jj]son ?[Pp]ath|has not run, so it has no properties|is not JSON|"
        r"cannot compare|there is no '[^']*'; found",
        "{step} needs a value that an earlier step did not write, or wrote in another shape",
        "compare the path in pipeline/pipeline.py with what the step's script writes (Evaluate's report is "
        "evaluation.json of model/evaluate.py); `sagegate check` finds references that can never work",
        in_log=False,
    ),
    rule(
        "interrupted",
        r"the process that ran this execution ended before it",
        "the terminal was closed, the machine went down, or something killed `sagegate run`",
        "{retry} goes on where it was",
        in_log=False,
    ),
    # --- the script -------------------------------------------------------------------------------------------------
    rule(
        "module",
        r"(?:ModuleNotFoundError: )No module named '?(?P<module>[\w.]+)|ImportError: (?P<text>[^\n]+)",
        "{script} imports what is not there{at}: {module}{text}",
        "if it is a file of model/, correct the import; if it is a library, the container has only those that "
        "pyproject.toml lists under `What the jobs use`, so do without it or bring an image that has it",
        module="",
        text="",
    ),
    rule(
        "argument",
        r"(?P<text>(?:unrecognized arguments|argument --?[\w-]+|the following arguments are required)[^\n\"(]*)|"
        r"(?P<needed>--\S+ is needed outside a SageMaker job)",
        "{script} does not take the arguments that the step gives it: {text}{needed}",
        "the flags in its parse() have to agree with [hyperparameters] in mlops.toml and with pipeline/pipeline.py",
        text="",
        needed="",
    ),
    rule(
        "data",
        r"(?P<text>(?:[\w.-]+\.csv(?:, line \d|: (?:the target )?column |: [^\n]*quote cells| has a header and no rows|"
        r" is empty: )|there is no \.(?:csv|parquet) file|the \w+ (?:set|split) is empty|target '[^']*'(?: is always|: "
        r"no row)|schema\.toml: )[^\n]*?)(?= \(exit code|\"|$)",
        "the data is not as model/schema.toml describes it: {text}",
        "correct the file, or model/schema.toml if the data is right; `sagegate run` shows the next fault, if any",
    ),
    rule(
        "lost-host",
        r"another host of this job failed or was lost",
        "training on several hosts cannot go on without one of them",
        "read the logs of the other hosts: the one that was lost says why; {retry} if none does",
    ),
    rule(
        "hyperparameter",
        r"(?:XGBoostError: |XGBoost: |(?=--\w+ must be at least ))(?P<text>[^\n\"(]+)",
        "XGBoost refuses what it is given{at}: {text}",
        "check [hyperparameters] in mlops.toml, what --set gave it, and hyperparameters() in model/train.py",
    ),
    rule(
        "internal",
        r"InternalServerError|InternalFailure|encountered an internal error|ServiceUnavailable",
        "an error inside AWS, or a container that ended before it could say why",
        "{retry}; if it comes back with an empty log, suspect the container: its image, memory, or a very large output",
        in_log=False,
    ),
)
