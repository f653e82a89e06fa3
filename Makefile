# Needs git, make and Python 3.10 or newer; the targets install everything else.
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
# The folder of the real engines for tests, and the versions to download.
export ENGINES ?= $(CURDIR)/.engines
FLINK ?= 1.19.3
PRISM_VERSION ?= v2.77.0
# Separate environments: one that launches on Dataflow, and one with Beam only, like a worker.
LAUNCH := $(VENV)-dataflow
WORKER := $(VENV)-worker

.PHONY: demo test test-slow test-pages test-prism test-flink test-dataflow test-packages soak lint docs package \
    bench format engines kafka java prism clean

demo: $(VENV)/demo.installed  ## train on the shipped series, stream them, show the results
	$(PY) -m pipelines.demo

test: $(VENV)/dev.installed  ## run the tests
	$(PY) -m pytest -n auto

test-slow: $(VENV)/dev.installed  ## run the slow tests, which take minutes
	$(PY) -m pytest -m slow

test-pages: $(VENV)/dev.installed  ## run the examples of the README, the docs and the demo
	$(PY) -m pytest -m pages -n auto

test-prism: $(VENV)/dev.installed  ## run the tests on Prism, with Kafka and in Java: needs Go, Java and mvn
	@if command -v go >/dev/null; then $(MAKE) --no-print-directory prism; fi
	@if command -v mvn >/dev/null; then $(MAKE) --no-print-directory kafka java; fi
	$(PY) -m pytest -m "(prism or java) and not slow" -n auto --dist loadfile

test-flink: $(VENV)/dev.installed  ## run the tests on a Flink cluster with a Kafka broker: needs Java and mvn
	@if command -v mvn >/dev/null; then $(MAKE) --no-print-directory engines; fi
	$(PY) -m pytest -m "flink and not soak" --durations=0

soak: $(VENV)/dev.installed engines  ## kill a TaskManager in ten runs, then run a load for twenty minutes
	$(PY) -m pytest -m soak -s
	$(PY) -m benchmarks.soak --json benchmarks/soak.json

test-dataflow: $(LAUNCH)/installed  ## test the Dataflow graphs of all pipelines, without an account
	$(LAUNCH)/bin/python -m pytest -m dataflow tests/engines/test_dataflow.py

test-packages: $(LAUNCH)/installed $(WORKER)/installed  ## test how workers install the package: needs Go
	@if command -v go >/dev/null; then $(MAKE) --no-print-directory prism $(ENGINES)/boot; fi
	WORKER=$(abspath $(WORKER)) $(LAUNCH)/bin/python -m pytest -m packages tests/engines/test_packages.py

lint: $(VENV)/dev.installed  ## run the formatter check, the linter and the type checker
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

docs: $(VENV)/dev.installed  ## build the guide as a site in site/; a broken link is an error
	$(PY) -m deploy.site
	$(VENV)/bin/zensical build --strict --clean

package: $(VENV)/dev.installed  ## build the sdist and the wheel in dist/, and check them
	rm -rf dist
	$(PY) -m build --quiet --outdir dist .
	$(PY) -m twine check --strict dist/*
	$(VENV)/bin/check-wheel-contents dist/*.whl

bench: $(VENV)/bench.installed  ## run the benchmarks; installs PyTorch and ONNX Runtime
	$(PY) -m benchmarks.accuracy --json benchmarks/accuracy.json
	$(PY) -m benchmarks.gate --json benchmarks/gate.json
	$(PY) -m benchmarks.kernels --json benchmarks/kernels.json
	$(PY) -m benchmarks.nab --json benchmarks/nab.json
	$(PY) -m benchmarks.online --json benchmarks/online.json
	$(PY) -m benchmarks.prequential --json benchmarks/prequential.json
	$(PY) -m benchmarks.state --json benchmarks/state.json
	$(PY) -m benchmarks.per_key --json benchmarks/per_key.json
	$(PY) -m benchmarks.smoothing --json benchmarks/smoothing.json
	$(PY) -m benchmarks.training --json benchmarks/training.json

format: $(VENV)/dev.installed  ## format the code and fix lint errors
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

engines: $(ENGINES)/job-server.jar $(ENGINES)/flink $(ENGINES)/broker $(ENGINES)/kafka-io

kafka: $(ENGINES)/broker $(ENGINES)/kafka-io  ## download a Kafka broker and Beam's Kafka transforms

java: $(ENGINES)/arrow $(ENGINES)/jdbc-io  ## download Arrow's Java library and Beam's SQL transforms

prism: $(ENGINES)/prism  ## install Prism, Beam's runner in Go

$(ENGINES)/job-server.jar: deploy/local/job-server.xml
	mvn -B -q -f $< package -Dto=$(ENGINES)/job-server

$(ENGINES)/broker $(ENGINES)/kafka-io $(ENGINES)/arrow $(ENGINES)/jdbc-io: $(ENGINES)/%: deploy/local/%.xml
	mvn -B -q -f $< dependency:copy-dependencies -DoutputDirectory=$@
	@touch $@

# PyFlink's source archive contains the jars of a whole cluster.
$(ENGINES)/flink: | $(PY)
	@mkdir -p $@.part
	$(PY) -m pip download --quiet --no-deps --no-binary :all: --dest $@.part \
	    apache-flink-libraries==$(FLINK)
	tar xzf $@.part/*.tar.gz -C $@.part --strip-components=3 --wildcards '*/deps/lib/*'
	rm $@.part/*.tar.gz
	rm -f $@.part/flink-table-* $@.part/flink-scala_* $@.part/flink-cep-*
	mv $@.part $@

$(ENGINES)/prism:
	GOBIN=$(ENGINES) go install github.com/apache/beam/sdks/v2/go/cmd/prism@$(PRISM_VERSION)

# The program that starts a worker in Beam's images: it installs the staged packages.
$(ENGINES)/boot:
	GOBIN=$(ENGINES) go install github.com/apache/beam/sdks/v2/python/container@$(PRISM_VERSION)
	mv $(ENGINES)/container $@

clean:
	rm -rf $(VENV) $(LAUNCH) $(WORKER) $(ENGINES) demo_output dist build site

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo "Python 3.10 or newer is required, $(PYTHON) is $$($(PYTHON) --version 2>&1):" \
	      "choose another one with make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip

$(VENV)/demo.installed: pyproject.toml | $(PY)
	$(PY) -m pip install --quiet --editable '.[plot]'
	@touch $@

$(VENV)/bench.installed: pyproject.toml | $(PY)
	$(PY) -m pip install --quiet --editable '.[fast,interop]' --group bench
	@touch $@

$(VENV)/dev.installed: pyproject.toml | $(PY)
	$(PY) -m pip install --quiet --editable '.[fast,plot,interop,music,yaml]' --group dev
	@touch $@

$(LAUNCH)/installed: pyproject.toml
	$(PYTHON) -m venv $(LAUNCH)
	$(LAUNCH)/bin/python -m pip install --quiet --upgrade pip
	$(LAUNCH)/bin/python -m pip install --quiet --editable '.[dataflow,music]' --group launch
	@touch $@

$(WORKER)/installed: pyproject.toml
	$(PYTHON) -m venv $(WORKER)
	$(WORKER)/bin/python -m pip install --quiet 'apache-beam>=2.77'
	@touch $@
