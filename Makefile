# `make help` lists the targets. Everything runs in .venv, which `make setup` makes from nothing.
.DEFAULT_GOAL := help
PYTHON ?= python3.11
BIN := .venv/bin
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Stamps, so that a target that needs the environment makes it once.
INSTALLED := .venv/.installed

$(INSTALLED): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "needs $(PYTHON) (or make PYTHON=...)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[service,embedded,dev]'
	@touch $@

.PHONY: setup demo serve test verify fix proto bench help

setup: $(INSTALLED) ## install everything into .venv

proto: $(INSTALLED) ## generate the wire code from proto/
	$(BIN)/python -m grpc_tools.protoc -Iproto --python_out=proto --grpc_python_out=proto \
	  --mypy_out=readable_stubs:proto --mypy_grpc_out=proto $(wildcard proto/idefics2/v1/*.proto)

help: ## show this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14
