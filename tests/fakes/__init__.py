"""A fake AWS and a fake GitHub, for tests and for trying (`make fake-aws`).

The fake AWS is moto's server with what moto lacks. It runs in a process of its own; tests talk to it through boto3.

remote.py          start it and control it from a test: faults, reset, an account with its bucket and roles
__main__.py        start it by hand
server.py          the HTTP server in front of moto, with the controls
accounts.py        access keys that name their account, service quotas, the resources of a project's platform
trust.py           AssumeRoleWithWebIdentity: a role's trust in a token's claims
sagemaker.py       the operations that replace moto's, each held to botocore's model
pipelines.py       pipelines, executions and transform jobs: sagegate's local engine on moto's S3
jobs.py            steps and jobs: their records, logs, failure reasons, roles, and the step cache
registry.py        model packages and groups
storage.py         S3, as files for jobs and bytes for endpoints
endpoints.py       models and endpoints: blue/green updates with canary or linear traffic, and rollback
containers.py      the process that serves an endpoint's model
runtime.py         InvokeEndpoint and InvokeEndpointAsync
cloudformation.py  stacks and change sets, which work in the background
stacks.py          changes of a stack, resource by resource, with events and rollback
resources.py       the resource types of the project's two templates

proxy.py           a proxy that throttles, resets connections or lets credentials expire

The fake GitHub is a REST API over a bare git repository.

github.py          the server, permissions of tokens, identity tokens
github_routes.py   pull requests, contents, commits, environments, accounts
github_git.py      the bare repository: contents, commits and merges
osv.py             OSV's API, which `uv audit` asks
json_server.py     the HTTP server of both

The fakes take a vendor's rules from the vendor: botocore's shapes, documented errors. Where a behaviour is unknown, the
fake takes the strict side. A minute of AWS's waits takes 0.6 s.

The fake AWS does not evaluate IAM policies or bucket policies, does not know what an instance type can hold, has no
prices, and evaluates no CloudWatch alarms: an alarm rings if a test calls SetAlarmState. Endpoints have one variant.
"""
