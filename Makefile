# ingot: `make demo` shows an appliance boot, `make test` tests everything.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
export CGO_ENABLED ?= 0

SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
PACKAGES_DEMO := qemu-system-x86 ovmf swtpm
PACKAGES_TEST := $(PACKAGES_DEMO) qemu-system-arm qemu-efi-aarch64 qemu-utils gdisk fdisk dosfstools mtools binutils cpio \
	squashfs-tools erofs-utils cryptsetup-bin e2fsprogs docker-registry xz-utils zstd kmod systemd-boot-efi sbsigntool osslsigncode pesign efitools softhsm2 opensc openssl xorriso genisoimage bmap-tools \
	swtpm-tools tpm2-tools ipxe-qemu systemd python3-pefile lintian buildah curl \
	iproute2 dnsmasq-base isc-dhcp-relay isc-dhcp-client udhcpc ipxe ndisc6 tftp-hpa atftp busybox systemd-container podman runc
# What the servers need that bench downloads and starts without installing them.
PACKAGES_BENCH := libwrap0

help: ## show this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 17

build: init-binaries ## bin/ingot, carrying ingot-init for amd64 and arm64
	@go build -trimpath -ldflags "-s -w -buildid=" -o bin/ingot ./cmd/ingot

init-binaries: need-go
	@go run ./internal/initbin/generate

deb: build ## out/ingot_VERSION_ARCH.deb: the program and the service of ingot serve
	@packaging/deb.sh $$(go env GOARCH) out

demo: tools-demo build ## build examples/hello, boot it in QEMU, ask its service, power off
	@./examples/hello/demo.sh

test: tools-test build ## run everything: units, oracles, real boots
	INGOT_REQUIRE_TOOLS=1 go test -timeout 80m ./...

short: build ## the tests that boot nothing
	go test -short ./...

check: ## gofmt, vet, staticcheck, the house rules
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }
	go vet ./...
	go tool staticcheck ./...
	go test ./internal/house

docs: ## refresh the generated reference pages and schemas
	go test ./internal/recipe ./internal/machine ./internal/evidence ./internal/serve -update

locks: build ## let the locks of the examples pin this ingot-init
	@for f in examples/*/*.lock; do bin/ingot lock -f $${f%.lock}.yaml --update ingot; done

bench: tools-test tools-bench build ## measure; rewrites the tables in docs/benchmarks.md
	go run ./internal/bench

bench-reproduce: tools-test build ## make hello 100 times from nothing, count other bytes
	go run ./internal/bench -reproduce $(or $(REPEATS),100)

bench-powercut: tools-test build ## start 200 states that a power cut leaves of an update; writes docs/powercut.md
	go run ./internal/bench -powercut $(or $(STATES),200) -seed $(or $(SEED),1)

bench-kill: tools-test build ## kill machines that are being updated 300 times at random times, then switch a blessed one on 50 times
	go run ./internal/bench -kill $(or $(KILLS),300) -cycles $(or $(CYCLES),50) -seed $(or $(SEED),1)

bench-peers: tools-test tools-peers build ## the same beside gokrazy and mkosi (root, downloads)
	$(SUDO) env "PATH=$$PATH" go run ./internal/bench -peers

FUZZ_EXECS ?= 10000000

fuzz: ## mutate what hosts send: FUZZ_EXECS (10 million) event logs, a tenth of that for the rest
	@run() { echo "$$1 $$2 $$3"; nice -n 19 go test ./attest/$$1 -run '^$$' -fuzz "^$$2\$$" -fuzztime $${3}x -fuzzminimizetime 10x -parallel 1 || exit 1; }; \
	run eventlog FuzzParse $(FUZZ_EXECS); \
	for t in "quote FuzzParse" ". FuzzParseEvidence" ". FuzzVerify"; do run $$t $$(( $(FUZZ_EXECS) / 10 )); done

FUZZ_TIME ?= 10m

fuzz-netboot: ## mutate what machines send to ingot serve, FUZZ_TIME (10m) for each target
	@for t in "tftp FuzzParseRequest" "tftp FuzzSender" "tftp FuzzEvents" "dhcp FuzzParse" "dhcp FuzzPolicy" \
		"dhcp6 FuzzAnswer" "dhcp6 FuzzIsSolicitation" "dhcp6 FuzzParseIANA" "httpboot FuzzClean" "httpboot FuzzRange"; do \
		set -- $$t; echo "pxe/$$1 $$2"; nice -n 19 go test ./pxe/$$1 -run '^$$' -fuzz "^$$2\$$" -fuzztime $(FUZZ_TIME) -fuzzminimizetime 10x -parallel 1 || exit 1; \
	done

clean: ## remove what make made
	rm -rf bin out examples/*/out internal/initbin/bin/*.zst

need-go:
	@command -v go >/dev/null || { echo "ingot: the Go toolchain is missing: install package golang-go (1.26 or newer), or take it from https://go.dev/dl" >&2; exit 1; }

# Install the packages that are missing and say nothing when none is.
define install
	@missing=""; for p in $(1); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q "ok installed" || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then \
		command -v apt-get >/dev/null || { echo "ingot: missing packages:$$missing (install them with your package manager)" >&2; exit 1; }; \
		echo "ingot: installing$$missing" >&2; \
		{ $(SUDO) apt-get update -q && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $$missing; } >/tmp/ingot-apt.$$$$ 2>&1 \
			|| { tail -20 /tmp/ingot-apt.$$$$ >&2; echo "ingot: could not install:$$missing" >&2; exit 1; }; rm -f /tmp/ingot-apt.$$$$; \
	fi
endef

tools-demo:
	$(call install,$(PACKAGES_DEMO))

tools-test:
	$(call install,$(PACKAGES_TEST))

tools-bench:
	$(call install,$(PACKAGES_BENCH))

tools-peers:
	$(call install,debootstrap)

.PHONY: help build init-binaries deb demo test short check docs locks bench bench-reproduce bench-powercut bench-kill bench-peers fuzz fuzz-netboot clean tools-demo tools-test tools-bench tools-peers need-go
