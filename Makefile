# Supported targets are those that `make help` lists.
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' ipvsd/__init__.py)
SOURCE_DATE_EPOCH ?= $(shell git log -1 --pretty=%ct 2>/dev/null || date +%s)
export SOURCE_DATE_EPOCH

DEB := dist/ipvsd_$(VERSION)_all.deb
RPM := dist/ipvsd-$(VERSION)-1.noarch.rpm
# The programs of the distribution, whatever the caller's PATH is.
SYSTEM_PATH := /usr/sbin:/usr/bin:/sbin:/bin
BIN := .venv/bin
BUILD_PACKAGES := build-essential debhelper dh-python pybuild-plugin-pyproject python3-all python3-setuptools scdoc
RPM_PACKAGES := rpm scdoc python3-yaml
BENCH_PACKAGES := qemu-system-x86 mmdebstrap e2fsprogs fakeroot kmod uidmap
# For a real kube-proxy, which is built from Debian's source.
KUBE_PROXY_PACKAGES := golang-1.19-go dpkg-dev
TEST_PACKAGES := $(BUILD_PACKAGES) $(RPM_PACKAGES) $(BENCH_PACKAGES) $(KUBE_PROXY_PACKAGES) python3-venv lintian rpmlint shellcheck faketime \
    man-db systemd iproute2 procps openssl
# The package needs systemd, and init scripts are obsolete.
NO_INIT_SCRIPT := package-supports-alternative-init-but-no-init.d-script
# Two machines at a time, because each keeps one of two cores busy.
JOBS ?= 2
MACHINES := -n $(JOBS) --dist loadfile --no-loadscope-reorder
# The number of generated module trees and configuration directories for the differential tests.
BREADTH ?= 500
# In addition to 6.1, which every other target boots. $IPVSD_VM_KERNEL selects one for `make vm`.
KERNELS ?= 5.10 6.12 7.2
KERNEL_TESTS := $(addprefix tests/vm/test_,boot.py drift.py kernel.py writers.py rivals.py kube_proxy.py)
# A separate network with its own /proc/sys/net. Without root, it needs a user namespace.
NAMESPACE := IPVSD_NAMESPACE=1 unshare --net --mount $(if $(filter-out 0,$(shell id -u)),--map-root-user)

# The tests of make check: those without a mark.
QUICK := not (system or vm or namespace or packaging or differential or full)

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|'

# mypy runs beside the tests, because it takes long after a change of many modules. No $(MAKE) here: with it, `make -n`
# would run the tests.
check: $(BIN)/.ready  ## run linters, type checks and quick tests; no root, under 20 s
	$(BIN)/ruff check -q .
	$(BIN)/ruff format -q --check .
	@{ $(BIN)/mypy --no-error-summary && $(BIN)/lint-imports --no-cache; } >build/linters.txt 2>&1 & linters=$$!; \
	$(BIN)/python -m pytest -q -n $(JOBS) -m '$(QUICK)' tests; tests=$$?; \
	wait $$linters || { cat build/linters.txt; exit 1; }; \
	exit $$tests

test:  ## run all tests except those of test-full; virtual machines with Linux 6.1; half an hour
	@$(MAKE) --no-print-directory packages WANTED="$(TEST_PACKAGES)"
	@$(MAKE) --no-print-directory $(BIN)/.ready
	@$(MAKE) --no-print-directory -j 2 --output-sync=line test-without-machines bench-images
	$(NAMESPACE) $(BIN)/python -m pytest -q -m namespace tests/namespace
	$(BIN)/python -m pytest $(MACHINES) --durations 10 -m 'vm$(if $(IPVSD_FULL),, and not full)' tests/vm

test-without-machines:
	$(MAKE) --no-print-directory check
	$(BIN)/python -m pytest -q -n $(JOBS) -m 'system and not full' tests
	$(MAKE) --no-print-directory deb rpm
	$(MAKE) --no-print-directory lint-packages
	$(SIGNCHECK) --rehearse
	IPVSD_BREADTH=$(BREADTH) $(BIN)/python -m pytest -q -n $(JOBS) -m differential tests/differential
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile -m packaging --ignore tests/packaging/test_readme.py \
	    --ignore tests/packaging/test_lintian.py tests/packaging

# Runs in parallel with the tests without machines, at a lower priority. Most of it waits for a mirror and one compiler.
bench-images:
	@$(PYTHON_SYSTEM) -m tests.vm.image >/dev/null
	@nice env $(PYTHON_SYSTEM) -m tests.vm.kubeproxy >/dev/null

# Without IPVSD_FUZZ the same tests try a few inputs, in `make check`.
fuzz: $(BIN)/.ready  ## test every parser with random and damaged inputs; ten minutes, or IPVSD_FUZZ=SECONDS
	IPVSD_FUZZ=$${IPVSD_FUZZ:-600} $(BIN)/python -m pytest -q -n $(JOBS) tests/fuzz

# With both, each test repeats its tries more often.
test-full kernels: export IPVSD_FULL = 1

test-full:  ## run all tests: more generated cases, every kernel, every platform; hours
	$(MAKE) --no-print-directory test BREADTH=10000
	$(BIN)/python -m pytest -q -m 'full and not (vm or namespace or packaging or differential)' tests
	$(MAKE) --no-print-directory fuzz
	$(MAKE) --no-print-directory faults
	$(MAKE) --no-print-directory kernels
	$(MAKE) --no-print-directory test-matrix

kernels: $(DEB) $(BIN)/.ready  ## run the kernel-dependent tests on Linux 5.10, 6.12 and 7.2
	@$(MAKE) --no-print-directory packages WANTED="$(BENCH_PACKAGES) $(KUBE_PROXY_PACKAGES)"
	@$(PYTHON_SYSTEM) -m tests.vm.kubeproxy
	@failed=; for kernel in $(KERNELS); do \
	    export IPVSD_VM_KERNEL=$$kernel; \
	    $(PYTHON_SYSTEM) -m tests.vm.image && \
	    $(BIN)/python -m pytest $(MACHINES) -m vm $(KERNEL_TESTS) || failed="$$failed $$kernel"; \
	done; \
	[ -z "$$failed" ] || { echo "failed with kernel$$failed"; exit 1; }

# mkosi creates a repository with the .deb by means of reprepro.
test-matrix: $(DEB) $(RPM) $(BIN)/.ready  ## test the packages on every platform; write docs/platforms.md; an hour
	@$(MAKE) --no-print-directory packages WANTED="$(TEST_PACKAGES) reprepro"
	$(BIN)/python -m tests.vm.matrix --jobs $(JOBS) docs/platforms.md

demo:  ## boot a virtual machine and show how ipvsd repairs it
	@$(MAKE) --no-print-directory packages WANTED="$(BUILD_PACKAGES) $(BENCH_PACKAGES)"
	@$(MAKE) --no-print-directory deb
	@$(PYTHON_SYSTEM) -m tests.vm.demo

vm: $(DEB)  ## open a shell in a virtual machine with the package installed
	@$(MAKE) --no-print-directory packages WANTED="$(BENCH_PACKAGES)"
	@$(PYTHON_SYSTEM) -m tests.vm.shell

tables: $(BIN)/.ready  ## write the tables in the documents that repeat declarations of the code
	@$(BIN)/python -m tests.tables

# The SDK is only in this environment, because nothing else needs it. It requires Python 3.11.
dashboard:  ## build the Grafana dashboard in packaging/monitoring
	@$(MAKE) --no-print-directory packages WANTED="python3-venv"
	@$(PYTHON_SYSTEM) -m venv build/dashboard
	@build/dashboard/bin/python -m pip -q --disable-pip-version-check install --retries 5 --no-deps --require-hashes \
	    --only-binary :all: -r $(DASHBOARD_LOCK)
	@build/dashboard/bin/python packaging/dashboard.py

attack: $(BIN)/.ready  ## attack the HTTP endpoint of a daemon, and print the cost for it; five minutes
	@$(MAKE) --no-print-directory packages WANTED="openssl"
	@$(BIN)/python -m tests.attack

faults: $(BIN)/.ready  ## make each system call of a running daemon fail, and print a table; half an hour
	@$(MAKE) --no-print-directory packages WANTED="linux-libc-dev iproute2"
	@$(NAMESPACE) $(BIN)/python -m tests.faults

mutation: $(BIN)/.ready  ## add small faults to the pure packages, and print how many the tests detect; ten minutes
	@nice $(BIN)/python -m tests.mutation -m '$(QUICK)'

bench: $(DEB) $(BIN)/.ready  ## measure performance; write docs/benchmarks.md; half an hour
	@$(MAKE) --no-print-directory packages WANTED="$(BENCH_PACKAGES)"
	@PATH=$(SYSTEM_PATH) PYTHONDONTWRITEBYTECODE=1 $(BIN)/python -m tests.vm.bench docs

# No bound depends on the speed of the computer, but a reconciliation must take less than 20 s.
soak: $(DEB) $(BIN)/.ready  ## disturb a machine in many ways, and account for every drift; an hour, or SECONDS=180
	@$(MAKE) --no-print-directory packages WANTED="$(BENCH_PACKAGES)"
	@PATH=$(SYSTEM_PATH) PYTHONDONTWRITEBYTECODE=1 $(BIN)/python -m tests.vm.soak $(or $(SECONDS),3600)

deb: $(DEB)  ## build dist/ipvsd_VERSION_all.deb

rpm: $(RPM)  ## build dist/ipvsd-VERSION-1.noarch.rpm with bundled libraries, and one without

dist: $(BIN)/.ready  ## build the release files: source, packages, bill of materials, sums
	@$(MAKE) --no-print-directory packages WANTED="$(BUILD_PACKAGES) $(RPM_PACKAGES)"
	@$(BUILD) dist

sign-check: $(BIN)/.ready  ## check dist/ before signing: reproducibility, sums, versions, changelog, tag
	@$(MAKE) --no-print-directory packages WANTED="$(BUILD_PACKAGES) $(RPM_PACKAGES)"
	@$(SIGNCHECK)

clean:  ## remove build results, but not the bench's cache
	rm -rf build dist .venv .mypy_cache .pytest_cache .ruff_cache

PYTHON_SYSTEM := PATH=$(SYSTEM_PATH) PYTHONDONTWRITEBYTECODE=1 python3
# Builds in a copy of the tree, to leave nothing in it. pip provides the libraries that the .rpm bundles.
BUILD := PIP=$(CURDIR)/$(BIN)/pip $(PYTHON_SYSTEM) packaging/build.py
SIGNCHECK := PIP=$(CURDIR)/$(BIN)/pip $(PYTHON_SYSTEM) packaging/signcheck.py
PACKAGED := $(shell find ipvsd systemd packaging docs -type f -not -path '*/__pycache__/*') \
    CHANGELOG.md LICENSE README.md SECURITY.md pyproject.toml Makefile

$(DEB): $(PACKAGED)
	@$(MAKE) --no-print-directory packages WANTED="$(BUILD_PACKAGES)"
	@$(BUILD) deb

$(RPM): $(PACKAGED) | $(BIN)/.ready
	@$(MAKE) --no-print-directory packages WANTED="$(RPM_PACKAGES)"
	@$(BUILD) rpm

# Runs lintian, rpmlint, and shellcheck on every packaged script.
# Every line of lintian is a failure. --fail-on would also count overridden tags.
lint-packages:
	@found=$$(PATH=$(SYSTEM_PATH) lintian -EI --pedantic --suppress-tags $(NO_INIT_SCRIPT) dist/*.deb 2>&1) && \
	    found=$$(echo "$$found" | grep -v '^running with root privileges'); \
	    [ -z "$$found" ] || { echo "$$found"; exit 1; }
	PATH=$(SYSTEM_PATH) rpmlint --strict -r packaging/rpm/ipvsd.rpmlintrc dist/*.rpm build/rpm/SPECS/ipvsd.spec
	PATH=$(SYSTEM_PATH) systemd-analyze security --offline=true --threshold=30 systemd/*.service >/dev/null
	rm -rf build/control && dpkg-deb --control dist/*.deb build/control
	shellcheck build/control/p* packaging/hooks/* packaging/completion/ipvsd \
	    packaging/debian/tests/commands packaging/debian/tests/daemon

# Installs the missing packages of $(WANTED) and prints their names. It never changes package sources.
packages:
	@mkdir -p build; missing=$$(for name in $(WANTED); do \
	    dpkg-query -W -f '$${Status}' $$name 2>/dev/null | grep -q 'ok installed' || echo $$name; done); \
	[ -z "$$missing" ] && exit 0; \
	echo "installing with apt:" $$missing; \
	sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	export DEBIAN_FRONTEND=noninteractive; \
	$$sudo apt-get -q -o Acquire::Retries=5 update >/dev/null && \
	$$sudo apt-get -q -o Acquire::Retries=5 install -y --no-install-recommends $$missing >build/apt.log 2>&1 \
	|| { tail -n 20 build/apt.log; echo "cannot install: $$missing"; exit 1; }

# Installs only locked versions, by hash. The build back end is first, because pip would download another one for an sdist.
PIP_INSTALL := $(BIN)/python -m pip -q --disable-pip-version-check install --retries 5 --no-build-isolation --no-deps
DASHBOARD_LOCK := packaging/lock/dashboard.txt
UV_LOCK := packaging/lock/uv.txt
$(BIN)/.ready: pyproject.toml $(filter-out $(DASHBOARD_LOCK) $(UV_LOCK),$(wildcard packaging/lock/*.txt))
	@mkdir -p build
	@$(MAKE) --no-print-directory packages WANTED="python3-venv"
	@echo "installing the development tools into .venv"
	@rm -rf .venv && $(PYTHON_SYSTEM) -m venv .venv
	@$(PIP_INSTALL) --require-hashes --only-binary :all: -r packaging/lock/build.txt
	@$(PIP_INSTALL) --require-hashes -r packaging/lock/dev.txt
	@$(PIP_INSTALL) --require-hashes -r packaging/lock/mutation.txt
	@$(PIP_INSTALL) -e .
	@touch $@

# uv resolves for every interpreter at once. `fewest` selects versions that run on Python 3.9 everywhere. mypy checks for
# 3.9, so it has to parse everything that the package and its tests import.
LOCK := build/uv/bin/uv pip compile -q --universal --python-version 3.9 --fork-strategy fewest --upgrade \
    --generate-hashes --no-annotate --custom-compile-command 'make lock'
lock:  ## renew the locked versions of the development tools in packaging/lock
	@$(MAKE) --no-print-directory packages WANTED="python3-venv"
	@$(PYTHON_SYSTEM) -m venv build/uv
	@build/uv/bin/pip -q --disable-pip-version-check install --require-hashes --only-binary :all: -r $(UV_LOCK)
	$(LOCK) --group build -o packaging/lock/build.txt
	$(LOCK) --group bookworm --group test -o packaging/lock/dev.txt
	$(LOCK) --group mutation --no-deps -o packaging/lock/mutation.txt
	$(LOCK) --group dashboard --no-deps -o $(DASHBOARD_LOCK)
	$(LOCK) --group lock --no-deps -o $(UV_LOCK)

.PHONY: help check test test-without-machines bench-images test-full kernels test-matrix \
    fuzz faults mutation attack bench soak demo vm \
    tables dashboard deb rpm dist sign-check lint-packages \
    clean lock packages
