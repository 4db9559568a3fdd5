"""Do what SageMaker's XGBoost image does when a container starts: `python image.py train` or `python image.py serve`.

Follows training.py and serving.py of sagemaker_xgboost_container, a package that no index has. All else is the image's
own code, in the versions of the image: sagemaker_containers installs and runs the scripts, gunicorn serves them.
"""

import importlib
import sys
from typing import Any

from sagemaker_containers.beta import framework

FUNCTIONS = ("input_fn", "predict_fn", "output_fn", "transform_fn")
app: Any = None


def train() -> None:
    """Install the scripts as a package and run the entry point with the hyperparameters as its arguments."""
    env = framework.training_env()
    framework.modules.run_module(
        env.module_dir, env.to_cmd_args(), env.to_env_vars(), env.module_name, capture_error=False
    )


def application(environ: dict[str, Any], start_response: Any) -> Any:
    """Load the model once, then answer requests. Each gunicorn worker has its own."""
    global app
    if app is None:
        name = framework.env.ServingEnv().module_name
        module = importlib.import_module(name)
        functions = {key: getattr(module, key, None) for key in FUNCTIONS}
        transformer = framework.transformer.Transformer(model_fn=module.model_fn, **functions)
        transformer.initialize()
        app = framework.worker.Worker(transform_fn=transformer.transform, module_name=name)
    return app(environ, start_response)


if __name__ == "__main__":
    if sys.argv[1] == "train":
        train()
    else:
        framework.server.start("image:application")
