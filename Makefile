# The whole project from one place. `make` or `make help` lists what there is.

# Python 3.10 to 3.12 makes the environment: the first of these that works, or PYTHON=... by hand.
PY_CHECK := 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))'
PYTHON ?= $(shell for p in python3.11 python3.12 python3.10 python3; do \
	$$p -c $(PY_CHECK) >/dev/null 2>&1 && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Processes that run the tests side by side, and further arguments, e.g. PYTEST_ARGS='-k compat -x'.
JOBS ?= 2
PYTEST_ARGS ?=

# Arguments of the web page, e.g. WEB_ARGS='--port 8000 --max-seconds 600'.
WEB_ARGS ?=

# It must never wait for an answer: in CI nobody gives one.
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build
REQUIREMENTS := $(wildcard requirements/*.txt)

# The demo: the mini world, its config, and where the results go.
DEMO_DATA := data/mini
DEMO_DIR := work_dirs/demo
DEMO_CONFIG := configs/mini/ovavss_mini_hearing.py

.DEFAULT_GOAL := help
.PHONY: help setup test lint format docs package trial demo web ops doctor clean distclean

help:  ## Show this list
	@echo 'OV-AVSS for MMSegmentation. What make can do here:'
	@echo
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-18s%s\n", $$1, $$2 }'
	@echo
	@echo 'Variables: PYTHON=python3.12 (for setup), JOBS=4 and PYTEST_ARGS="-k compat -x" (for test).'
	@echo 'Start with `make test` or `make demo`: both set up what they need.'

# ---------------------------------------------------------------------------- environment
setup: $(READY)  ## Create .venv with pinned requirements and this package (3 to 6 minutes, 6 GB; once)
	@echo "The environment is ready: $(VENV)"

$(BIN)/python:
	@test -n '$(PYTHON)' && $(PYTHON) -c $(PY_CHECK) || { \
		echo 'error: Python 3.10, 3.11 or 3.12 is needed ($(if $(PYTHON),PYTHON=$(PYTHON) is not one,none found)).'; \
		echo 'Install one, or name it: make setup PYTHON=/path/to/python3.11'; exit 1; }
	@echo '==> Creating $(VENV) with $(PYTHON)'
	$(PYTHON) -m venv $(VENV)

# setuptools first, on its own: it builds this package. The hosts build in isolation: where torch is
# importable, onedl-mmcv would compile its ops, which takes 15 minutes and is not needed on a CPU.
$(READY): $(REQUIREMENTS) setup.cfg setup.py | $(BIN)/python
	@echo '==> Installing the requirements (torch is large: this takes 3 to 6 minutes)'
	$(PIP) install -r requirements/build.txt
	@constraints=requirements/constraints-$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])').txt; \
	set -ex; $(PIP) install -r requirements/runtime.txt -r requirements/tests.txt \
		$$(test -f $$constraints && echo "-c $$constraints")
	@echo '==> Installing ovavss_mm, editable'
	$(PIP) install --no-build-isolation --no-deps -e .
	$(BIN)/python -I -c 'import ovavss_mm; print("ovavss_mm", ovavss_mm.__version__, "is ready")'
	@touch $@

ops: $(READY)  ## Compile mmcv's ops for the installed torch (about 15 minutes; for GPUs)
	CFLAGS=-g0 $(PIP) install --force-reinstall --no-deps --no-cache-dir --no-build-isolation \
		--no-binary onedl-mmcv $$(sed -n 's/^\(onedl-mmcv==.*\)/\1/p' requirements/runtime.txt)

# Without $(READY), as it must run when the set-up failed.
doctor:  ## Say what works here, and what to do about the rest
	@if test -x $(BIN)/python; then $(BIN)/python tools/doctor.py; else $(PYTHON) tools/doctor.py; fi

# ---------------------------------------------------------------------------- checks
test: $(READY)  ## Run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0 $(PYTEST_ARGS)

lint: $(READY)  ## Check style, docstrings, types, the workflow files and the documentation site
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/interrogate ovavss_mm tools
	$(BIN)/mypy
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	folder=$$(mktemp -d); $(MKDOCS) --strict --quiet --site-dir $$folder; code=$$?; rm -r $$folder; exit $$code

format: $(READY)  ## Bring the code into the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY)  ## Build the documentation site in site/
	$(MKDOCS)
	@echo '==> Open site/index.html'

# ---------------------------------------------------------------------------- release
package: $(READY)  ## Build the sdist and the wheel in dist/, and check them
	rm -rf dist
	$(BIN)/python -m build
	@rm -rf ovavss_mm.egg-info  # mim would take it for an installation
	$(BIN)/twine check --strict dist/*

trial:  ## Install the wheel of dist/ with nothing else, and label a video with it (minutes, 7 GB for a while)
	@folder=$$(mktemp -d); trap 'rm -rf $$folder' EXIT; set -ex; $(PYTHON) -m venv $$folder/env; mkdir $$folder/empty; \
	$$folder/env/bin/pip install --no-input $(CURDIR)/dist/ovavss_mm-*.whl; $$folder/env/bin/pip check; \
	cd $$folder/empty; PATH=$$folder/env/bin:$$PATH; unset PYTHONPATH; \
	mim run ovavss_mm mini_world --video mini.mp4 --sounding red-square; \
	mim run ovavss_mm infer mini.mp4 --classes red-square green-star --out-dir out; \
	grep -q '"red-square"' out/pred/mini.json; test -s out/vis/mini.mp4

# ---------------------------------------------------------------------------- demo
demo: $(DEMO_DIR)/.first $(DEMO_DIR)/.tested $(DEMO_DIR)/.tested-sounds  ## Label toy clips, then train on a toy world and test (minutes, CPU)
	@$(BIN)/python tools/analysis_tools/confusion.py $(DEMO_DIR)/test --out-dir $(DEMO_DIR)
	@echo '==> Done: the classes are in the logs, pictures in $(DEMO_DIR)/*.png. `rm -r $(DEMO_DIR)` starts over.'

$(DEMO_DATA)/metadata.csv: | $(READY)
	@echo '==> 1/5 Making the mini world in $(DEMO_DATA)'
	$(BIN)/python tools/dataset_converters/mini_world.py --out $(DEMO_DATA)

# The trained mini model that ships with the package, on the first clips of the test split.
$(DEMO_DIR)/.first: | $(READY) $(DEMO_DATA)/metadata.csv
	@echo '==> 2/5 Labelling the first clips of the test split with the mini model of the package'
	$(BIN)/mim test ovavss_mm $(DEMO_CONFIG) --checkpoint ovavss_mm://mini_world/ovavss_mini_hearing.safetensors \
		--work-dir $(DEMO_DIR)/first --cfg-options test_dataloader.dataset.indices=8
	@echo '==> The table is above, the picture is $(DEMO_DIR)/first/contact_sheet.png. Now the same from scratch:'
	@touch $@

$(DEMO_DIR)/.trained: | $(DEMO_DIR)/.first
	@echo '==> 3/5 Training; an interrupted run goes on where it was'
	$(BIN)/mim train ovavss_mm $(DEMO_CONFIG) --work-dir $(DEMO_DIR) --resume
	@touch $@

$(DEMO_DIR)/.tested: $(DEMO_DIR)/.trained
	@echo '==> 4/5 Testing'
	$(BIN)/mim test ovavss_mm $(DEMO_CONFIG) --checkpoint "$$(cat $(DEMO_DIR)/last_checkpoint)" --work-dir $(DEMO_DIR)/test
	@cp $(DEMO_DIR)/test/contact_sheet.png $(DEMO_DIR)/contact_sheet.png
	@touch $@

$(DEMO_DIR)/.tested-sounds: $(DEMO_DIR)/.trained
	@echo '==> 5/5 Testing with silence, noise and the sounds of other clips: nothing that is silent should be labelled'
	$(BIN)/mim test ovavss_mm sounds.py --base $(DEMO_CONFIG) --checkpoint "$$(cat $(DEMO_DIR)/last_checkpoint)" \
		--work-dir $(DEMO_DIR)/test_sounds
	@touch $@

web: $(READY)  ## Open the web page on this computer
	$(BIN)/python tools/web_demo.py $(WEB_ARGS)

# ---------------------------------------------------------------------------- tidying
clean:  ## Remove caches and builds
	rm -rf build dist site *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find configs ovavss_mm tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## Remove the environment, the mini world and the demo's results as well
	rm -rf $(VENV) $(DEMO_DATA) $(DEMO_DIR)
