# Everything here needs Python 3.11 or newer, git and make; each target sets up what it uses, once.
UV_VERSION := 0.12.4
PYTHON ?= python3
TOOLS := .tools
UV := $(TOOLS)/bin/uv
RUN := $(UV) run --no-sync --
QUICK := unit infra local/test_order.py local/test_jobs.py local/test_http.py local/test_folders.py
SLOW := unit/test_plan.py unit/test_explain.py infra/test_lint.py  # they run pipelines, or fetch tools

# A shell's PYTHONDONTWRITEBYTECODE would make every later start about three times slower.
unexport PYTHONDONTWRITEBYTECODE
# Not the environment of the shell: the one that is made here.
unexport VIRTUAL_ENV

.PHONY: help test quick demo lint bench example fake-aws real-actions aws-schema campaigns mutation clean

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

test: .venv/ready  ## run all tests
	$(RUN) pytest -n 3 --dist worksteal

quick: .venv/ready  ## run the fast tests: functions, the engine, CloudFormation templates
	$(RUN) pytest -n 3 $(QUICK:%=tests/%) $(SLOW:%=--ignore=tests/%)

demo: .venv/ready  ## generate a project, train, gate, approve and serve a model in it
	$(RUN) python scripts/demo.py

lint: .venv/ready  ## check style, types and workflows
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(RUN) actionlint
	$(RUN) zizmor --offline --persona pedantic .github

bench: .venv/ready  ## measure a bake, and a run beside a shell chain
	$(RUN) python benchmarks/bake.py
	$(RUN) python benchmarks/local_run.py
	$(RUN) python benchmarks/many_steps.py

example: .venv/ready  ## generate a project with the default answers into build/example
	rm -rf build/example
	$(RUN) python scripts/example.py build/example

fake-aws: .venv/ready  ## run a fake AWS in which pipelines train; prints what to export
	$(RUN) python scripts/serve_fake_aws.py

real-actions: .venv/ready  ## run the workflows with the real checkout and configure-aws-credentials, in the folder ACTIONS
	REAL_ACTIONS=$(abspath $(or $(ACTIONS),$(error give a folder: make real-actions ACTIONS=DIR))) $(RUN) pytest -n 2 tests/end_to_end

aws-schema: .venv/ready  ## hold the definition to AWS's JSON schema of pipeline definitions, in the file SCHEMA
	AWS_SCHEMA=$(abspath $(or $(SCHEMA),$(error give a file: make aws-schema SCHEMA=FILE))) $(RUN) pytest tests/unit/test_definition_schema.py

campaigns: .venv/ready  ## attack data, gate, engine, state and serving with thousands of cases; prints a table
	$(RUN) python tests/campaigns

mutation: .venv/ready  ## change gate, promotion and cache key in one place at a time; prints what no test notices
	$(RUN) python scripts/mutation.py $(MODULES)

clean:  ## remove everything that make made
	rm -rf $(TOOLS) .venv build uv.lock .mypy_cache .pytest_cache .ruff_cache

$(TOOLS)/uv-$(UV_VERSION):
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@

.venv/ready: pyproject.toml $(TOOLS)/uv-$(UV_VERSION)
	$(UV) sync --quiet --python $(TOOLS)/bin/python
	@touch $@
