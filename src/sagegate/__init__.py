"""Run, promote and deploy a SageMaker pipeline from its compiled definition, on your machine and on AWS."""
