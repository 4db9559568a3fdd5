"""Two pipelines as users of the SageMaker SDK v3 write them, in nothing like our own style.

`python pipeline.py STORE OUT` writes the definitions that the SDK compiles to `OUT/NAME.json`, and what the SDK uploads
on the way to `STORE/BUCKET/KEY`. It runs in the environment that has the SDK, offline.
"""

from __future__ import annotations

import sys
from pathlib import Path

from offline import BUCKET, OfflineSession
from sagemaker.core.lambda_helper import Lambda
from sagemaker.core.parameter import ContinuousParameter, IntegerParameter
from sagemaker.core.processing import FrameworkProcessor, ScriptProcessor
from sagemaker.core.shapes import ProcessingInput, ProcessingOutput, ProcessingS3Input, ProcessingS3Output
from sagemaker.core.transformer import Transformer
from sagemaker.core.workflow.conditions import (
    ConditionEquals,
    ConditionGreaterThan,
    ConditionIn,
    ConditionLessThanOrEqualTo,
    ConditionNot,
    ConditionOr,
)
from sagemaker.core.workflow.execution_variables import ExecutionVariables
from sagemaker.core.workflow.functions import Join, JsonGet
from sagemaker.core.workflow.parameters import ParameterFloat, ParameterInteger, ParameterString
from sagemaker.core.workflow.pipeline_context import PipelineSession
from sagemaker.core.workflow.properties import PropertyFile
from sagemaker.mlops.workflow.condition_step import ConditionStep
from sagemaker.mlops.workflow.fail_step import FailStep
from sagemaker.mlops.workflow.lambda_step import LambdaOutput, LambdaOutputTypeEnum, LambdaStep
from sagemaker.mlops.workflow.model_step import ModelStep
from sagemaker.mlops.workflow.pipeline import Pipeline
from sagemaker.mlops.workflow.steps import CacheConfig, ProcessingStep, TrainingStep, TransformStep, TuningStep
from sagemaker.serve.model_builder import ModelBuilder
from sagemaker.train import ModelTrainer
from sagemaker.train.configs import Compute, InputData, OutputDataConfig, SourceCode
from sagemaker.train.tuner import HyperparameterTuner

ROLE = "arn:aws:iam::000000000000:role/Researcher"
IMAGE = "000000000000.dkr.ecr.us-east-1.amazonaws.com/any:1"
HERE = Path(__file__).parent


def processor(session: PipelineSession, instance: object) -> ScriptProcessor:
    """Runs one script."""
    return ScriptProcessor(
        image_uri=IMAGE,
        command=["python3"],
        role=ROLE,
        instance_count=1,
        instance_type=instance,
        sagemaker_session=session,
    )


def s3_input(name: str, uri: object) -> ProcessingInput:
    """S3 objects that a job finds in /opt/ml/processing/NAME."""
    place = f"/opt/ml/processing/{name}"
    s3 = ProcessingS3Input(s3_uri=uri, local_path=place, s3_data_type="S3Prefix", s3_input_mode="File")
    return ProcessingInput(input_name=name, s3_input=s3)


def s3_output(name: str) -> ProcessingOutput:
    """What a job leaves in /opt/ml/processing/NAME."""
    uri = Join(on="/", values=["s3:/", BUCKET, "work", ExecutionVariables.PIPELINE_EXECUTION_ID, name])
    s3 = ProcessingS3Output(s3_uri=uri, local_path=f"/opt/ml/processing/{name}", s3_upload_mode="EndOfJob")
    return ProcessingOutput(output_name=name, s3_output=s3)


def trainer(session: PipelineSession, source: str, **hyperparameters: object) -> ModelTrainer:
    """Runs `train.py` of a folder, which the SDK uploads."""
    return ModelTrainer(
        base_job_name="trainer",
        training_image=IMAGE,
        role=ROLE,
        source_code=SourceCode(source_dir=str(HERE / source), entry_script="train.py"),
        compute=Compute(instance_type="ml.m5.large", instance_count=1, volume_size_in_gb=10),
        hyperparameters=hyperparameters,
        output_data_config=OutputDataConfig(s3_output_path=f"s3://{BUCKET}/models"),
        sagemaker_session=session,
    )


def search(session: PipelineSession) -> Pipeline:
    """Prepare -> Tune -> Describe (property file, JsonGet) -> conditions -> Lambda, a model, a batch transform."""
    rows = ParameterString("RowsUri", default_value=f"s3://{BUCKET}/rows")
    instance = ParameterString("InstanceType", default_value="ml.m5.large")
    target = ParameterInteger("Target", default_value=7)
    limit = ParameterFloat("Limit", default_value=100.0)
    mode = ParameterString("Mode", default_value="full", enum_values=["full", "short"])

    # --- Prepare: only the rows that are numbers ----------------------------------------------------------------------
    prepare = ProcessingStep(
        name="Prepare",
        step_args=processor(session, instance).run(
            code=str(HERE / "steps" / "prepare.py"),
            inputs=[s3_input("raw", rows)],
            outputs=[s3_output("clean")],
            arguments=["--mode", mode],
        ),
        cache_config=CacheConfig(enable_caching=True, expire_after="P1D"),
    )
    clean = prepare.properties.ProcessingOutputConfig.Outputs["clean"].S3Output.S3Uri

    # --- Once, and then four times in search of the best -----------------------------------------------------------
    once = TrainingStep(
        name="Once",
        step_args=ModelTrainer(
            base_job_name="once",
            training_image=IMAGE,
            role=ROLE,
            compute=Compute(instance_type="ml.m5.large", instance_count=1, volume_size_in_gb=10),
            hyperparameters={
                "sagemaker_program": '"train.py"',  # quoted, as SDK v2 does it
                "sagemaker_submit_directory": f"s3://{BUCKET}/model.tar.gz",
                "width": 3,
                "rate": 0.5,
                "target": target.to_string(),
                "note": '"two words"',
            },
            output_data_config=OutputDataConfig(s3_output_path=f"s3://{BUCKET}/models"),
            sagemaker_session=session,
        ).train(input_data_config=[InputData(channel_name="clean", data_source=clean)]),
    )
    tuner = HyperparameterTuner(
        model_trainer=trainer(session, "model", target=target.to_string()),
        objective_metric_name="distance",
        metric_definitions=[{"Name": "distance", "Regex": "distance=([0-9.]+);"}],
        hyperparameter_ranges={"width": IntegerParameter(1, 9), "rate": ContinuousParameter(0.1, 0.9)},
        strategy="Random",
        objective_type="Minimize",
        max_jobs=4,
        max_parallel_jobs=2,
        random_seed=5,
    )
    tune = TuningStep(
        name="Tune", step_args=tuner.tune(inputs=[InputData(channel_name="clean", data_source=clean)], wait=False)
    )
    best_model = tune.get_top_model_s3_uri(top_k=0, s3_bucket=BUCKET, prefix="models")

    # --- Describe: a property file about the best model ------------------------------------------------------------
    findings = PropertyFile(name="Findings", output_name="report", path="findings.json")
    describe = ProcessingStep(
        name="Describe",
        step_args=processor(session, instance).run(
            code=str(HERE / "steps" / "describe.py"),
            inputs=[
                s3_input("best", best_model),
                s3_input("once", once.properties.ModelArtifacts.S3ModelArtifacts),
            ],
            outputs=[s3_output("report")],
            arguments=[
                Join(on=":", values=["best", tune.properties.BestTrainingJob.TrainingJobName]),
                Join(on=":", values=["second", tune.properties.TrainingJobSummaries[1].TrainingJobName]),
                Join(on=":", values=["uri", best_model]),
            ],
        ),
        property_files=[findings],
    )

    def found(path: str) -> JsonGet:
        return JsonGet(step_name=describe.name, property_file=findings, json_path=path)

    # --- What follows when it is good ------------------------------------------------------------------------------
    announce = LambdaStep(
        name="Announce",
        lambda_func=Lambda(function_arn="arn:aws:lambda:us-east-1:000000000000:function:lab-announce", session=session),
        inputs={"model": best_model, "distance": found("models[0].distance"), "words": ["a", "b"], "target": target},
        outputs=[
            LambdaOutput(output_name="headline", output_type=LambdaOutputTypeEnum.String),
            LambdaOutput(output_name="stars", output_type=LambdaOutputTypeEnum.Integer),
        ],
    )
    model = ModelStep(
        name="Model",
        step_args=ModelBuilder(
            s3_model_data_url=best_model,
            image_uri=IMAGE,
            role_arn=ROLE,
            env_vars={"SAGEMAKER_PROGRAM": "inference.py"},
            instance_type="ml.m5.large",
            sagemaker_session=session,
        ).build(),
    )
    batch = TransformStep(
        name="Batch",
        step_args=Transformer(
            model_name=model.properties.ModelName,
            instance_count=1,
            instance_type="ml.m5.large",
            output_path=f"s3://{BUCKET}/answers",
            accept="text/csv",
            assemble_with="Line",
            sagemaker_session=session,
        ).transform(data=clean, content_type="text/csv", split_type="Line"),
    )
    print_it = ProcessingStep(
        name="Print",
        step_args=processor(session, instance).run(
            code=str(HERE / "steps" / "write_words.py"),
            outputs=[s3_output("page")],
            arguments=[
                Join(on=" ", values=[announce.properties.Outputs["headline"], announce.properties.Outputs["stars"]]),
                found("models[0]['file name']"),
            ],
        ),
    )
    never = FailStep(name="Never", error_message=Join(on=" ", values=["not good:", found("models[0].distance")]))
    worse = FailStep(name="Worse", error_message="the search found nothing better")
    is_short = ConditionEquals(left=mode, right="short")
    inner = ConditionStep(
        name="IsBetter",
        conditions=[
            ConditionOr([is_short, ConditionGreaterThan(left=found("models[1].distance"), right=found("least"))]),
            ConditionNot(ConditionIn(value=found("models[0].name"), in_values=["once", "nobody"])),
        ],
        if_steps=[announce, model, batch, print_it],
        else_steps=[worse],
    )
    outer = ConditionStep(
        name="IsGood",
        conditions=[ConditionNot(is_short), ConditionLessThanOrEqualTo(left=found("models[0].distance"), right=limit)],
        if_steps=[inner],
        else_steps=[never],
    )
    return Pipeline(
        name="search",
        parameters=[rows, instance, target, limit, mode],
        steps=[prepare, once, tune, describe, outer],
        sagemaker_session=session,
    )


def hard_paths(session: PipelineSession) -> Pipeline:
    """Three steps whose code has /opt/ml written in it, one by the SDK's own shell scripts."""
    instance = "ml.m5.large"
    prepare = ProcessingStep(
        name="Prepare",
        step_args=processor(session, instance).run(
            code=str(HERE / "hard" / "clean.py"),
            inputs=[s3_input("raw", f"s3://{BUCKET}/rows")],
            outputs=[s3_output("clean")],
        ),
    )
    train = TrainingStep(
        name="Train",
        step_args=trainer(session, "model", width=3, rate=0.5, target=7, note="two words").train(
            input_data_config=[
                InputData(
                    channel_name="clean",
                    data_source=prepare.properties.ProcessingOutputConfig.Outputs[0].S3Output.S3Uri,
                )
            ]
        ),
    )
    framework = FrameworkProcessor(
        image_uri=IMAGE,
        command=["python3"],
        role=ROLE,
        instance_count=1,
        instance_type=instance,
        sagemaker_session=session,
    )
    describe = ProcessingStep(
        name="Describe",
        step_args=framework.run(
            source_dir=str(HERE / "hard"),
            code="report.py",
            inputs=[s3_input("model", train.properties.ModelArtifacts.S3ModelArtifacts)],
            outputs=[s3_output("report")],
            arguments=["--title", "a b"],
        ),
    )
    return Pipeline(name="hard-paths", steps=[prepare, train, describe], sagemaker_session=session)


if __name__ == "__main__":
    session = OfflineSession(Path(sys.argv[1]))
    for pipeline in (search(session), hard_paths(session)):
        Path(sys.argv[2], f"{pipeline.name}.json").write_text(pipeline.definition(), encoding="utf-8")
