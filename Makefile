# make figures: all figures and tables, from embedded data, in minutes. make test: the tests. make help: the rest.
PYTHON ?= python3.11
VENV ?= .venv
DEVICE ?= cpu
DATA ?= data
GPU_SECONDS ?= 540
PROFILE ?= profiles/local
PYTHONS ?= python3.11 python3.12 python3.13
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help figures paper page cost report docs docs-check test test-all test-long test-pythons schedulers browser bench bench-networks bench-measurements gpu lint format envs image unlock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

figures: $(VENV)/.run ## every figure and table of the paper, from handwritten digits, in minutes
	snakemake --profile profiles/demo
	@snakemake --profile profiles/demo --report results/demo/report.html --quiet all 2> results/demo/report.log \
		|| { cat results/demo/report.log; exit 1; }
	@echo "Page: results/demo/report/index.html   Figures: results/demo/figures   Tables: results/demo/tables"

paper: $(VENV)/.run ## the paper's grid on MNIST and CIFAR-10, on this machine (days on 2 cores)
	snakemake --profile profiles/local
	snakemake --profile profiles/local --report results/report.html --quiet all
	@echo "Page: results/report/index.html   Figures: results/figures   Tables: results/tables   Report: results/report.html"

page: $(VENV)/.run ## the page of what is there so far, also while jobs run: report/so_far.html; PROFILE=profiles/demo
	snakemake --profile $(PROFILE) --nolock --quiet rules --forcerun page_so_far -- page_so_far

cost: $(VENV)/.run ## what the pending jobs will cost: hours, points, how long they take; PROFILE=profiles/tsubame
	@python -m fishertail.grid.cost $(PROFILE)

schedulers: ## install the schedulers that executor/tests starts (Debian, as root); without them these tests are skipped
	bash executor/tests/install.sh

browser: ## install the browser that tests/page drives (Debian, as root); without it these tests are skipped
	bash tests/page/install.sh

test: $(VENV)/.test ## the tests, in minutes
	python -m pytest -n 2

test-all: test ## also the slow tests: on real schedulers, and on MNIST and CIFAR-10 if they are there
	python -m pytest -n 3 -m "slow and not long"  # of which many wait for a scheduler

test-long: $(VENV)/.test ## tests that take minutes: outages of schedulers, kill -9 at any moment, 1,000 jobs, large extensions
	python -m pytest -n 2 -m long

test-pythons: ## the numerical tests on every Python at hand; PYTHONS="python3.12 python3.13" names them
	for python in $(PYTHONS); do bash tests/pythons.sh $$python || exit 1; done

bench: $(VENV)/.bench bench-networks ## fishertail compared with its peers (about three hours on 2 cores); DEVICE=cuda, DATA=directory
	python -m benchmarks.run --device $(DEVICE) --data-dir $(DATA)

bench-networks: $(VENV)/.bench ## only ResNet-18, GoogLeNet, AlexNet, ViT and GPT, and the chart (about an hour on 1 core)
	python -m benchmarks.run_networks --device $(DEVICE)

bench-measurements: $(VENV)/.bench ## what each measurement costs at a checkpoint, in passes (half an hour on 1 core); DATA=directory
	python -m benchmarks.measurements --data-dir $(DATA) --device $(DEVICE)

gpu: $(VENV)/.test $(VENV)/.bench ## tests and benchmarks that need a GPU; each call continues the last; GPU_SECONDS=540, DATA=directory
	python -m benchmarks.gpu --seconds $(GPU_SECONDS) --data-dir $(DATA)

lint: $(VENV)/.test docs-check ## ruff, mypy, snakefmt, snakemake --lint, and whether the documentation is in sync
	ruff check .
	ruff format --check .
	mypy
	mypy --config-file executor/pyproject.toml executor/src
	snakefmt --check Snakefile workflow tests/schedulers executor/tests
	snakemake --lint

format: $(VENV)/.test ## put the code into the project's format
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow tests/schedulers executor/tests

docs: $(VENV)/.docs ## the documentation as a site, site/index.html, with what is generated from registered objects
	python docs/generate.py
	NO_MKDOCS_2_WARNING=1 python -m mkdocs build --strict --quiet
	@echo "Site: site/index.html"

docs-check: $(VENV)/.run ## check that the generated parts of the documentation are up to date
	python docs/generate.py --check

envs: ## write envs/conda.yaml from envs/lock.txt
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

$(VENV)/.docs: envs/lock-docs.txt $(VENV)/.run
	python -m pip install --quiet -r envs/lock-docs.txt
	@touch $@

$(VENV)/.test: envs/lock-test.txt $(VENV)/.docs
	python -m pip install --quiet -r envs/lock-test.txt
	@touch $@

$(VENV)/.bench: envs/lock-bench.txt $(VENV)/.run
	python -m pip install --quiet -r envs/lock-bench.txt
	@touch $@
