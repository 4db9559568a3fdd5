"""Jobs: files and variables below /opt/ml, hosts, failures, limits, and the shapes of the client's responses."""

import io
import json
import os
import tarfile
import time
from typing import Any

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.validate import ParamValidator
from local_lab import BUCKET, Lab, write

from sagegate.files import Json, archive


def training(lab: Lab, script: str, name: str = "Train", **more: Any) -> Json:
    """Return a Training step in script mode with one channel."""
    code = lab.put(f"code/{name}/sourcedir.tar.gz", archive({"train.py": script.encode()}))
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/data"}
    source["S3DataDistributionType"] = more.pop("distribution", "FullyReplicated")
    arguments: Json = {
        "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
        "HyperParameters": {"sagemaker_program": "train.py", "sagemaker_submit_directory": code}
        | more.pop("hyperparameters", {}),
        "InputDataConfig": [{"ChannelName": "train", "DataSource": {"S3DataSource": source}}],
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/models"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": more.pop("count", 1), "VolumeSizeInGB": 1},
        "RoleArn": "arn:aws:iam::000000000000:role/x",
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
    }
    return {"Name": name, "Type": "Training", "Arguments": arguments}


def trained(lab: Lab, step: Json) -> Json:
    """Run a training step and return the description of its job."""
    done = lab.run(step)
    assert done.status == "Succeeded", done.reason
    name = done.steps[step["Name"]]["Metadata"]["TrainingJob"]["Arn"].rpartition("/")[2]
    return lab.client.describe_training_job(TrainingJobName=name)


def model(lab: Lab, description: Json) -> dict[str, str]:
    """Return the files of a trained model."""
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


def test_training_job_files_and_variables(lab: Lab) -> None:
    lab.put("data/a.csv", "1")
    description = trained(lab, training(lab, REPORT, hyperparameters={"max_depth": "3", "name": '"quoted by v2"'}))
    found = json.loads(model(lab, description)["algo-1.json"])
    assert found["argv"] == ["--max_depth", "3", "--name", "quoted by v2"]
    assert found["hps"] == {"max_depth": 3, "name": "quoted by v2"}
    assert found["hyperparameters"] == description["HyperParameters"]
    assert found["files"] == ["a.csv"]
    assert found["resource"]["current_host"] == "algo-1"
    assert list(found["channels"]) == ["train"]
    assert found["sagegate"] is False


def test_hyperparameters_become_arguments_as_in_the_toolkit(lab: Lab) -> None:
    lab.put("data/a.csv", "1")
    given = {"C": "0.50", "verbose": "true", "sizes": "[1, 2]", "note": "", "nothing": "null", "map": '{"a": 1}'}
    found = json.loads(model(lab, trained(lab, training(lab, REPORT, hyperparameters=given)))["algo-1.json"])
    flags = dict(zip(found["argv"][::2], found["argv"][1::2], strict=True))
    expected = {"-C": "0.5", "--verbose": "True", "--sizes": "[1, 2]", "--note": "", "--nothing": "", "--map": "a=1"}
    assert flags == expected
    assert found["hps"]["verbose"] is True and found["hps"]["sizes"] == [1, 2]


def test_a_training_job_with_a_container_entrypoint(lab: Lab) -> None:
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


def test_each_host_has_its_own_shard_and_log(lab: Lab) -> None:
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


def test_one_failing_host_ends_the_job(lab: Lab) -> None:
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


def test_exit_codes_fail_the_job(lab: Lab) -> None:
    done = lab.run(lab.processing("Step", "import os\nprint('bye')\nos._exit(7)"))
    assert done.reason == "Step Step failed: bye (exit code 7)"
    for given, expected in ((256 + 7, 7), (-1, 255)):
        done = lab.run(lab.processing("Step", f"import sys\nprint('bye')\nsys.exit({given})"))
        assert done.reason == f"Step Step failed: bye (exit code {expected})", "a process's exit code is one byte"


def test_a_job_waits_for_its_threads(lab: Lab) -> None:
    script = (
        "import threading, time\ndef later():\n    time.sleep(0.3)\n    print('thread done', flush=True)\n"
        "threading.Thread(target=later).start()\n"
        "import atexit\natexit.register(print, 'exit hook')\nprint('script done')\n"
    )
    done = lab.run(lab.processing("Step", script))
    assert done.status == "Succeeded", done.reason
    assert lab.client.log_lines(done.arn, "Step", 9) == ["script done", "thread done", "exit hook"]


def test_the_process_of_an_ended_job_disappears(lab: Lab) -> None:
    """A job may be reported as ended before the system has released its memory, but it must not stay a zombie."""
    done = lab.run(lab.processing("Step", "import os\nx = bytearray(50_000_000)\nprint(os.getpid())"))
    pid = int(lab.client.log_lines(done.arn, "Step", 1)[0])
    deadline = time.monotonic() + 10
    while process_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not process_exists(pid)


def process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_max_runtime_ends_a_job(lab: Lab) -> None:
    step = lab.processing("Slow", "import signal; signal.pause()", StoppingCondition={"MaxRuntimeInSeconds": 1})
    assert "longer than its MaxRuntimeInSeconds (1 s)" in lab.run(step).reason


def test_a_shell_command_as_entrypoint(lab: Lab) -> None:
    step = lab.processing("Shell", "", arguments=["hello"])
    command = 'echo "$0 $GREETING" > /opt/ml/processing/output/out/x.txt'
    step["Arguments"]["AppSpecification"]["ContainerEntrypoint"] = ["sh", "-c", command]
    done = lab.run({**step, "Arguments": {**step["Arguments"], "Environment": {"GREETING": "at /opt/ml"}}})
    assert done.status == "Succeeded", done.reason
    text = lab.get(lab.output(done, "Shell") + "/x.txt").strip()
    assert text.startswith("hello at /") and text.endswith("/opt/ml") and text != "hello at /opt/ml"


def test_a_missing_input_fails_the_job(lab: Lab) -> None:
    done = lab.run(lab.processing("Step", write("''"), {"data": f"s3://{BUCKET}/nothing"}))
    assert done.reason == f"Step Step failed: input data: no object at s3://{BUCKET}/nothing"


SERVICE = ServiceModel(Loader().load_service_model("sagemaker", "service-2"), "sagemaker")


def shape_errors(operation: str, response: Json) -> str:
    """Compare a response with the operation's output shape in botocore's service model."""
    return str(ParamValidator().validate(response, SERVICE.operation_model(operation).output_shape).generate_report())


def test_responses_have_the_shapes_of_the_api(lab: Lab) -> None:
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
    assert [errors for name, response in responses.items() if (errors := shape_errors(name, response))] == []
    assert shape_errors("DescribePipeline", {"PipelineNam": "p"}), "the check itself can fail"


def test_parallel_executions_do_not_interfere(lab: Lab) -> None:
    step = lab.processing("Step", write("sys.argv[1]"), arguments=[{"Get": "Parameters.Word"}])
    parameters = [{"Name": "Word", "Type": "String", "DefaultValue": "none"}]
    lab.run(step, parameters=parameters)
    arns = [
        lab.client.start_pipeline_execution(PipelineName="p", PipelineParameters=[{"Name": "Word", "Value": word}])[
            "PipelineExecutionArn"
        ]
        for word in ("one", "two", "three")
    ]
    words = [lab.get(lab.output(lab.ended(arn), "Step") + "/x.txt") for arn in arns]
    assert words == ["one", "two", "three"]
    assert os.listdir(lab.root / ".mlops" / "jobs") == []


def test_a_job_cannot_change_stored_objects(lab: Lab) -> None:
    """The job is killed right after its write, so no check at its end can undo the change."""
    uri = lab.put("large/a.bin", b"x" * 2_000_000)
    change = (
        "import os, pathlib, signal\nf = pathlib.Path(__file__).parents[1] / 'data' / 'a.bin'\n"
        "f.open('r+b').write(b'wrong')\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert lab.run(lab.processing("Change", change, {"data": uri})).status == "Failed"
    assert lab.store.read(uri) == b"x" * 2_000_000


def test_final_metrics_are_the_last_values_in_the_log(lab: Lab) -> None:
    lab.put("data/a.csv", "1")
    step = training(lab, "print('rmse=3'); print('rmse=2.5'); print('auc=nan')")
    definitions = [{"Name": name, "Regex": f"{name}=([0-9.a-z]+)"} for name in ("rmse", "auc", "none")]
    step["Arguments"]["AlgorithmSpecification"]["MetricDefinitions"] = definitions
    value = {"Get": "Steps.Train.FinalMetricDataList['rmse'].Value"}
    done = lab.run(step, lab.processing("Use", write("sys.argv[1]"), arguments=[{"Std:Join": {"Values": [value]}}]))
    assert done.status == "Succeeded", done.reason
    assert lab.get(lab.output(done, "Use") + "/x.txt") == "2.5"


def test_a_script_imports_from_pythonpath_and_may_write_hidden_files(lab: Lab) -> None:
    (lab.root / "shared").mkdir()
    (lab.root / "shared" / "own_module.py").write_text("text = 'found'")
    step = lab.processing("Process", "import own_module\n" + write("own_module.text", ".hidden"))
    step["Arguments"]["Environment"] = {"PYTHONPATH": str(lab.root / "shared")}
    done = lab.run(step)
    assert done.status == "Succeeded", done.reason
    assert lab.get(lab.output(done, "Process") + "/.hidden") == "found"
    assert [name for name, _ in lab.store.objects(lab.output(done, "Process"))] == [".hidden"]


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("ResourceConfig",), None, "the request has no ResourceConfig"),
        (("ResourceConfig", "InstanceCount"), 0, "InstanceCount is 0: a job needs at least one instance"),
        (("StoppingCondition", "MaxRuntimeInSeconds"), 0, "MaxRuntimeInSeconds is 0: it must be at least 1"),
        (("HyperParameters",), {"depth": "3"}, "images are not run locally (image), only scripts"),
        (("AlgorithmSpecification",), {"AlgorithmName": "x"}, "the engine cannot run this request: KeyError"),
    ],
)
def test_a_request_that_cannot_run_fails_its_step_in_one_line(
    lab: Lab, capfd: pytest.CaptureFixture[str], path: tuple[str, ...], value: Any, reason: str
) -> None:
    lab.put("data/a.csv", "1")
    step = training(lab, "")
    inner = step["Arguments"]
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    if "KeyError" in reason:
        del step["Arguments"]["OutputDataConfig"]
    done = lab.run(step)
    assert (done.status, done.steps["Train"]["StepStatus"]) == ("Failed", "Failed")
    assert done.reason.startswith("Step Train failed: ") and reason in done.reason
    assert len(done.reason.splitlines()) == 1 and "Traceback" not in capfd.readouterr().err


def test_a_model_that_the_registry_refuses_fails_its_step(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    done = lab.run({"Name": "Register", "Type": "RegisterModel", "Arguments": {"ModelPackageGroupName": "../x"}})
    assert (done.status, done.steps["Register"]["StepStatus"]) == ("Failed", "Failed")
    assert "ModelPackageGroupName '../x' must match" in done.reason
    assert "Traceback" not in capfd.readouterr().err
