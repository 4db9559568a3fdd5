"""Lambda, Model, Transform and Tuning steps."""

import time
from typing import Any

import pytest
from local_lab import BUCKET, Lab, Outcome, write
from test_jobs import training

from sagegate.files import Json, archive

GET = "Get"


def function(lab: Lab, text: str, name: str = "notify") -> None:
    folder = lab.root / "infra" / name
    folder.mkdir(parents=True)
    (folder / "handler.py").write_text(text)


def lambda_step(outputs: dict[str, str], **arguments: Any) -> Json:
    return {
        "Name": "Call",
        "Type": "Lambda",
        "FunctionArn": {GET: "Parameters.Function"},
        "Arguments": arguments,
        "OutputParameters": [{"OutputName": name, "OutputType": kind} for name, kind in outputs.items()],
    }


FUNCTION = [
    {"Name": "Function", "Type": "String", "DefaultValue": "arn:aws:lambda:us-east-1:000000000000:function:p-notify"}
]


def test_a_lambda_step_passes_its_outputs_on(lab: Lab) -> None:
    function(lab, "def handler(event, context):\n    return {'sum': event['a'] + event['b'], 'word': 'x'}\n")
    call = lambda_step({"sum": "Integer", "word": "String"}, a=1, b=2)
    read = {"Std:Join": {"On": "-", "Values": [{GET: f"Steps.Call.OutputParameters['{n}']"} for n in ("sum", "word")]}}
    done = lab.run(call, lab.processing("After", write("sys.argv[1]"), arguments=[read]), parameters=FUNCTION)
    assert done.status == "Succeeded", done.reason
    assert lab.get(lab.output(done, "After") + "/x.txt") == "3-x"
    assert done.steps["Call"]["Metadata"]["Lambda"]["OutputParameters"][0] == {"Name": "sum", "Value": "3"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def handler(event, context):\n    raise ValueError('no such topic')\n", "ValueError: no such topic"),
        ("def handler(event, context):\n    return {}\n", "has no 'sum'"),
        ("def handler(event, context):\n    return {'sum': 'many'}\n", "the step declares Integer"),
        ("x = 1\n", "no function handler"),
        (None, "infra/p-notify/handler.py"),
    ],
)
def test_a_failed_lambda_step_gives_the_reason(lab: Lab, text: str | None, words: str) -> None:
    if text:
        function(lab, text)
    done = lab.run(lambda_step({"sum": "Integer"}), parameters=FUNCTION)
    assert done.status == "Failed"
    assert words in done.reason


INFERENCE = """
def model_fn(folder): return open(folder + "/factor").read()
def input_fn(body, content_type): return [float(x) for x in body.decode().split()]
def predict_fn(rows, model): return [x * float(model) for x in rows]
def output_fn(rows, accept): return "\\n".join(map(str, rows)), accept
"""


def test_a_transform_step_predicts_every_object(lab: Lab) -> None:
    lab.put("model.tar.gz", archive({"factor": b"2", "code/inference.py": INFERENCE.encode()}))
    lab.put("rows/a.csv", "1\n2\n")
    lab.put("rows/deep/b.csv", "3\n")
    model = {
        "Name": "Model",
        "Type": "Model",
        "Arguments": {"PrimaryContainer": {"Image": "i", "ModelDataUrl": f"s3://{BUCKET}/model.tar.gz"}},
    }
    transform = {
        "Name": "Batch",
        "Type": "Transform",
        "Arguments": {
            "ModelName": {GET: "Steps.Model.ModelName"},
            "TransformInput": {
                "ContentType": "text/csv",
                "SplitType": "Line",
                "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/rows"}},
            },
            "TransformOutput": {"S3OutputPath": f"s3://{BUCKET}/answers", "Accept": "text/csv", "AssembleWith": "Line"},
            "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
        },
    }
    done = lab.run(model, transform)
    assert done.status == "Succeeded", done.reason
    assert lab.get(f"s3://{BUCKET}/answers/a.csv.out") == "2.0\n4.0\n"
    assert lab.get(f"s3://{BUCKET}/answers/deep/b.csv.out") == "6.0\n"
    lab.put("rows/c.csv", "not a number\n")
    failed = lab.run(model, transform)
    assert "c.csv, request 1: could not convert string to float" in failed.reason


OBJECTIVE = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("-x", type=float); parser.add_argument("-n", type=int); parser.add_argument("--kind")
args, _ = parser.parse_known_args()
if args.kind == "bad": raise SystemExit("this kind does not train")
import os
open(os.environ["SM_MODEL_DIR"] + "/x", "w").write(str(args.x))
print("score=0.0"); print(f"score={-(args.x - 3) ** 2 - args.n:.6f}")
"""


def tuning(lab: Lab, strategy: str, ranges: Json, jobs: int = 6) -> Json:
    lab.put("data/a.csv", "1")
    definition = training(lab, OBJECTIVE)["Arguments"]
    definition["StaticHyperParameters"] = definition.pop("HyperParameters")
    definition["AlgorithmSpecification"]["MetricDefinitions"] = [{"Name": "score", "Regex": "score=([-0-9.]+)"}]
    config = {
        "Strategy": strategy,
        "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "score"},
        "ResourceLimits": {"MaxNumberOfTrainingJobs": jobs, "MaxParallelTrainingJobs": 2},
        "ParameterRanges": ranges,
        "RandomSeed": 1,
    }
    arguments = {"HyperParameterTuningJobConfig": config, "TrainingJobDefinition": definition}
    return {"Name": "Tune", "Type": "Tuning", "Arguments": arguments}


CONTINUOUS = {
    "ContinuousParameterRanges": [{"Name": "x", "MinValue": "0", "MaxValue": "10"}],
    "IntegerParameterRanges": [{"Name": "n", "MinValue": "1", "MaxValue": "3"}],
}
CATEGORIES = [
    {"Name": "x", "Values": ["1", "3", "5"]},
    {"Name": "n", "Values": ["1", "2"]},
    {"Name": "kind", "Values": ["good"]},
]
TOP = {
    "Std:Join": {
        "On": "/",
        "Values": [
            f"s3://{BUCKET}/models",
            {GET: "Steps.Tune.TrainingJobSummaries[0].TrainingJobName"},
            "output/model.tar.gz",
        ],
    }
}


def use_best(lab: Lab) -> Json:
    """Return a step that reads the best model and its hyperparameters."""
    script = "tarfile.open(base / 'input' / 'model' / 'model.tar.gz').extractfile('x').read().decode()"
    best = {GET: "Steps.Tune.BestTrainingJob.TunedHyperParameters.x"}
    return lab.processing(
        "Use", "import tarfile\n" + write(f"{script} + ' ' + sys.argv[1]"), {"model": TOP}, arguments=[best]
    )


def test_grid_search_tries_every_combination(lab: Lab) -> None:
    done = lab.run(tuning(lab, "Grid", {"CategoricalParameterRanges": CATEGORIES}, jobs=20), use_best(lab))
    assert done.status == "Succeeded", done.reason
    assert lab.get(lab.output(done, "Use") + "/x.txt") == "3.0 3"
    assert len(lab.client.log_lines(done.arn, "Tune", 99)) == 6


@pytest.mark.parametrize("strategy", ["Random", "Bayesian"])
def test_a_search_ranks_by_the_objective_and_is_reproducible(lab: Lab, strategy: str) -> None:
    if strategy == "Bayesian":
        pytest.importorskip("optuna")
    found = []
    for _ in range(2):
        done = lab.run(tuning(lab, strategy, CONTINUOUS), use_best(lab))
        assert done.status == "Succeeded", done.reason
        lines = lab.client.log_lines(done.arn, "Tune", 99)
        values = [float(line.split()[0]) for line in lines]
        assert values == sorted(values, reverse=True)
        assert len(values) == 6
        found.append(lines)
    assert strategy == "Bayesian" or found[0] == found[1]


def test_tuning_jobs_with_similar_names_keep_separate_models(lab: Lab) -> None:
    name = "SearchForTheBestHyperparametersOfModel"
    steps = []
    for kind in ("A", "B"):
        category = [{"Name": "x", "Values": ["1" if kind == "A" else "2"]}, {"Name": "n", "Values": ["1"]}]
        steps.append({**tuning(lab, "Grid", {"CategoricalParameterRanges": category}), "Name": name + kind})
    assert lab.run(*steps).status == "Succeeded"
    jobs = [uri.partition("/")[0] for uri, _ in lab.store.objects(f"s3://{BUCKET}/models")]
    assert len(set(jobs)) == 2
    assert all(len(job) <= 63 for job in jobs)


def test_a_tuning_job_as_sdk_v2_writes_it_runs(lab: Lab) -> None:
    step = tuning(lab, "Grid", {"CategoricalParameterRanges": CATEGORIES}, jobs=2)
    definition = step["Arguments"]["TrainingJobDefinition"]
    resources = definition.pop("ResourceConfig")
    for tuned in (resources, {"InstanceConfigs": [resources]}):
        definition["HyperParameterTuningResourceConfig"] = tuned
        assert lab.run(step).status == "Succeeded"
    step["Arguments"]["TrainingJobDefinitions"] = [step["Arguments"].pop("TrainingJobDefinition")]
    assert "a list of TrainingJobDefinitions does not run locally" in lab.run(step).reason


def test_the_objective_is_read_from_any_host(lab: Lab) -> None:
    """The first log with a value wins; usually all hosts write the same."""
    step = tuning(lab, "Grid", {"CategoricalParameterRanges": CATEGORIES}, jobs=2)
    definition = step["Arguments"]["TrainingJobDefinition"]
    definition["ResourceConfig"]["InstanceCount"] = 2
    for host in ("algo-1", "algo-2"):
        script = f"import os\nif os.environ['SM_CURRENT_HOST'] == {host!r}: print('score=5')\nelse: print('ready')\n"
        lab.put("code/Train/sourcedir.tar.gz", archive({"train.py": script.encode()}))
        done = lab.run(step)
        assert done.status == "Succeeded", done.reason
        assert [line.split()[0] for line in lab.client.log_lines(done.arn, "Tune", 9)] == ["5.0", "5.0"]


def test_grid_search_needs_no_number_of_jobs(lab: Lab) -> None:
    step = tuning(lab, "Grid", {"CategoricalParameterRanges": CATEGORIES})
    del step["Arguments"]["HyperParameterTuningJobConfig"]["ResourceLimits"]["MaxNumberOfTrainingJobs"]
    done = lab.run(step)
    assert done.status == "Succeeded", done.reason
    assert len(lab.client.log_lines(done.arn, "Tune", 99)) == 6


@pytest.mark.parametrize("strategy", ["Random", "Bayesian"])
def test_a_scale_says_where_a_search_draws_most(lab: Lab, strategy: str) -> None:
    if strategy == "Bayesian":
        pytest.importorskip("optuna")
    for scale, low, high in (("Logarithmic", 1e-6, 0.9), ("ReverseLogarithmic", 0.1, 1 - 1e-6)):
        x = {"Name": "x", "MinValue": repr(low), "MaxValue": repr(high), "ScalingType": scale}
        step = tuning(lab, strategy, {**CONTINUOUS, "ContinuousParameterRanges": [x]}, jobs=5)
        done = lab.run(step)
        assert done.status == "Succeeded", done.reason
        drawn = [float(line.split("'x': '")[1].split("'")[0]) for line in lab.client.log_lines(done.arn, "Tune", 9)]
        near = [value if scale == "Logarithmic" else 1 - value for value in drawn]
        assert all(low <= value <= high for value in drawn) and sum(value < 0.05 for value in near) >= 2, drawn


def test_the_result_of_a_search_is_cached_by_its_ranges(lab: Lab) -> None:
    def search(end: str) -> Outcome:
        ranges = {"ContinuousParameterRanges": [{"Name": "x", "MinValue": "0", "MaxValue": end}]}
        ranges |= {"IntegerParameterRanges": CONTINUOUS["IntegerParameterRanges"]}
        return lab.run({**tuning(lab, "Random", ranges, jobs=2), "CacheConfig": {"Enabled": True}}, use_best(lab))

    first, again, other = search("9"), search("9"), search("8")
    assert [done.status for done in (first, again, other)] == ["Succeeded"] * 3
    assert "CacheHitResult" in again.steps["Tune"] and "CacheHitResult" not in other.steps["Tune"]
    assert lab.get(lab.output(again, "Use") + "/x.txt") == lab.get(lab.output(first, "Use") + "/x.txt")


def test_stopping_ends_all_training_jobs_of_a_search(lab: Lab) -> None:
    step = tuning(lab, "Random", CONTINUOUS, jobs=9)
    lab.put(
        "code/Train/sourcedir.tar.gz", archive({"train.py": b"print('on', flush=True)\nimport time\ntime.sleep(60)"})
    )
    arn = lab.begin(step)
    logs = lab.root / ".mlops" / "executions" / arn.rpartition("/")[2] / "logs"
    for _ in range(300):
        if all((logs / f"Tune.00{n}.log").is_file() and (logs / f"Tune.00{n}.log").read_text() for n in (1, 2)):
            break
        time.sleep(0.1)
    lab.client.stop_pipeline_execution(PipelineExecutionArn=arn)
    done = lab.ended(arn)
    assert done.status == "Stopped" and done.steps["Tune"]["StepStatus"] == "Stopped"
    assert not (logs / "Tune.003.log").exists()


def test_failed_trials_are_left_out(lab: Lab) -> None:
    kinds = [*CATEGORIES[:2], {"Name": "kind", "Values": ["good", "bad"]}]
    done = lab.run(tuning(lab, "Grid", {"CategoricalParameterRanges": kinds}, jobs=20))
    assert done.status == "Succeeded"
    lines = lab.client.log_lines(done.arn, "Tune", 99)
    assert len(lines) == 12 and all(line.startswith("failed {") for line in lines[6:])
    kinds = [*CATEGORIES[:2], {"Name": "kind", "Values": ["bad"]}]
    done = lab.run(tuning(lab, "Grid", {"CategoricalParameterRanges": kinds}, jobs=20))
    assert "no training job of the tuning job succeeded: this kind does not train" in done.reason
    assert lab.client.log_lines(done.arn, "Tune", 99) == ["this kind does not train"]


def test_hyperband_is_an_error(lab: Lab) -> None:
    done = lab.run(tuning(lab, "Hyperband", CONTINUOUS))
    assert done.reason == ("Step Tune failed: strategy Hyperband does not run locally: choose Random, Grid or Bayesian")
