# SPDX-License-Identifier: Apache-2.0
# Everything below works from an empty clone: a Python that setup.cfg allows and a network are all it takes.
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST_ARGS ?= -n auto --maxprocesses 8 --dist worksteal
ARITHMETIC_ARGS ?= --json docs/arithmetic.json
BENCH_ARGS ?= --docs docs
FUZZ_TORCH ?= 20000
APPS ?= $(wildcard build/digits-app)
XHEEP_OUT ?= build/xheep
CXX_SOURCES := $(shell find firmware_gen sim tests xheep_integration -name '*.[ch]pp' -o -name '*.h')
# Only wheels, no questions, no notice about pip itself.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help venv run screenshot heepstor-gen test test-all test-external durations fuzz fuzz-files mutate arithmetic \
	campaign cpu-cycles estimate-error bench area area-check ppa-units ppa-cpu energy energy-model energy-options formal lint docs site sbom clean distclean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

venv: $(READY)  ## create .venv with everything at pinned versions

# python_requires of setup.cfg, >=3.A, <3.B: its first word is A, its last one B - 1.
MINORS := $(shell sed -n 's/^python_requires = >=3\.\([0-9]*\), <3\.\([0-9]*\)$$/\1 \2 - 1/p' setup.cfg | \
	{ read -r first end && seq $$first $$(($$end)); })
RANGE := Python 3.$(firstword $(MINORS)) to 3.$(lastword $(MINORS))
PYTHONS := $(or $(PYTHON),$(MINORS:%=python3.%) python3 python)

$(READY): setup.cfg pyproject.toml
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
	  for python in $(PYTHONS); do \
	    version=$$($$python -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) || continue; \
	    case " $(MINORS:%=3.%) " in *" $${version%.*} "*) lacks=;; *) lacks="is $$version";; esac; \
	    $$python -c 'import ensurepip, venv' >/dev/null 2>&1 || \
	      lacks=$${lacks:-"cannot create a virtual environment (Debian and Ubuntu: install python3-venv)"}; \
	    [ "$$lacks" ] || { $$python -m venv --clear $(VENV); exit; }; \
	    found="$${found:+$$found, }$$python $$lacks"; \
	  done; \
	  echo "heepgen needs $(RANGE): $${found:-there is none of $(PYTHONS)}. Install one," \
	    "or name one, as in make PYTHON=/usr/bin/python3.12" >&2; exit 1; }
	@echo "installing into $(VENV) (once)"
	@$(PIP) --editable '.[test]'
	@touch $@

run: $(READY)  ## train a small network on digits, generate hardware and firmware, run them
	@$(BIN)/python -m examples.train digits -o build/digits
	@$(BIN)/heepgen hw --out build/hw
	@$(BIN)/heepgen sw build/digits/model.pt2 --name digits --sample build/digits/sample.npy --out build/digits-app
	@$(BIN)/heepgen run build/digits-app --json build/digits/run.json
	@$(BIN)/python examples/digits/compare.py build/digits build/digits/run.json

screenshot: run  ## write docs/report.png, the report of that run as Chromium shows it
	@$(BIN)/heepgen run build/digits-app --json build/digits/traced.json --trace build/digits/trace.json
	@$(BIN)/heepgen report build/digits/traced.json -o build/digits/report.html
	@$(BIN)/python -m gen.documents.screenshot build/digits/report.html docs/report.png

heepstor-gen: $(READY)  ## put the accelerator into an X-HEEP checkout's SoC (HEEP_DIR=PATH, APPS=folders)
	@test -n "$(HEEP_DIR)" || { echo "HEEP_DIR is not set: make heepstor-gen HEEP_DIR=path/of/x-heep" >&2; exit 1; }
	@$(BIN)/heepgen xheep --heep-dir $(HEEP_DIR) -o $(XHEEP_OUT) $(APPS)

test: lint  ## check style, run the test suite: all quick tests and a twelfth of the slow ones (PYTEST_ARGS='-k config')
	@$(BIN)/python -m pytest tests/ $(PYTEST_ARGS)

test-all: lint  ## the same with all slow tests
	@$(BIN)/python -m pytest tests/ --slow=all $(PYTEST_ARGS)

test-external: $(READY)  ## the tests that need programs or data no Python package carries, as far as they are here
	@$(BIN)/python -m pytest tests/ --slow=all -m external $(PYTEST_ARGS)

durations: $(READY)  ## run all slow tests and store how long they take: by that they are dealt to the slices of make test
	@$(BIN)/python -m pytest tests/ --slow=all -m 'slow and not external' --store-durations $(PYTEST_ARGS)

fuzz: $(READY)  ## run FUZZ random networks and ONNX nodes, 2000 unless given, and FUZZ_TORCH models of PyTorch, 20000 unless given (SCHEDULER=ADDRESS: these by a Dask cluster)
	@HEEPGEN_FUZZ=$(FUZZ) $(BIN)/python -m pytest tests/test_random_dags.py -k numpy --slow=all -q $(PYTEST_ARGS)
	@$(BIN)/python -m tests.fuzz_torch $(FUZZ_TORCH) $(if $(SCHEDULER),--scheduler $(SCHEDULER))
	@HEEPGEN_FUZZ=$(or $(FUZZ),2000) $(BIN)/python -m pytest tests/test_onnx_conformance.py -k random --slow=all -q $(PYTEST_ARGS)

mutate: $(READY)  ## how many of 300 small changes to the sources no near test notices (MUTATE_ARGS: see --help); hours, resumable
	@$(BIN)/python -m tests.mutate $(MUTATE_ARGS)

arithmetic: $(READY)  ## 10^8 vectors per arithmetic unit against the host, into docs (ARITHMETIC_ARGS: see --help)
	@$(BIN)/python -m gen.documents.arithmetic $(ARITHMETIC_ARGS)
	@$(BIN)/python -m gen.documents.docs

fuzz-files: $(READY)  ## read FUZZ damaged files, 100000 unless given, by MINUTES at a time (a later run goes on)
	@$(BIN)/python tests/fuzz_files.py --count $(or $(FUZZ),100000) $(if $(MINUTES),--minutes $(MINUTES))

campaign: $(READY)  ## run CAMPAIGN broken descriptor lists, 20000 unless given, write docs/reliability.md
	@$(BIN)/python -m tests.campaign --lists $(or $(CAMPAIGN),20000) --json build/campaign.jsonl --docs docs

bench: $(READY)  ## measure the example networks, write docs/performance.md (BENCH_ARGS: see --help)
	@$(BIN)/python -m examples.bench $(BENCH_ARGS)

cpu-cycles: $(READY)  ## measure what the loops of the CPU's kernels take, for heepgen estimate
	@$(BIN)/python -m examples.cpu_cycles

estimate-error: $(READY)  ## compare the quick estimate of heepgen explore with the cycle model; ESTIMATE_ARGS: networks, --points N
	@$(BIN)/python -m examples.estimate_error $(ESTIMATE_ARGS)

area: $(READY)  ## synthesise the accelerator, write docs/area.md; long at first, then only what changed
	@$(BIN)/python -m gen.documents.measured.area docs

energy: $(READY)  ## measure energies of MLPerf Tiny at gate level, write docs/energy.md (ENERGY_ARGS: see --help); long
	@$(BIN)/python -m examples.energy $(ENERGY_ARGS)

energy-model: $(READY)  ## measure what heepgen explore has energies from at gate level; long, much of it the first time only
	@$(BIN)/python -m examples.energy --model

energy-options: $(READY)  ## what options of a configuration change of cycles and energy, into docs/energy.md (ENERGY_ARGS: as --gates)
	@$(BIN)/python -m examples.energy --options $(ENERGY_ARGS)

ppa-units: $(READY)  ## synthesise the units that heepgen ppa and explore price configurations by; long, then only what changed
	@$(BIN)/python -m gen.documents.measured.unit_figures docs

ppa-cpu: $(READY)  ## map the CPU to 45 nm cells: what it takes while it sleeps, for heepgen ppa --model
	@$(BIN)/python -m gen.documents.measured.cpu

area-check: $(READY)  ## compare modelled area with synthesis, on ten random configurations (AREA_CHECK_ARGS: see --help); long
	@$(BIN)/python -m gen.documents.measured.area_check $(AREA_CHECK_ARGS)

formal: $(READY)  ## prove properties of the generated Verilog, write docs/proofs.md (FORMAL_ARGS: see --help)
	@$(BIN)/python -m tests.formal docs $(FORMAL_ARGS)

lint: $(READY)  ## check style and types of the sources
	@$(BIN)/ruff check . && $(BIN)/ruff format --quiet --check --diff . && $(BIN)/mypy --no-error-summary
	@$(BIN)/reuse lint --lines
	@$(BIN)/clang-format --dry-run --Werror $(CXX_SOURCES)

docs: $(READY)  ## write the generated documents again
	@$(BIN)/python -m gen.documents.docs
	@$(BIN)/python -m gen.documents.licences

site: $(READY)  ## build the documents as a site, into build/site
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --site-dir build/site
	@echo "build/site/index.html"

sbom: $(READY)  ## list everything installed in .venv with its licence, as CycloneDX in build/sbom.json
	@mkdir -p build
	@$(BIN)/cyclonedx-py environment --output-reproducible --of JSON -o build/sbom.json $(BIN)/python

clean:  ## remove what was generated here; finished builds in ~/.cache/heepgen stay
	rm -rf build .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info
	find waves -mindepth 1 ! -name README.md -delete
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean  ## and the virtual environment
	rm -rf $(VENV)
