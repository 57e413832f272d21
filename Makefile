# The course in a few words. `make help` lists them.

PYTHON ?= python3
# How many notebooks and test modules to run at once in `make test`.
WORKERS ?= 2
# Of `make benchmark`: a whole chain of trainings each.
SEEDS ?= 0 1 2 3 4
# Where to take torch from, if not from the usual index: a page of wheels, for
# instance the CPU-only one that README names.
TORCH_INDEX ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
NBVAL := --nbval-lax --nbval-current-env \
	--nbval-cell-timeout=400 --nbval-kernel-startup-timeout=60

.DEFAULT_GOAL := help
.PHONY: help course test test-slow speed lab student slides benchmark soak clean .venv

help:  ## say what can be made
	@sed -n 's/^\([a-z.-]*\):[^#]*## \(.*\)/  make \1@\2/p' $(MAKEFILE_LIST) \
	| awk -F@ '{ printf "%-18s %s\n", $$1, $$2 }'

.venv: .venv/.installed  ## install everything into .venv (the rest does it too)

.venv/.installed: pyproject.toml
	@echo "Installing into .venv: some minutes and 5 GB, once"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@if [ -n "$(TORCH_INDEX)" ]; then $(PIP) --index-url "$(TORCH_INDEX)" \
		"torch>=2.11,<2.12" "torchaudio>=2.11,<2.12"; fi
	@$(PIP) --editable ".[test]"
	@touch $@

# What runs from here on needs no network; these make sure that it asks for none.
course test: export HF_HUB_OFFLINE = 1
course test: export TRANSFORMERS_OFFLINE = 1
course test lab: export HF_HUB_DISABLE_TELEMETRY = 1

course: .venv/.installed  ## run all notebooks, write build/course/index.html
	$(BIN)/python -m clepdg_lib course

# One thread per worker: two workers with two threads each would fight for two cores.
test: export OMP_NUM_THREADS = 1
test: .venv/.installed  ## check style, run all tests, examples and notebooks
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python -m pytest --quiet -n $(WORKERS) --dist loadscope $(NBVAL) \
		-m "not slow" --doctest-modules clepdg_lib tests notebooks

test-slow: .venv/.installed  ## LAION's full size with random weights; a few kills
	$(BIN)/python -m pytest --quiet -m slow tests

speed: .venv/.installed  ## measure this machine, write data/results/speed.json
	$(BIN)/python -m clepdg_lib speed --json data/results/speed.json
	$(BIN)/python -m clepdg_lib readme

lab: .venv/.installed  ## open the first notebook in JupyterLab
	$(BIN)/jupyter lab --ip=127.0.0.1 notebooks/00_welcome.ipynb

student: .venv/.installed  ## write build/student: the notebooks without solutions
	$(BIN)/python -m clepdg_lib student

LESSON ?= 00
slides: .venv/.installed  ## write build/slides: one lesson (LESSON=04) as slides
	$(BIN)/python -m clepdg_lib slides $(LESSON)

benchmark: .venv/.benchmark  ## leave-one-corpus-out on real speech (CLEPDG_CORPORA)
	@mkdir -p build
	$(BIN)/python -m clepdg_lib benchmark --tier audio --work build/benchmark \
		--seeds $(SEEDS) --json build/benchmark.json

.venv/.benchmark: .venv/.installed
	@$(PIP) --editable ".[benchmark]"
	@touch $@

# Each campaign keeps its last figures in data/results/soak.json; `readme` shows them.
SOAK := $(BIN)/python tests/soak
# Other interpreters to install under and run the unit tests: those that are at hand.
PYTHONS ?= $(shell for v in 10 11 12 13; do command -v python3.$$v; done)
soak: export OMP_NUM_THREADS = 1
soak: .venv/.soak  ## fuzz, cut power, fill disks, other Pythons, mutate: some hours
	$(SOAK)/first_plot.py
	$(SOAK)/fuzz_audio.py --seconds 3600 --work build/fuzz
	$(SOAK)/fuzz_audio.py --record --work build/fuzz
	$(SOAK)/cut_power.py --kills 200
	$(SOAK)/no_room.py
	$(SOAK)/no_network.py
	$(SOAK)/in_voila.py
	$(SOAK)/pythons.py $(PYTHONS)
	$(SOAK)/coverage_of_tests.py
	$(SOAK)/mutate.py --each 40
	$(BIN)/python -m clepdg_lib readme

.venv/.soak: .venv/.installed
	@$(PIP) --editable ".[soak]"
	@touch $@

clean:  ## remove what was made, .venv and build
	rm -rf .venv build .pytest_cache .ruff_cache *.egg-info
	find clepdg_lib tests data notebooks -name __pycache__ -prune -exec rm -rf {} +
	find notebooks -name .ipynb_checkpoints -prune -exec rm -rf {} +
