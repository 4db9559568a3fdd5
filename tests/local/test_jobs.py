"""One job: the /opt/ml contract, hosts, failure, limits, hard-coded paths, and the shapes of descriptions."""

import json
import os
import time
from pathlib import Path
from typing import Any

from botocore.loaders import Loader
from botocore.model import ServiceModel
from local_lab import BUCKET, Lab, write

from sagegate.files import archive
from sagegate.pipeline.validate import _shape

Json = dict[str, Any]


def training(lab: Lab, script: str, name: str = "Train", **more: Any) -> Json:
    """A Training step in script mode with one channel."""
    code = lab.put(f"code/{name}/sourcedir.tar.gz", archive({"train.py": script.encode()}))
    data = more.pop("data", f"s3://{BUCKET}/data")
    arguments: Json = {
        "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
        "HyperParameters": {"sagemaker_program": "train.py", "sagemaker_submit_directory": code}
        | more.pop("hyperparameters", {}),
        "InputDataConfig": [
            {
                "ChannelName": "train",
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": "S3Prefix",
                        "S3Uri": data,
                        "S3DataDistributionType": more.pop("distribution", "FullyReplicated"),
                    }
                },
            }
        ],
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/models"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": more.pop("count", 1), "VolumeSizeInGB": 1},
        "RoleArn": "arn:aws:iam::000000000000:role/x",
        "StoppingCondition": {"MaxRuntimeInSeconds": more.pop("seconds", 60)},
    }
    return {"Name": name, "Type": "Training", "Arguments": arguments}


def trained(lab: Lab, step: Json) -> Json:
    """The description of the job that a training step ran."""
    done = lab.run(step)
    assert done.status == "Succeeded", done.reason
    name = done.steps[step["Name"]]["Metadata"]["TrainingJob"]["Arn"].rpartition("/")[2]
    return lab.client.describe_training_job(TrainingJobName=name)


def model(lab: Lab, description: Json) -> dict[str, str]:
    """The files of a trained model."""
    import io
    import tarfile

    content = lab.store.read(description["ModelArtifacts"]["S3ModelArtifacts"])
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        members = [m for m in tar.getmembers() if m.isfile()]
        return {m.name: tar.extractfile(m).read().decode() for m in members}  # type: ignore[union-attr]


REPORT = """
import json, os, sys, pathlib
out = pathlib.Path(os.environ["SM_MODEL_DIR"]) / (os.environ["SM_CURRENT_HOST"] + ".json")
opt = pathlib.Path(os.environ["SM_MODEL_DIR"]).parent
out.write_text(json.dumps({
    "argv": sys.argv[1:],
    "hosts": json.loads(os.environ["SM_HOSTS"]),
    "files": sorted(os.listdir(os.environ["SM_CHANNEL_TRAIN"])),
    "hyperparameters": json.loads((opt / "input/config/hyperparameters.json").read_text()),
    "resource": json.loads((opt / "input/config/resourceconfig.json").read_text()),
    "channels": json.loads((opt / "input/config/inputdataconfig.json").read_text()),
    "hps": json.loads(os.environ["SM_HPS"]),
    "sagegate": "sagegate" in sys.modules,
    "cwd": os.getcwd(),
}))
print("hello from", os.environ["SM_CURRENT_HOST"])
"""


def test_training_follows_the_opt_ml_contract(lab: Lab) -> None:
    lab.put("data/a.csv", "1")
    description = trained(lab, training(lab, REPORT, hyperparameters={"max_depth": "3", "name": '"quoted by v2"'}))
    found = json.loads(model(lab, description)["algo-1.json"])
    assert found["argv"] == ["--max_depth", "3", "--name", "quoted by v2"]
    assert found["hps"] == {"max_depth": 3, "name": "quoted by v2"}
    assert found["hyperparameters"] == {
        "max_depth": "3",
        "name": '"quoted by v2"',
        "sagemaker_program": "train.py",
        "sagemaker_submit_directory": f"s3://{BUCKET}/code/Train/sourcedir.tar.gz",
    }
    assert found["files"] == ["a.csv"]
    assert found["resource"]["current_host"] == "algo-1"
    assert list(found["channels"]) == ["train"]
    assert found["sagegate"] is False


def test_hyperparameters_become_flags_as_the_toolkit_makes_them(lab: Lab) -> None:
    lab.put("data/a.csv", "1")
    given = {"C": "0.50", "verbose": "true", "sizes": "[1, 2]", "note": "", "nothing": "null", "map": '{"a": 1}'}
    found = json.loads(model(lab, trained(lab, training(lab, REPORT, hyperparameters=given)))["algo-1.json"])
    flags = dict(zip(found["argv"][::2], found["argv"][1::2], strict=True))
    assert flags == {
        "-C": "0.5",
        "--verbose": "True",
        "--sizes": "[1, 2]",
        "--note": "",
        "--nothing": "",
        "--map": "a=1",
    }
    assert found["hps"]["verbose"] is True and found["hps"]["sizes"] == [1, 2]


def test_a_training_job_runs_its_own_entrypoint(lab: Lab) -> None:
    lab.put("data/a.csv", "1")
    step = training(lab, "raise SystemExit('not this one')", hyperparameters={"depth": "3"})
    command = 'cp /opt/ml/input/data/train/a.csv "/opt/ml/model/$0"; echo "$SM_MODEL_DIR" > /opt/ml/model/variable'
    step["Arguments"]["AlgorithmSpecification"] |= {
        "ContainerEntrypoint": ["sh", "-c", command],
        "ContainerArguments": ["copy.csv"],
    }
    assert model(lab, trained(lab, step)) == {"copy.csv": "1", "variable": "\n"}
    del step["Arguments"]["AlgorithmSpecification"]["ContainerEntrypoint"]
    assert "ContainerArguments without a ContainerEntrypoint" in lab.run(step).reason


def test_hosts_are_processes_with_shards_and_logs_of_their_own(lab: Lab) -> None:
    for name in "abc":
        lab.put(f"data/{name}.csv", name)
    step = training(lab, REPORT, count=2, distribution="ShardedByS3Key")
    done = lab.run(step)
    assert done.status == "Succeeded", done.reason
    name = done.steps["Train"]["Metadata"]["TrainingJob"]["Arn"].rpartition("/")[2]
    files = model(lab, lab.client.describe_training_job(TrainingJobName=name))
    shards = [json.loads(files[f"algo-{i}.json"])["files"] for i in (1, 2)]
    assert shards == [["a.csv", "c.csv"], ["b.csv"]]
    assert all(json.loads(text)["hosts"] == ["algo-1", "algo-2"] for text in files.values())
    assert lab.client.log_lines(done.arn, "Train", 9) == ["hello from algo-1", "hello from algo-2"]


def test_one_failing_host_fails_the_job_and_ends_the_others(lab: Lab) -> None:
    lab.put("data/a.csv", "1")
    script = "import os, signal, sys\nif os.environ['SM_CURRENT_HOST'] == 'algo-2': sys.exit('mine')\nsignal.pause()\n"
    done = lab.run(training(lab, script, count=2))
    assert done.reason == "Step Train failed: mine (exit code 1 on algo-2)"


def test_the_failure_file_is_the_reason(lab: Lab) -> None:
    lab.put("data/a.csv", "1")
    script = "import os, sys\nopen(os.environ['SM_OUTPUT_DIR'] + '/failure', 'w').write('w' * 2000)\nsys.exit(4)\n"
    done = lab.run(training(lab, script))
    assert done.steps["Train"]["FailureReason"].startswith("w" * 1000)
    assert len(done.steps["Train"]["FailureReason"]) <= 1024


def test_exit_codes_count(lab: Lab) -> None:
    done = lab.run(lab.processing("Step", "import os\nprint('bye')\nos._exit(7)"))
    assert done.reason == "Step Step failed: bye (exit code 7)"
    for given, seen in ((256 + 7, 7), (-1, 255)):
        done = lab.run(lab.processing("Step", f"import sys\nprint('bye')\nsys.exit({given})"))
        assert done.reason == f"Step Step failed: bye (exit code {seen})", "a process's exit code is one byte"


def test_a_job_lasts_as_long_as_its_threads(lab: Lab) -> None:
    script = (
        "import threading, time\ndef later():\n    time.sleep(0.3)\n    print('thread done', flush=True)\n"
        "threading.Thread(target=later).start()\n"
        "import atexit\natexit.register(print, 'exit hook')\nprint('script done')\n"
    )
    done = lab.run(lab.processing("Step", script))
    assert done.status == "Succeeded", done.reason
    assert lab.client.log_lines(done.arn, "Step", 9) == ["script done", "thread done", "exit hook"]


def test_no_process_of_an_ended_job_stays_behind(lab: Lab) -> None:
    """A job's end is reported before its process is gone; that is waited for all the same."""
    for _ in range(3):
        assert lab.run(lab.processing("Step", "x = bytearray(50_000_000)")).status == "Succeeded"
    zygote = lab.client.launcher._zygote
    assert zygote is not None

    def children() -> list[str]:
        found = [Path(f"/proc/{pid}/stat") for pid in os.listdir("/proc") if pid.isdigit()]
        states = [file.read_text().rpartition(")")[2].split()[:2] for file in found if file.exists()]
        return [state for state, parent in states if parent == str(zygote.pid)]

    deadline = time.monotonic() + 10
    while children() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert children() == []


def test_a_job_that_runs_too_long_is_ended(lab: Lab) -> None:
    step = lab.processing("Slow", "import signal; signal.pause()", StoppingCondition={"MaxRuntimeInSeconds": 1})
    assert "longer than its MaxRuntimeInSeconds (1 s)" in lab.run(step).reason


def test_entrypoints_that_are_no_python_script_run(lab: Lab) -> None:
    step = lab.processing("Shell", "", arguments=["hello"])
    command = 'echo "$0 $GREETING" > /opt/ml/processing/output/out/x.txt'
    step["Arguments"]["AppSpecification"]["ContainerEntrypoint"] = ["sh", "-c", command]
    done = lab.run({**step, "Arguments": {**step["Arguments"], "Environment": {"GREETING": "at /opt/ml"}}})
    assert done.status == "Succeeded", done.reason
    said = lab.get(lab.output(done, "Shell") + "/x.txt").strip()
    assert said.startswith("hello at /") and said.endswith("/opt/ml") and said != "hello at /opt/ml"


def test_an_input_that_does_not_exist_is_named(lab: Lab) -> None:
    done = lab.run(lab.processing("Step", write("''"), {"data": f"s3://{BUCKET}/nothing"}))
    assert done.reason == f"Step Step failed: input data: no object at s3://{BUCKET}/nothing"


MODEL = ServiceModel(Loader().load_service_model("sagemaker", "service-2"), "sagemaker")


def conforms(operation: str, response: Json) -> list[str]:
    """How a response differs from the operation's output shape in botocore's service model."""
    return list(_shape(response, MODEL.operation_model(operation).output_shape, "", {}))


def test_descriptions_have_botocore_s_output_shapes(lab: Lab) -> None:
    lab.put("data/a.csv", "1")
    group = {
        "Name": "Register",
        "Type": "RegisterModel",
        "Arguments": {
            "ModelPackageGroupName": "g",
            "ModelApprovalStatus": "PendingManualApproval",
            "InferenceSpecification": {
                "Containers": [{"Image": "i", "ModelDataUrl": {"Get": "Steps.Train.ModelArtifacts.S3ModelArtifacts"}}],
                "SupportedContentTypes": ["text/csv"],
                "SupportedResponseMIMETypes": ["text/csv"],
            },
        },
    }
    equal = {"Type": "Equals", "LeftValue": 1, "RightValue": 1}
    fail = {"Name": "Stop", "Type": "Fail", "Arguments": {"ErrorMessage": "enough"}, "DependsOn": ["Register"]}
    gate = {
        "Name": "Gate",
        "Type": "Condition",
        "DependsOn": ["Register", "Process"],
        "Arguments": {"Conditions": [equal], "IfSteps": [fail], "ElseSteps": []},
    }
    parameters = [{"Name": "P", "Type": "Integer", "DefaultValue": 3}]
    done = lab.run(lab.processing("Process", write("''")), training(lab, REPORT), group, gate, parameters=parameters)
    client, arn = lab.client, done.arn
    jobs = {name: step["Metadata"] for name, step in done.steps.items()}
    process = jobs["Process"]["ProcessingJob"]["Arn"].rpartition("/")[2]
    train = jobs["Train"]["TrainingJob"]["Arn"].rpartition("/")[2]
    package = jobs["Register"]["RegisterModel"]["Arn"]
    responses = {
        "DescribePipeline": client.describe_pipeline(PipelineName="p"),
        "DescribePipelineExecution": client.describe_pipeline_execution(PipelineExecutionArn=arn),
        "ListPipelineExecutions": client.list_pipeline_executions(PipelineName="p"),
        "ListPipelineExecutionSteps": client.list_pipeline_execution_steps(PipelineExecutionArn=arn),
        "ListPipelineParametersForExecution": client.list_pipeline_parameters_for_execution(PipelineExecutionArn=arn),
        "DescribePipelineDefinitionForExecution": client.describe_pipeline_definition_for_execution(
            PipelineExecutionArn=arn
        ),
        "DescribeProcessingJob": client.describe_processing_job(ProcessingJobName=process),
        "DescribeTrainingJob": client.describe_training_job(TrainingJobName=train),
        "DescribeModelPackage": client.describe_model_package(ModelPackageName=package),
        "ListModelPackages": client.list_model_packages(ModelPackageGroupName="g"),
    }
    assert done.status == "Failed"
    assert {name: conforms(name, response) for name, response in responses.items() if conforms(name, response)} == {}
    assert conforms("DescribePipeline", {"PipelineNam": "p"}), "the check itself can fail"


def test_two_executions_at_once_are_both_right(lab: Lab) -> None:
    step = lab.processing("Step", write("sys.argv[1]"), arguments=[{"Get": "Parameters.Word"}])
    parameters = [{"Name": "Word", "Type": "String", "DefaultValue": "none"}]
    lab.run(step, parameters=parameters)
    arns = [
        lab.client.start_pipeline_execution(PipelineName="p", PipelineParameters=[{"Name": "Word", "Value": word}])[
            "PipelineExecutionArn"
        ]
        for word in ("one", "two", "three")
    ]
    said = [lab.get(lab.output(lab.ended(arn), "Step") + "/x.txt") for arn in arns]
    assert said == ["one", "two", "three"]
    assert os.listdir(lab.root / ".mlops" / "jobs") == []


def test_what_a_job_does_to_its_inputs_does_not_reach_the_store(lab: Lab) -> None:
    """Not even when the job is killed after it wrote, so that nothing could check."""
    uri = lab.put("large/a.bin", b"x" * 2_000_000)
    change = (
        "import os, pathlib, signal\nf = pathlib.Path(__file__).parents[1] / 'data' / 'a.bin'\n"
        "f.open('r+b').write(b'wrong')\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert lab.run(lab.processing("Change", change, {"data": uri})).status == "Failed"
    assert lab.store.read(uri) == b"x" * 2_000_000
