"""Send one readable message for an event, from a Notify step of the pipeline or from EventBridge.

infra/platform.yaml has this text inline: keep both equal. Local runs have no TOPIC_ARN and only print.
"""

import os


def handler(event, context):
    """Print and publish the message. Notify steps read `sent` from the result."""
    subject, body = message(event)
    print(subject, body, sep="\n\n")
    topic = os.environ.get("TOPIC_ARN")
    if topic:
        import boto3  # not needed in local runs

        boto3.client("sns").publish(TopicArn=topic, Subject=subject, Message=body)
    return {"sent": bool(topic)}


def message(event):
    """Return subject (SNS takes 100 ASCII characters on one line) and body."""
    detail, kind, todo = event.get("detail") or {}, event.get("detail-type"), None
    if kind == "SageMaker Model Building Pipeline Execution Status Change":
        status, execution = detail["currentPipelineExecutionStatus"], detail.get("pipelineExecutionArn")
        subject = f"{detail['pipelineArn'].split('/')[-1]}: pipeline execution {status.lower()}"
        facts = {"status": status, "execution": execution}
        todo = f"sagegate explain {str(execution).split('/')[-1]} --env dev"
    elif kind == "SageMaker Model Package State Change":
        name, version = detail["ModelPackageGroupName"], detail.get("ModelPackageVersion", "")
        subject = f"{name}: model {version} is {detail['ModelApprovalStatus']}"
        stage = detail.get("ModelLifeCycle") or {}
        if stage:
            subject += f", {stage['Stage']} {stage['StageStatus']}"
        facts = {key: detail.get(key) for key in ("ModelPackageArn", "ApprovalDescription")} | stage
    elif kind == "CloudWatch Alarm State Change":
        state = detail.get("state") or {}
        subject = f"{detail['alarmName']}: {state.get('value', 'unknown')}"
        facts = {"alarm": detail["alarmName"], "reason": state.get("reason")}
        todo = "a deployment in progress rolls back by itself; else look at the endpoint's dashboard"
    else:  # a Notify step, or any other event
        subject, todo = event.get("subject") or kind, event.get("todo")
        facts = {key: value for key, value in event.items() if key not in ("subject", "todo")}
    facts |= {key: event.get(key) for key in ("account", "region")}
    body = "\n".join(f"{key}: {value}" for key, value in facts.items() if value not in (None, ""))
    subject = " ".join(str(subject or "").split()).encode("ascii", "replace").decode()[:100]
    return subject or "Unknown event", f"{body}\n\nNext: {todo}" if todo else body
