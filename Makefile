# UniX CXR. Every target sets itself up; nothing needs root, a browser or a GPU.
#   make demo [IMAGE=chest.png]    make test    make check    make check-long
#   make setup TORCH_INDEX=https://download.pytorch.org/whl/cpu    (another source of the torch wheel)

PYTHON ?= python3
IMAGE ?=
TORCH_INDEX ?=

BIN := .venv/bin
READY := .venv/.ready
LONG_PARTS := $(shell grep -rls 'mark\.long' tests)
LONG_STAMPS := $(LONG_PARTS:%.py=.check-long/%.done)
SOURCES := $(shell find src tests -name '*.py')

.PHONY: help setup demo test check check-server check-long bench docs clean embedded
.DELETE_ON_ERROR:

help:
	@sed -n '2,3s/^# *//p' Makefile

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; try make PYTHON=python3.11")'
	@rm -f $(READY)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt \
	  $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) --editable '.[dev]'
	@touch $(READY)

demo: $(READY)
	$(BIN)/unixcxr demo $(if $(IMAGE),--image '$(IMAGE)') --out demo

test: $(READY)
	$(BIN)/python -m pytest -m 'not long'

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_imports.py tests/test_docs.py

# The page in a browser and half a minute of load; 500 damaged bodies are part of `make test`.
check-server: $(READY) .check-long/browser
	$(BIN)/python -m pytest -m long tests/serve/test_page_browser.py tests/serve/test_load.py

# One part a file; a part that passed is not run again until a source changes.
check-long: $(READY) .check-long/browser $(LONG_STAMPS)
	@echo "check-long: $(words $(LONG_PARTS)) parts passed"

.check-long/%.done: %.py $(SOURCES)
	$(BIN)/python -m pytest -m long $<
	@mkdir -p $(@D) && touch $@

# The browser parts are skipped where there is no browser and none may be installed.
.check-long/browser: $(READY)
	@command -v chromedriver || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && apt-get update -q && apt-get install -qy chromium chromium-driver; } || echo "no browser: its parts are skipped"
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --editable '.[browser]'
	@mkdir -p $(@D) && touch $@

bench: $(READY)
	$(BIN)/python benchmarks/cli_start.py
	$(BIN)/python benchmarks/phantom_speed.py

docs: $(READY)
	$(BIN)/python docs/make_cli_reference.py
	$(BIN)/python docs/make_api_reference.py

clean:
	rm -rf build dist demo .check-long

# The embedded model from nothing: about two hours on 2 cores. PACK is a folder of real pictures with index.jsonl.
PACK ?= cxrpack
RUN ?= runs/embedded
CORPUS := $(addprefix $(RUN)/corpus/,phantoms real composites)

embedded: $(READY) $(CORPUS)
	$(BIN)/python -m unixcxr.train.embedded --config configs/embedded/v1.toml --corpus $(CORPUS) --out $(RUN) --stage all
	$(BIN)/python -m unixcxr.train.embedded --config configs/embedded/v1.toml --corpus $(CORPUS) --out $(RUN) \
	  --stage export --to $(RUN)/model --card src/unixcxr/assets/embedded/README.md

$(RUN)/corpus/phantoms: | $(READY)
	$(BIN)/python scripts/embedded_corpus.py phantoms $@ --first-seed 20000 --count 17500

$(RUN)/corpus/real: | $(READY)
	$(BIN)/python scripts/embedded_corpus.py real $@ --pack $(PACK)

$(RUN)/corpus/composites: | $(READY)
	$(BIN)/python scripts/embedded_corpus.py composites $@ --pack $(PACK) --per-image 6
