package recipe

import "github.com/ingot-os/ingot/internal/strictyaml"

var attestKeys = []strictyaml.Key{
	{Path: "attest", Also: []string{"attestation", "tpm"},
		Doc: "Prove to a server, by the machine's TPM, which image has booted: [attestation.md](attestation.md). Needs the authority of the server in `trust`. `attest: {}` waits for an address from machine.yaml or DHCP.",
		Example: `attest:
  server: https://ingot.example.com:9444
trust: {keys: ./trust}`},
	{Path: "attest.server", MinLen: 1, Also: []string{"url", "address"},
		Doc:     "Base address of `ingot attest serve`, used when neither machine.yaml nor DHCP names one. The address itself is not trusted: TLS is checked against `trust.server`.",
		Example: "server: https://ingot.example.com:9444"},
	{Path: "attest.interval", Default: "1m", Also: []string{"every", "period"}, Doc: "Time between two proofs, 1s to 24h. The server may ask for another. A host that is silent for three of them is `unknown`.", Example: "interval: 30s"},
	{Path: "securityEpoch", Min: 0, Max: 63, Default: "0", Also: []string{"security_epoch", "security-epoch", "floor"},
		Doc:     "Raised by one in a release that closes a hole which no machine may fall back behind. Once a machine has accepted such a release, older ones are refused: by its data key, by updates and by the verifier.",
		Example: "securityEpoch: 1"},
}
