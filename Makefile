# Shiftscope. `make` alone prints this list.
SHELL := /bin/sh
.DEFAULT_GOAL := help
export UV_PROJECT_ENVIRONMENT := .venv
PYTHON := .venv/bin/python
SHIFTSCOPE := .venv/bin/shiftscope
READY := .venv/.ready
# Where it is set, every process compiles all packages anew: five seconds for each that imports FiftyOne.
unexport PYTHONDONTWRITEBYTECODE
# How many processes: see tests/conftest.py. Tests that share a report stay together.
PYTEST := $(PYTHON) -m pytest --numprocesses logical --dist loadgroup --no-loadscope-reorder

.PHONY: help
help: ## Print what can be made
	@printf 'Shiftscope: why a detector fails on real footage, and what to add next.\n\n'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile
	@printf '\nExamples:\n  make report\n  make report RUN=runs/train/mine REAL=overhead/,flight.mp4\n  make app\n'

.PHONY: setup
setup: ## Install everything into .venv; TORCH=cpu for a smaller PyTorch without CUDA
	@sh tools/setup.sh $(TORCH)

$(READY): requirements.lock pyproject.toml tools/setup.sh
	@sh tools/setup.sh $(TORCH)

.PHONY: report
report: $(READY) ## Diagnose: RUN=dir REAL=source[,source] OUT=dir; alone, the rendered demo
	@$(SHIFTSCOPE) report $(if $(RUN),--run "$(RUN)") $(if $(REAL),--real-world "$(REAL)") $(if $(OUT),--out "$(OUT)") $(ARGS)

.PHONY: app
app: $(READY) ## Browse the last report's failures in the FiftyOne App
	@$(SHIFTSCOPE) app $(ARGS)

.PHONY: next
next: $(READY) ## Rank what to add next: RUN=dir REAL=source POOL=source BUDGET=50 (images) or BOXES=200
	@$(SHIFTSCOPE) next $(if $(RUN),--run "$(RUN)") $(if $(REAL),--real-world "$(REAL)") $(if $(POOL),--pool "$(POOL)") $(if $(BUDGET),--budget $(BUDGET)) $(if $(BOXES),--boxes $(BOXES)) $(ARGS)

.PHONY: train
train: $(READY) ## Train a detector: DATA=source[,source] EPOCHS=60 REAL=source to watch while it learns
	@$(if $(DATA),,printf 'make train needs DATA=source\n' >&2; exit 2;) $(SHIFTSCOPE) train "$(DATA)" $(if $(EPOCHS),--epochs $(EPOCHS)) $(if $(REAL),--real-world "$(REAL)") $(ARGS)

.PHONY: check
check: $(READY) ## Lint and type-check
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m mypy --num-workers auto

.PHONY: test
test: check ## Lint, type-check and run the fast tests (minutes)
	@sh tools/browser.sh
	@$(PYTEST) -m "not slow" $(ARGS)

.PHONY: test-all
test-all: check ## Everything, as CI runs it
	@sh tools/browser.sh
	@$(PYTEST) $(ARGS)

.PHONY: bench
bench: $(READY) ## Time the measuring core against other evaluators; writes docs/benchmark.md
	@$(PYTHON) -m benchmarks.core $(ARGS)

.PHONY: limits
limits: $(READY) ## Time what must stay fast; exits with 1 when a limit is exceeded
	@$(PYTHON) -m benchmarks.limits $(ARGS)

.PHONY: prove
prove: $(READY) ## Measure how often the diagnosis is right; writes docs/proof.md and docs/classes.md
	@$(PYTHON) -m benchmarks.prove $(ARGS)

.PHONY: prove-next
prove-next: $(READY) ## Measure by retraining whether the advice on what to add is good; writes docs/next.md
	@$(PYTHON) -m benchmarks.prove_next $(ARGS)

.PHONY: docs
docs: $(READY) ## Build the documentation as a site in site/, with the demo's report where there is one
	@$(PYTHON) -m tools.site $(ARGS)

.PHONY: lock
lock: $(READY) ## Resolve requirements.lock anew
	@sh tools/lock.sh

.PHONY: clean
clean: ## Remove the environment and caches; runs/ and data/ stay
	rm -rf .venv .uv .mypy_cache .ruff_cache .pytest_cache .hypothesis
