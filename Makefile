# make figures: all figures and tables, from embedded data, in minutes. make test: the tests. make help: the rest.
PYTHON ?= python3.11
VENV ?= .venv
DEVICE ?= cpu
DATA ?= data
GPU_SECONDS ?= 540
PROFILE ?= profiles/local
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help figures paper cost report test test-all test-long schedulers browser bench bench-networks gpu lint format schema envs image unlock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

figures: $(VENV)/.run ## every figure and table of the paper, from handwritten digits, in minutes
	snakemake --profile profiles/demo
	@snakemake --profile profiles/demo --report results/demo/report.html --quiet all 2> results/demo/report.log \
		|| { cat results/demo/report.log; exit 1; }
	@echo "Page: results/demo/report/index.html   Figures: results/demo/figures   Tables: results/demo/tables"

paper: $(VENV)/.run ## the paper's grid on MNIST and CIFAR-10, on this machine (a week on 2 cores)
	snakemake --profile profiles/local
	snakemake --profile profiles/local --report results/report.html --quiet all
	@echo "Page: results/report/index.html   Figures: results/figures   Tables: results/tables   Report: results/report.html"

cost: $(VENV)/.run ## what the pending jobs will cost in GPU-hours and node-hours; PROFILE=profiles/tsubame
	@python -m fishertail.cost $(PROFILE)

schedulers: ## install the schedulers that executor/tests starts (Debian, as root); without them these tests are skipped
	bash executor/tests/install.sh

browser: ## install the browser that tests/page drives (Debian, as root); without it these tests are skipped
	bash tests/page/install.sh

test: $(VENV)/.test ## the tests, in minutes
	python -m pytest -n 2

test-all: test ## the long tests, too, on real schedulers, and on MNIST and CIFAR-10 where they are at hand
	python -m pytest -n 2 -m "slow and not long"

test-long: $(VENV)/.test ## what takes minutes on real schedulers: outages, kill -9 at any moment, 1,000 jobs (15 minutes)
	python -m pytest -n 2 -m long

bench: $(VENV)/.bench bench-networks ## fishertail beside its peers (some three hours on 2 cores); DEVICE=cuda, DATA=directory
	python -m benchmarks.run --device $(DEVICE) --data-dir $(DATA)

bench-networks: $(VENV)/.bench ## the part of it on ResNet-18, GoogLeNet, AlexNet, ViT and GPT, and the chart (an hour or so on 1 core)
	python -m benchmarks.run_networks --device $(DEVICE)

gpu: $(VENV)/.test $(VENV)/.bench ## what only a GPU can show, in calls that go on; GPU_SECONDS=540, DATA=directory
	python -m benchmarks.gpu --seconds $(GPU_SECONDS) --data-dir $(DATA)

lint: $(VENV)/.test ## ruff, snakefmt and snakemake --lint
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow tests/schedulers executor/tests
	snakemake --lint

format: $(VENV)/.test ## put the code into the project's format
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow tests/schedulers executor/tests

schema: $(VENV)/.run ## write workflow/schemas/config.schema.json anew from the pydantic model
	python -m fishertail.config > workflow/schemas/config.schema.json

envs: ## write envs/conda.yaml anew from envs/lock.txt
	$(PYTHON) envs/write_conda.py

image: ## build envs/fishertail.sif, for snakemake --sdm apptainer
	apptainer build --force envs/fishertail.sif envs/apptainer.def

unlock: $(VENV)/.run ## after a kill -9 of Snakemake: release the lock it left
	snakemake --profile profiles/local --unlock

clean: ## delete the environment and the demo's results (never those of the paper's grid)
	rm -rf $(VENV) results/demo logs/demo benchmarks/results/demo

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: envs/lock.txt pyproject.toml executor/pyproject.toml | $(VENV)/bin/python
	python -m pip install --quiet -r envs/lock.txt
	python -m pip install --quiet --no-deps --editable . --editable executor
	@touch $@

$(VENV)/.test: envs/lock-test.txt $(VENV)/.run
	python -m pip install --quiet -r envs/lock-test.txt
	@touch $@

$(VENV)/.bench: envs/lock-bench.txt $(VENV)/.run
	python -m pip install --quiet -r envs/lock-bench.txt
	@touch $@
