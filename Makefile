# The course in a few words. `make help` lists them.

PYTHON ?= python3
# How many notebooks and test modules `make test` runs at once: they often wait.
WORKERS ?= 4
# Where to take torch from, if not from the usual index: a page of wheels, for
# instance a CPU-only one.
TORCH_INDEX ?=

BIN := .venv/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
# pip would compile all packages one by one; compileall does it on all cores.
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile
COURSE := $(BIN)/python notebooks/build/course.py
NBVAL := --nbval-lax --nbval-current-env \
	--nbval-cell-timeout=400 --nbval-kernel-startup-timeout=60

.DEFAULT_GOAL := help
.PHONY: help course book test lab student grade slides benchmark speed soak clean .venv

help:  ## say what can be made
	@sed -n 's/^\([a-z.-]*\):[^#]*## \(.*\)/  make \1@\2/p' $(MAKEFILE_LIST) \
	| awk -F@ '{ printf "%-18s %s\n", $$1, $$2 }'

.venv: .venv/.installed  ## install everything into .venv (the rest does it too)

.venv/.installed: pyproject.toml
	@echo "Installing into .venv: some minutes and 5 GB, once"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@if [ -n "$(TORCH_INDEX)" ]; then $(PIP) --index-url "$(TORCH_INDEX)" \
		"torch>=2.11,<2.12" "torchaudio>=2.11,<2.12"; fi
	@$(PIP) --editable ".[test,book]"
	-@$(BIN)/python -m compileall -q -j 0 -x "[/\\\\]tests[/\\\\]|transformers.models.(?!auto|clap|whisper)" \
		"$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
	@touch $@

# What runs from here on needs no network; these make sure that it asks for none.
course test: export HF_HUB_OFFLINE = 1
course test: export TRANSFORMERS_OFFLINE = 1
course test lab: export HF_HUB_DISABLE_TELEMETRY = 1
# Threads that spin while they wait make a busy machine many times slower.
course test lab: export OMP_WAIT_POLICY = PASSIVE

course: .venv/.installed  ## run all notebooks, write the book: build/course/index.html
	$(COURSE) run

book: .venv/.installed  ## write the book from stored outputs, without running them
	$(COURSE) book

# One thread per worker: two workers with two threads each would fight for two cores.
test: export OMP_NUM_THREADS = 1
test: .venv/.installed  ## check style, run all tests, examples and notebooks
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python -m pytest --quiet -n $(WORKERS) --dist loadscope \
		--no-loadscope-reorder $(NBVAL) \
		-m "not slow" --doctest-modules clepdg_lib tests notebooks

lab: .venv/.installed  ## open the first notebook in JupyterLab
	$(BIN)/jupyter lab --ip=127.0.0.1 notebooks/00_welcome.ipynb

student: .venv/.installed  ## write build/student: the notebooks without solutions
	$(COURSE) student

HAND_INS ?= build/hand-ins
grade: .venv/.installed  ## grade HAND_INS=folder, write build/grades.csv
	$(BIN)/python notebooks/build/grading.py grade "$(HAND_INS)"

LESSON ?= 00
slides: .venv/.installed  ## write build/slides: one lesson (LESSON=04) as slides
	$(COURSE) slides $(LESSON)

# With the recordings ($$CLEPDG_CORPORA) their features are computed anew, and then used.
benchmark: .venv/.installed  ## all methods on corpora left out, build/benchmark.json
	@mkdir -p build
ifdef CLEPDG_CORPORA
	@$(PIP) --editable ".[build]"
	$(BIN)/python data/build/real_speech.py --out build/features
endif
	$(BIN)/python -m clepdg_lib benchmark --json build/benchmark.json \
		$(if $(CLEPDG_CORPORA),--features build/features)

speed: .venv/.installed  ## measure this machine, write data/results/speed.json
	$(BIN)/python tests/speed/measure.py --json data/results/speed.json
	$(BIN)/python notebooks/build/results.py

# Each campaign keeps its last figures in data/results/soak.json.
SOAK := $(BIN)/python tests/soak
soak: export OMP_NUM_THREADS = 1
soak: .venv/.soak  ## fuzz, cut power, fill disks, mutate: some hours
	$(BIN)/python -m pytest --quiet -m slow tests
	$(SOAK)/fuzz_audio.py --seconds 3600 --work build/fuzz
	$(SOAK)/cut_power.py --kills 200
	$(SOAK)/no_room.py
	$(SOAK)/classroom.py
	$(SOAK)/mutate.py --each 40
	$(BIN)/python notebooks/build/results.py

.venv/.soak: .venv/.installed
	@$(PIP) --editable ".[soak]"
	@touch $@

clean:  ## remove what was made, .venv and build
	rm -rf .venv build .pytest_cache .ruff_cache *.egg-info
	find clepdg_lib tests data notebooks -name __pycache__ -prune -exec rm -rf {} +
	find notebooks -name .ipynb_checkpoints -prune -exec rm -rf {} +
