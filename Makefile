# Salon: every target sets up what it needs. `make` alone lists them.

PYTHON         ?= python3
VENV           ?= .venv
METHOD         ?= diffusion
TORCH_PIP_ARGS ?=
PYTEST_ARGS    ?=

BIN   := $(abspath $(VENV))/bin
TORCH  = $(shell sed -n 's/^torch==/torch==/p' requirements.lock)
PIP    = $(BIN)/python -m pip --disable-pip-version-check --quiet
STORE  = $${MLFLOW_TRACKING_URI:-sqlite:///$(CURDIR)/mlflow.db}

# Runs a program of the environment. It comes first on PATH, for the stages of dvc.yaml call `python -m salon`;
# not for all of make, whose PYTHON must never be the environment that it is about to rebuild.
IN_ENV = PATH="$(BIN):$$PATH" $(BIN)/

export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := 1

.DEFAULT_GOAL := help
.PHONY: help env repro smoke test check-data notebooks lint ui serve gallery lock clean

help:  ## Say what can be made
	@echo "Salon: captions in, a judged and served text-to-image model out. Targets:"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "Variables (make TARGET NAME=value):"
	@echo "  PYTHON          interpreter that builds the environment, 3.11 or newer   [$(PYTHON)]"
	@echo "  VENV            where the environment lives                              [$(VENV)]"
	@echo "  METHOD, PORT    for serve: which champion, on which port                 [$(METHOD), 8080]"
	@echo "  PORT            for gallery, ui: on which port                           [8080, 5000]"
	@echo "  SOURCE, DATA    for check-data: a source of params.yaml and its files, instead of the pipeline's"
	@echo "  TORCH_PIP_ARGS  extra arguments when pip installs torch, e.g. for CUDA:"
	@echo "                  TORCH_PIP_ARGS='--index-url <index of CUDA wheels>'"
	@echo "  PYTEST_ARGS     for test: e.g. PYTEST_ARGS='-m \"not pipeline\"'"

env: $(VENV)/.complete  ## Build the environment (done once; again when the lock or pyproject.toml change)

repro: env  ## Run the whole pipeline, from captions to a registered champion
	$(IN_ENV)dvc repro
	$(IN_ENV)salon sync
	@echo
	@echo "The result:       reports/compare/index.html   (open it in a browser)"
	@echo "The data:         reports/data_docs/index.html"
	@echo "The runs:         make ui"
	@echo "Try it:           make gallery"
	@echo "Pictures on tap:  make serve METHOD=$(METHOD)"

smoke: env  ## Run every stage on a tiny world in a temporary clone; touches nothing here
	$(IN_ENV)salon smoke

test: env  ## Run the whole test suite
	$(IN_ENV)python -m pytest $(PYTEST_ARGS)

check-data: env  ## Ingest if needed, check every row, compare with the accepted data (or: SOURCE=, DATA=)
ifdef SOURCE
	$(IN_ENV)salon validate --source "$(SOURCE)" $(if $(DATA),--path "$(DATA)")
else
	$(IN_ENV)dvc repro ingest
	$(IN_ENV)salon validate --fail-on-drift
endif

notebooks: env  ## Run the notebooks on what is trained here; their outputs are kept
	$(IN_ENV)python notebooks/execute.py

lint: env  ## Check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

ui: PORT ?= 5000
ui: env  ## Look at runs and models in the MLflow UI (a server named by MLFLOW_TRACKING_URI has its own)
	@case "$(STORE)" in \
	http*) echo "MLFLOW_TRACKING_URI names a server: open it in a browser" ;; \
	*) MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(IN_ENV)mlflow ui --backend-store-uri "$(STORE)" \
	   --host 127.0.0.1 --port $(PORT) --workers 1 ;; \
	esac

serve: PORT ?= 8080
serve: env  ## Serve the champion of METHOD on 127.0.0.1:PORT
	$(IN_ENV)salon sync
	MLFLOW_TRACKING_URI="$(STORE)" $(IN_ENV)mlflow models serve -m "models:/salon-$(METHOD)@champion" \
	  --env-manager local -h 127.0.0.1 -p $(PORT)

gallery: PORT ?= 8080
gallery: env  ## Serve every champion, with a page to try them, on 127.0.0.1:PORT
	$(IN_ENV)salon sync
	$(IN_ENV)salon serve --port $(PORT)

lock:  ## Pin the newest versions that pyproject.toml admits into requirements.lock
	$(check-python)
	rm -rf .salon/lock && mkdir -p .salon
	$(PYTHON) -m venv .salon/lock
	.salon/lock/bin/python -m pip install --quiet $(TORCH_PIP_ARGS) \
	  "$$(sed -n 's/^  "\(torch[<>=][^"]*\)".*/\1/p' pyproject.toml)"
	.salon/lock/bin/python -m pip install --quiet --editable '.[dev]'
	.salon/lock/bin/python -m pip check
	@# a local version such as +cpu names one machine's build; without it any build of that version will do,
	@# and what a CUDA build of torch needs beside itself comes with that build
	.salon/lock/bin/python -m pip freeze --exclude-editable | grep -Ev ' @ |^(nvidia|cuda|triton)' \
	  | sed 's/+[a-z0-9.]*$$//' > .salon/lock.txt
	mv .salon/lock.txt requirements.lock
	rm -rf .salon/lock

clean:  ## Remove caches and scratch files; environment, data, models and reports stay
	rm -rf .salon .pytest_cache .mypy_cache .ruff_cache .hypothesis build
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# ---------------------------------------------------------------------------------------------------------
# The environment in two steps, each marked only when it is whole: a broken installation is begun anew, and an
# edited pyproject.toml does not install two hundred packages again.

define check-python
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
  echo "Salon needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1 | head -n 1)." \
       "Name one: make PYTHON=python3.11"; exit 1; }
endef

$(VENV)/.packages: requirements.lock
	$(check-python)
	@test ! -e "$(VENV)" || test -e "$(VENV)/pyvenv.cfg" || { \
	  echo "$(VENV) exists and is no environment: name another, make VENV=..."; exit 1; }
	@echo "Building $(VENV) from requirements.lock: some minutes, once"
	$(PYTHON) -m venv --clear "$(VENV)"
	$(PIP) install $(TORCH_PIP_ARGS) "$(TORCH)"
	$(PIP) install -r requirements.lock
	@touch "$@"

$(VENV)/.complete: $(VENV)/.packages pyproject.toml
	$(PIP) install --no-deps --editable .
	$(PIP) check
	@touch "$@"
