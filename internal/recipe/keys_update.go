package recipe

import "github.com/ingot-os/ingot/internal/strictyaml"

// What a trial needs to become good, by the key update.bless.
const (
	BlessHealth   = "health"   // checks that hold
	BlessAttested = "attested" // and the server's verdict
)

var updateKeys = []strictyaml.Key{
	{Path: "update", Also: []string{"updates", "upgrade", "ota"},
		Doc: "Take updates into the other slot, try each once, keep it when it is healthy and go back by itself when not: [updates.md](updates.md). A release needs signatures of `trust.image`. `update: {}` takes what operators push; without the key the machine keeps what was flashed.",
		Example: `update: {pull: true}
trust: {keys: ./trust}
attest: {server: "https://ingot.example.com:9444"}`},
	{Path: "update.pull", Default: "false", Also: []string{"follow", "auto", "automatic"}, Doc: "`true` follows what the server of `attest` assigns to the machine.", Example: "pull: true"},
	{Path: "update.interval", Default: "5m", Also: []string{"every", "period"}, Doc: "Time between two looks at the assignment, 1s to 24h. The server may ask for another.", Example: "interval: 1m"},
	{Path: "update.usb", Default: "false", Also: []string{"stick"}, Doc: "`true` takes a newer release from a stick that `ingot update --usb` has written, as soon as it is plugged in. The release's signatures count, not who holds the stick.", Example: "usb: true"},
	{Path: "update.bless", Enum: []string{BlessHealth, BlessAttested}, Default: BlessHealth, Also: []string{"commit", "good"},
		Means: map[string]string{"healthy": BlessHealth, "attest": BlessAttested, "attestation": BlessAttested},
		Doc:   "What a new version needs to become good: `health`, its checks; `attested`, the verdict of the server of `attest` too.", Example: "bless: attested"},
	{Path: "update.health", Default: "1m", Also: []string{"healthy", "stable"}, Doc: "Time for which all checks must hold without a gap, at least 1s.", Example: "health: 5m"},
	{Path: "update.limit", Default: "10m", Also: []string{"timeout", "deadline"}, Doc: "Time after which a version that is not good has failed, at most 24h.", Example: "limit: 20m"},
	{Path: "update.soak", Default: "1h", Doc: "Time of running after which the floor rises to the `securityEpoch` of a version that became good, at most 720h.", Example: "soak: 24h"},
	{Path: "update.patrol", Default: "24h", Also: []string{"scrub", "verify"}, Doc: "Time within which a running machine compares the slots that it knows the digests of, and their root partitions, with these, 1s to 720h. A slot that differs or cannot be read is no way back any more, and the server is told; it is written again by the next update, or when an operator sends its release once more.", Example: "patrol: 6h"},
	{Path: "update.tries", Min: 1, Max: 100, Default: "3", Also: []string{"attempts", "retries"}, Doc: "How often a version may fail with evidence until it is rejected.", Example: "tries: 1"},
	{Path: "update.watchdog", Default: "1m", Doc: "Time without a sign of life after which the hardware watchdog resets a machine that tries a new version, 10s to 10m.", Example: "watchdog: 30s"},
}
