"""The pipeline, built with the SageMaker Python SDK v3.

Preprocess -> Train -> Evaluate -> Gate -> Register, or Rejected. EventBridge rules in infra/platform.yaml notify. With
`[tuning]` in mlops.toml, Tune takes the place of Train: it trains several models, and the best one goes on.

`sagegate compile` writes `pipeline/definition.json` from this file; SageMaker and local runs execute that definition.
Everything that differs between environments, accounts or executions is a pipeline parameter, so the definition is the
same everywhere.

Keep the definition deterministic: pass code to jobs as a parameter (`PreprocessCode` is the package of
`model/preprocess.py`). `source_code=` and `code=` upload to a path that contains the time.
"""

from __future__ import annotations

from typing import Any

from sagemaker.core.model_metrics import MetricsSource, ModelMetrics
from sagemaker.core.parameter import CategoricalParameter, ContinuousParameter, IntegerParameter
from sagemaker.core.processing import Processor
from sagemaker.core.shapes import (
    ProcessingInput,
    ProcessingOutput,
    ProcessingS3Input,
    ProcessingS3Output,
)
from sagemaker.core.workflow.conditions import ConditionGreaterThanOrEqualTo, ConditionIn
from sagemaker.core.workflow.execution_variables import ExecutionVariables
from sagemaker.core.workflow.functions import Join, JsonGet
from sagemaker.core.workflow.parameters import ParameterFloat, ParameterInteger, ParameterString
from sagemaker.core.workflow.pipeline_context import PipelineSession
from sagemaker.core.workflow.properties import PropertyFile
from sagemaker.mlops.workflow.condition_step import ConditionStep
from sagemaker.mlops.workflow.fail_step import FailStep
from sagemaker.mlops.workflow.model_step import ModelStep
from sagemaker.mlops.workflow.pipeline import Pipeline
from sagemaker.mlops.workflow.steps import CacheConfig, ProcessingStep, TrainingStep, TuningStep
from sagemaker.serve.model_builder import ModelBuilder
from sagemaker.train import ModelTrainer
from sagemaker.train.configs import Compute, InputData, OutputDataConfig, StoppingCondition
from sagemaker.train.tuner import HyperparameterTuner

JOB = "/opt/ml/processing"
CACHE = CacheConfig(enable_caching=True, expire_after="P30D")
# Scripts take every path from an argument or from these variables, so they also run where there is no /opt/ml.
JOB_ENVIRONMENT = {
    "SM_OUTPUT_DIR": "/opt/ml/output",
    "SM_RESOURCE_CONFIG_FILE": "/opt/ml/config/resourceconfig.json",
}
# The container installs the scripts as a package. Without this pip fetches setuptools from an index for that, which
# fails under network isolation. (pip reads the variable inverted: 0 switches build isolation off.)
NO_INDEX = {"PIP_NO_BUILD_ISOLATION": "0"}
PARAMETER_TYPES = {"String": ParameterString, "Integer": ParameterInteger, "Float": ParameterFloat}


def build(
    hyperparameter_types: dict[str, str], session: PipelineSession, tuning: dict[str, Any] | None = None
) -> Pipeline:
    """Return the pipeline of this project.

    `hyperparameter_types` maps the names in `[hyperparameters]` of mlops.toml to Integer, Float or String. `tuning` is
    `[tuning]` of mlops.toml; the hyperparameters that have a range there are not in `hyperparameter_types`.
    """
    # --- Parameters of the environment -----------------------------------------------------------------------------
    role = ParameterString("RoleArn")
    image = ParameterString("ImageUri")
    artifacts = ParameterString("ArtifactsUri")
    group = ParameterString("ModelPackageGroupName")
    processing_type = ParameterString("ProcessingInstanceType")
    processing_count = ParameterInteger("ProcessingInstanceCount")
    processing_volume = ParameterInteger("ProcessingVolumeSizeInGB")
    training_type = ParameterString("TrainingInstanceType")
    training_count = ParameterInteger("TrainingInstanceCount")
    training_volume = ParameterInteger("TrainingVolumeSizeInGB")
    inference_type = ParameterString("InferenceInstanceType")
    max_runtime = ParameterInteger("MaxRuntimeInSeconds")
    # --- Parameters of the execution -------------------------------------------------------------------------------
    data_uri = ParameterString("InputDataUri")
    data_version = ParameterString("InputDataVersion")
    preprocess_code = ParameterString("PreprocessCode")
    train_code = ParameterString("TrainCode")
    evaluate_code = ParameterString("EvaluateCode")
    validation_fraction = ParameterFloat("ValidationFraction")
    test_fraction = ParameterFloat("TestFraction")
    split_seed = ParameterInteger("SplitSeed")
    metric = ParameterString("GateMetric")
    threshold = ParameterFloat("GateThreshold")
    min_improvement = ParameterFloat("GateMinImprovement")
    confidence = ParameterFloat("GateConfidence")
    commit = ParameterString("CodeCommit")
    repository = ParameterString("CodeRepository")
    started_by = ParameterString("StartedBy")
    overrides = ParameterString("Overrides")
    hyperparameters = {name: PARAMETER_TYPES[kind](name) for name, kind in sorted(hyperparameter_types.items())}

    def output(name: str, prefix: str = "executions") -> ProcessingOutput:
        uri = Join(on="/", values=[artifacts, prefix, ExecutionVariables.PIPELINE_EXECUTION_ID, name])
        s3 = ProcessingS3Output(s3_uri=uri, local_path=f"{JOB}/output/{name}", s3_upload_mode="EndOfJob")
        return ProcessingOutput(output_name=name, s3_output=s3)

    def processor(script: str, count: ParameterInteger | int, environment: dict[str, object]) -> Processor:
        return Processor(
            role=role,
            image_uri=image,
            instance_type=processing_type,
            instance_count=count,
            volume_size_in_gb=processing_volume,
            max_runtime_in_seconds=max_runtime,
            entrypoint=["python3", f"{JOB}/input/code/{script}"],
            env={**JOB_ENVIRONMENT, **environment},
            sagemaker_session=session,
        )

    # --- Preprocess: split raw data into train, validation and test ------------------------------------------------
    preprocess = ProcessingStep(
        name="Preprocess",
        # SageMaker's cache compares URIs, not their content, so the data's version is part of the environment.
        step_args=processor("preprocess.py", processing_count, {"INPUT_DATA_VERSION": data_version}).run(
            inputs=[
                job_input("code", preprocess_code),
                job_input("data", data_uri, "ShardedByS3Key"),
            ],
            # Objects in intermediate/ expire (infra/platform.yaml); those in executions/ are kept with the model.
            outputs=[*(output(name, "intermediate") for name in ("train", "validation", "test")), output("report")],
            arguments=[
                *("--input", f"{JOB}/input/data", "--output", f"{JOB}/output"),
                *("--validation-fraction", validation_fraction.to_string()),
                *("--test-fraction", test_fraction.to_string()),
                *("--seed", split_seed.to_string()),
            ],
        ),
        cache_config=CACHE,
    )

    def split(name: str) -> object:
        return preprocess.properties.ProcessingOutputConfig.Outputs[name].S3Output.S3Uri

    # --- Train or Tune: fit one model, or several and keep the best ------------------------------------------------
    trainer = ModelTrainer(
        base_job_name="train",
        training_image=image,
        role=ROLE_PLACEHOLDER,
        compute=Compute(instance_type=training_type, instance_count=training_count, volume_size_in_gb=1),
        stopping_condition=StoppingCondition(max_runtime_in_seconds=3600),
        environment=NO_INDEX,
        hyperparameters={
            **{name: as_text(parameter) for name, parameter in hyperparameters.items()},
            "sagemaker_program": "train.py",
            "sagemaker_submit_directory": train_code,
        },
        input_data_config=[InputData(channel_name=name, data_source=split(name)) for name in ("train", "validation")],
        output_data_config=OutputDataConfig(
            s3_output_path=Join(
                on="/",
                values=[artifacts, "executions", ExecutionVariables.PIPELINE_EXECUTION_ID, "model"],
            )
        ),
        sagemaker_session=session,
    )
    if tuning is None:
        train = TrainingStep(name="Train", step_args=trainer.train(), cache_config=CACHE)
        model = train.properties.ModelArtifacts.S3ModelArtifacts
    else:
        train = TuningStep(name="Tune", step_args=search(trainer, tuning), cache_config=CACHE)
        # The step's own prefix: after a cache hit, the models are those of an earlier execution.
        prefix = train.properties.TrainingJobDefinition.OutputDataConfig.S3OutputPath
        best = train.properties.TrainingJobSummaries[0].TrainingJobName
        model = Join(on="/", values=[prefix, best, "output/model.tar.gz"])

    # --- Evaluate: compare candidate and champion on the same test rows --------------------------------------------
    # No cache: the champion has a fixed URI, so SageMaker's cache would not notice a new champion.
    evaluation = PropertyFile(name="Evaluation", output_name="evaluation", path="evaluation.json")
    evaluate = ProcessingStep(
        name="Evaluate",
        step_args=processor("evaluate.py", 1, {}).run(
            inputs=[
                job_input("code", evaluate_code),
                job_input("model", model),
                job_input("champion", Join(on="/", values=[artifacts, "champion"])),
                job_input("test", split("test")),
            ],
            outputs=[output("evaluation")],
            arguments=[
                *("--model", f"{JOB}/input/model", "--champion", f"{JOB}/input/champion"),
                *("--test", f"{JOB}/input/test", "--output", f"{JOB}/output/evaluation"),
                *("--metric", metric, "--threshold", threshold.to_string()),
                *("--min-improvement", min_improvement.to_string(), "--confidence", confidence.to_string()),
            ],
        ),
        property_files=[evaluation],
    )

    def evaluated(path: str) -> JsonGet:
        return JsonGet(step_name=evaluate.name, property_file=evaluation, json_path=path)

    # --- Register: add the candidate to the registry, to be approved -----------------------------------------------
    evaluation_uri = evaluate.properties.ProcessingOutputConfig.Outputs["evaluation"].S3Output.S3Uri
    builder = ModelBuilder(
        s3_model_data_url=model,
        image_uri=image,
        role_arn=ROLE_PLACEHOLDER,
        env_vars={"SAGEMAKER_PROGRAM": "inference.py", **NO_INDEX},
        instance_type="ml.m5.large",
        sagemaker_session=session,
    )
    register = ModelStep(
        name="Register",
        step_args=builder.register(
            model_package_group_name=group,
            approval_status="PendingManualApproval",
            content_types=["text/csv", "application/json"],
            response_types=["application/json", "text/csv"],
            inference_instances=[inference_type],
            model_metrics=ModelMetrics(
                model_statistics=MetricsSource(
                    content_type="application/json",
                    s3_uri=Join(on="/", values=[evaluation_uri, "evaluation.json"]),
                )
            ),
            customer_metadata_properties={
                "commit": commit,
                "repository": repository,
                "started_by": started_by,
                "overrides": overrides,
                "execution": ExecutionVariables.PIPELINE_EXECUTION_ARN,
                "data_uri": data_uri,
                "data_version": data_version,
            },
        ),
    )

    # --- Gate: both conditions must hold; a missing number fails the execution -------------------------------------
    gate = ConditionStep(
        name="Gate",
        conditions=[
            ConditionGreaterThanOrEqualTo(left=evaluated("gate.threshold_margin"), right=0.0),
            ConditionIn(value=evaluated("gate.champion_verdict"), in_values=["passed", "no champion"]),
        ],
        if_steps=[register],
        else_steps=[FailStep(name="Rejected", error_message=evaluated("gate.reason"))],
    )

    parameters = [
        *(role, image, artifacts, group, processing_type, processing_count, processing_volume),
        *(training_type, training_count, training_volume, inference_type, max_runtime),
        *(data_uri, data_version, preprocess_code, train_code, evaluate_code),
        *(validation_fraction, test_fraction, split_seed, metric, threshold, min_improvement),
        confidence,
        *(commit, repository, started_by, overrides, *hyperparameters.values()),
    ]
    return Pipeline(
        name="pipeline",  # sagegate names it after the project
        parameters=parameters,
        steps=[preprocess, train, evaluate, gate],
        sagemaker_session=session,
    )


# The SDK accepts only literals for a training job's role, volume and run time; `sagegate compile` replaces them with
# the parameters.
ROLE_PLACEHOLDER = "arn:aws:iam::000000000000:role/placeholder"


def job_input(name: str, uri: object, distribution: str = "FullyReplicated") -> ProcessingInput:
    """Return an input: an S3 prefix that the job finds in `/opt/ml/processing/input/NAME`."""
    s3 = ProcessingS3Input(
        s3_uri=uri,
        local_path=f"{JOB}/input/{name}",
        s3_data_type="S3Prefix",
        s3_input_mode="File",
        s3_data_distribution_type=distribution,
        s3_compression_type="None",
    )
    return ProcessingInput(input_name=name, s3_input=s3)


def as_text(parameter: ParameterString | ParameterInteger | ParameterFloat) -> object:
    """Return a hyperparameter's value as text: the API needs text, and the SDK would emit a number's reference."""
    return parameter if isinstance(parameter, ParameterString) else parameter.to_string()


def search(trainer: ModelTrainer, tuning: dict[str, Any]) -> object:
    """Return the arguments of a Tuning step that trains `tuning["jobs"]` models as `trainer` does."""
    metric = tuning["metric"]
    tuner = HyperparameterTuner(
        model_trainer=trainer,
        objective_metric_name=metric,
        # The last line of train.py has the metrics of the model that it kept; earlier lines have those of each round.
        metric_definitions=[{"Name": metric, "Regex": f"kept .* {metric}=([-+.0-9e]+)"}],
        objective_type=tuning["goal"],
        hyperparameter_ranges={name: search_range(given) for name, given in tuning["ranges"].items()},
        strategy=tuning["strategy"],
        max_jobs=tuning["jobs"],
        max_parallel_jobs=tuning["parallel_jobs"],
        random_seed=42,
    )
    return tuner.tune(inputs=trainer.input_data_config, wait=False)


def search_range(given: dict[str, Any]) -> CategoricalParameter | ContinuousParameter | IntegerParameter:
    """Return the values to try for a hyperparameter: those of a list, or all from a minimum to a maximum."""
    if "values" in given:
        return CategoricalParameter(given["values"])
    kind = IntegerParameter if isinstance(given["min"], int) else ContinuousParameter
    return kind(given["min"], given["max"], given["scale"])
