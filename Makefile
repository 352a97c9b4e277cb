# Every target does its own set-up: on a fresh machine with Python and pip, `make demo` or `make test` is enough.
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all check format bench bench-hil bench-ros bench-recording bench-imitation bench-cockpit clean

# Small networks run fastest on one thread; several processes share the cores.
export OMP_NUM_THREADS ?= 1

BIN := .venv/bin

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

setup: .venv/.ready ## build .venv in this checkout (the other targets do it when needed)

.venv/.ready: pyproject.toml constraints.txt .ci/setup $(wildcard setup.py setup.cfg)
	@.ci/setup

demo: setup ## train, export, fly over ROS 2 and write a report (under 8 minutes with set-up)
	@$(BIN)/robot-rl demo

test: setup ## the tests, without those marked slow
	$(BIN)/pytest -m "not slow"

test-all: setup ## every test
	$(BIN)/pytest

check: setup ## lint, format and types; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## sort imports, fix what can be fixed, format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup ## measure what docs/benchmarks claims: speed, experts, training (hours; `make bench PART=speed` 2 minutes)
	$(BIN)/python -m robot_rl.bench $(PART)

bench-hil: setup ## measure human-in-the-loop learning, resumable (hours; `make bench-hil CELLS=pick-lift`)
	$(BIN)/python -m robot_rl.bench.hil $(if $(CELLS),--cells $(CELLS))

bench-ros: setup ## measure the robot's processes in real time (three quarters of an hour; `make bench-ros ROS=timing`)
	$(BIN)/python -m robot_rl.bench.ros $(ROS)

bench-recording: setup ## measure the recorder: kills and eight streams (40 minutes; `make bench-recording RECORDING=kills`)
	$(BIN)/python -m robot_rl.bench.recording $(RECORDING)

bench-imitation: setup ## measure imitation policies on the same demonstrations, resumable (an hour)
	$(BIN)/python -m robot_rl.bench.imitation

bench-cockpit: setup ## measure the page's latency in a headless Chromium (5 minutes)
	$(BIN)/python -m robot_rl.bench.cockpit

clean: ## remove .venv, caches and build results; runs/ stays
	rm -rf .venv .bootstrap build dist install log *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find robot_rl sim hardware policies tests launch -name __pycache__ -type d -prune -exec rm -rf {} +
