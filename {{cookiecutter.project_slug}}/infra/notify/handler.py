"""One readable message for each thing worth knowing: from the pipeline's Notify steps and from EventBridge rules.

Deployed inline by infra/platform.yaml, so the same text stands there. On a laptop there is no TOPIC_ARN: it prints.
"""

import json
import os


def handler(event, context):
    """Tell the topic; a Lambda step reads `sent` from the answer."""
    subject, body = message(event)
    print(subject, body, sep="\n\n")
    topic = os.environ.get("TOPIC_ARN")
    if topic:
        import boto3  # part of Lambda's runtime; not needed, and slow to import, where nothing is sent

        boto3.client("sns").publish(TopicArn=topic, Subject=subject, Message=body)
    return {"sent": bool(topic)}


def message(event):
    """The subject (SNS allows 100 ASCII characters on one line) and body of an event."""
    detail = event.get("detail") or {}
    kind = event.get("detail-type", "")
    if kind == "SageMaker Model Building Pipeline Execution Status Change":
        name, status = detail["pipelineArn"].split("/")[-1], detail["currentPipelineExecutionStatus"]
        told = {"status": status, "execution": detail.get("pipelineExecutionArn")}
        todo = f"mlops explain {str(told['execution']).split('/')[-1]} --env dev"
        subject = f"{name}: pipeline execution {status.lower()}"
    elif kind == "SageMaker Model Package State Change":
        name, status = detail["ModelPackageGroupName"], detail["ModelApprovalStatus"]
        stage = detail.get("ModelLifeCycle") or {}
        told = {key: detail.get(key) for key in ("ModelPackageArn", "ApprovalDescription")} | stage
        todo = None
        subject = f"{name}: model {detail.get('ModelPackageVersion', '')} is {status}"
        if stage:
            subject += f", {stage['Stage']} {stage['StageStatus']}"
    elif kind == "CloudWatch Alarm State Change":
        state = detail.get("state") or {}
        told = {"alarm": detail["alarmName"], "reason": state.get("reason")}
        todo = "a deployment in progress rolls back by itself; else look at the endpoint's dashboard"
        subject = f"{detail['alarmName']}: {state.get('value', 'unknown')}"
    elif "subject" in event:  # a Lambda step of the pipeline
        told = {key: value for key, value in event.items() if key not in ("subject", "todo")}
        todo = event.get("todo")
        subject = event["subject"]
    else:
        told, todo, subject = {"event": json.dumps(event, sort_keys=True, default=str)}, None, kind or "Unknown event"
    lines = [f"{key}: {value}" for key, value in told.items() if value not in (None, "")]
    lines += [f"account: {event['account']}, {event.get('region', '')}"] if "account" in event else []
    lines += ["", f"Next: {todo}"] if todo else []
    line = " ".join(str(subject).split())
    return line.encode("ascii", "replace").decode()[:100] or "Unknown event", "\n".join(lines)
