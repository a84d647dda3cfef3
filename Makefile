# Two commands do everything on a fresh Debian or Ubuntu: make demo, make test.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
export PATH := $(HOME)/.cargo/bin:$(PATH)
TOOLS := tests/tools

.PHONY: help setup build demo demo-clean pictures test test-full test-ticks lint hostile-hour deny fuzz bench bench-backup bench-maintenance bench-samples day-of-faults docs dist setup-packages deb rpm lint-packages test-packages test-pages test-weekend clean

help: ## List the targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: ## Install what is missing: compiler, build needs, PostgreSQL, test servers.
	@$(TOOLS)/setup.sh

build: setup ## Build the program.
	cargo build

demo: build ## Run the whole program on a scratch PostgreSQL, then say what to look at.
	@$(TOOLS)/demo.sh run

demo-clean: ## Remove everything the demo left.
	@$(TOOLS)/demo.sh clean

pictures: demo ## Draw the demo's mails, reports and terminals with Chromium: PNG, light and dark, wide and narrow, in target/pictures.
	$(TOOLS)/terminals.sh /tmp/pgbosun-demo/bin/pgbosun /tmp/pgbosun-demo/demo/pgbosun.toml target/pictures/terminals
	$(TOOLS)/pictures.py target/pictures /tmp/pgbosun-demo/demo/mail/*.eml /tmp/pgbosun-demo/demo/*.html target/pictures/terminals/*.ansi

test: setup ## Run every test on PostgreSQL 15, and those of monitors on 17 too.
	$(TOOLS)/test.sh

test-full: setup ## Run every test on every supported version of PostgreSQL.
	PGBOSUN_TEST_VERSIONS="15 16 17 18" PGBOSUN_TEST_STEPS=200 PGBOSUN_TEST_SEED=$$(date +%s) $(TOOLS)/test.sh

test-ticks: setup ## Run tests of 15 with the clock a moment before minute, hour, day and month begin (needs faketime).
	$(TOOLS)/test.sh --ticks

lint: setup ## Check format and lints, that the page of rules is up to date, and that Cargo.toml names the compiler that is needed.
	$(TOOLS)/rules.py --check
	$(TOOLS)/rust-version.sh
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	$(TOOLS)/deny.sh --if-there

hostile-hour: setup ## Live for an hour under hostile input from everywhere at once (the suite does it for a minute).
	PGBOSUN_HOSTILE_SECONDS=3600 $(TOOLS)/test.sh --hour

deny: ## Check dependencies: bans, licences, sources, and with ADVISORIES=DIR known vulnerabilities (needs cargo-deny).
	$(TOOLS)/deny.sh $(ADVISORIES)

fuzz: setup ## Try every parser of what others write for ten minutes (SECONDS=600), with cargo-fuzz where there is a nightly compiler.
	$(TOOLS)/fuzz.sh $(or $(SECONDS),600)

bench: setup ## Measure trigger latency, idle cost, journal speed and what monitors cost; docs/benchmarks.md has the numbers.
	cargo bench -p pgbosun-daemon --bench schedule
	cargo build --release
	$(TOOLS)/bench-server.sh monitors

bench-backup: setup ## Measure backup, restore and WAL beside pg_basebackup and pgBackRest, on PostgreSQL 17.
	cargo build --release
	$(TOOLS)/bench-backup.sh

bench-maintenance: setup ## Measure maintenance beside vacuumdb and reindexdb on a bloated server, with pgbench beside both.
	cargo build --release
	$(TOOLS)/bench-server.sh maintenance

bench-samples: setup ## Simulate a week of samples of 5,000 tables and statements; size, cost, and how long reports take.
	cargo build --release
	$(TOOLS)/bench-server.sh samples

day-of-faults: setup ## Live through a day of faults with the clock moved on, and write docs/day-of-faults.md.
	$(TOOLS)/test.sh --day

docs: ## Write docs/configuration.md, docs/monitors.md and docs/samples.md, and the lists in docs/correctness.md, anew from the code.
	cargo run -q -- config reference --markdown > docs/configuration.md
	cargo run -q -- config reference --monitors > docs/monitors.md
	cargo run -q -- config reference --samples > docs/samples.md
	$(TOOLS)/rules.py

dist: setup ## Build the program for distribution, with LTO and without symbols.
	cargo build --profile dist

setup-packages:
	@$(TOOLS)/setup.sh packages

deb: setup-packages ## Build the Debian package in target/debian (PROFILE=dev is quicker, and no release).
	packaging/build.sh deb

rpm: setup-packages ## Build the RPM package in target/generate-rpm (PROFILE=dev is quicker, and no release).
	packaging/build.sh rpm

lint-packages: deb rpm ## Build both packages, and check them with lintian and rpmlint.
	packaging/lint.sh

test-packages: setup-packages ## Install, upgrade, remove and purge both packages in booted Debian 12 and 13 (needs root).
	$(TOOLS)/package-test.sh

test-pages: setup-packages ## Run the commands of the pages in docs/ to the letter, in a booted Debian 12 with the package (needs root).
	cargo build
	$(TOOLS)/pages.sh

test-weekend: setup ## Live through the weekend of docs/weekend.md under the installed unit, with failures in it (needs root).
	cargo build
	$(TOOLS)/weekend.sh

clean: demo-clean ## Remove what was built.
	cargo clean
