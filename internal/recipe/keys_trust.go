package recipe

import "github.com/ingot-os/ingot/internal/strictyaml"

// certForms is how the certificates of firmware may be written.
const certForms = " PEM, DER or an EFI signature list."

var trustKeys = []strictyaml.Key{
	{Path: "trust", Any: []string{"keys", "pk", "image"}, Also: []string{"secureboot", "secure_boot", "secure-boot", "certs"},
		Doc: "Public keys that go into the image: what firmware enrols for Secure Boot, whose signatures on releases count, the authorities of the management connections. The lock pins every file; one that holds a private key is refused.",
		Example: `trust:
  keys: ./trust             # written by: ingot keys export`},
	{Path: "trust.keys", MinLen: 1, Also: []string{"dir", "directory", "path", "from"},
		Doc:     "Directory that `ingot keys export` has written; all keys come from it. The keys below name single files instead, which is needed only while a key is being replaced, or when keys come from somewhere else.",
		Example: "keys: ./trust"},
	{Path: "trust.pk", MinLen: 1, Without: "keys", Also: []string{"PK", "platform"},
		Doc: "Certificate of the platform key, which may change `pk` and `kek`. RSA with 2048 bits, like the next two." + certForms,
		Example: `pk: keys/PK.pem
kek: keys/KEK.pem
db: [keys/db.pem, keys/db-next.pem]`},
	{Path: "trust.kek", MinLen: 1, With: "pk", Without: "keys", Also: []string{"KEK"}, Doc: "Certificate of the key that may change `db`." + certForms, Example: "kek: keys/KEK.pem"},
	{Path: "trust.db", MinLen: 1, With: "pk", Without: "keys", Also: []string{"DB"}, Doc: "Certificates whose boot files the firmware starts: the old and the new one while a key is being replaced." + certForms, Example: "db: [keys/db.pem]"},
	{Path: "trust.db[]", MinLen: 1},
	{Path: "trust.owner", With: "pk", Pattern: `^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`, Expect: "a GUID such as 11223344-5566-4788-99aa-bbccddeeff00", Default: "derived from the platform key",
		Doc: "Owner in the signature lists that firmware gets. The TPM measures it, so keep what is enrolled.", Example: "owner: 11223344-5566-4788-99aa-bbccddeeff00"},
	{Path: "trust.image", MinLen: 1, Without: "keys", Also: []string{"images", "release"},
		Doc: "Public keys whose signatures on a release count: Ed25519, P-256 or RSA.", Example: "image: [keys/release-1.pem, keys/release-2.pem]"},
	{Path: "trust.image[]", MinLen: 1},
	{Path: "trust.threshold", Min: 1, Max: 100, Default: "1", Also: []string{"signatures", "quorum"}, Doc: "How many different ones of the image keys must have signed a release.", Example: "threshold: 2"},
	{Path: "trust.fleet", MinLen: 1, Without: "keys", Doc: "Certificate of the root of the management connections.", Example: "fleet: keys/fleet.pem"},
	{Path: "trust.operator", MinLen: 1, Without: "keys", Also: []string{"operators", "admin"}, Doc: "Certificate of the authority of operators: who shows a certificate by it may update the machine (`ingot update`). Without it nobody may.", Example: "operator: keys/operator.pem"},
	{Path: "trust.server", MinLen: 1, Without: "keys", Also: []string{"servers", "ca"}, Doc: "Certificates of the authorities that issue those of servers; never of a server itself.", Example: "server: [keys/server.pem]"},
	{Path: "trust.server[]", MinLen: 1},
	{Path: "trust.policy", MinLen: 1, Without: "keys", Also: []string{"pcr"}, Doc: "Public key, RSA, of the signatures that let a TPM unseal a data key.", Example: "policy: keys/policy.pem"},
}

var scanKeys = []strictyaml.Key{
	{Path: "scan", Also: []string{"vulnerabilities", "cve"},
		Doc: "Which known vulnerabilities `ingot scan` accepts. Without it every finding fails. It has no part in the image: a changed waiver needs neither a new lock nor a new build.",
		Example: `scan:
  threshold: high
  waivers:
    - id: CVE-2026-1000
      package: linux
      reason: the driver is not among our modules
      expires: 2026-12-31`},
	{Path: "scan.threshold", Enum: []string{"low", "medium", "high", "critical"}, Means: map[string]string{"moderate": "medium"}, Default: "every finding fails", Also: []string{"severity", "level"},
		Doc: "Lowest severity that fails: CVSS, or the urgency that Debian gives.", Example: "threshold: high"},
	{Path: "scan.acceptUnrated", Default: "false", Also: []string{"accept_unrated", "accept-unrated", "unrated"}, Doc: "Findings that nobody has rated do not fail.", Example: "acceptUnrated: true"},
	{Path: "scan.acceptUnfixed", Default: "false", Also: []string{"accept_unfixed", "accept-unfixed", "unfixed", "ignoreUnfixed"}, Doc: "Findings for which no fixed version exists do not fail.", Example: "acceptUnfixed: true"},
	{Path: "scan.waivers", Also: []string{"ignore", "exceptions", "allow"}, Doc: "Vulnerabilities that are accepted one by one, each for a reason and until a day.", Example: "waivers:\n  - {id: CVE-2026-1000, reason: not reachable, expires: 2026-12-31}"},
	{Path: "scan.waivers[].id", Required: true, Pattern: `^[A-Za-z0-9][A-Za-z0-9._:-]{2,99}$`, Expect: "a name such as CVE-2026-1000 or GO-2026-0001", Also: []string{"cve", "name"}, Doc: "Name of the vulnerability, any of those that the database gives it.", Example: "id: CVE-2026-1000"},
	{Path: "scan.waivers[].package", MinLen: 1, Default: "any", Also: []string{"source", "module"}, Doc: "Debian source package or Go module it is accepted for.", Example: "package: linux"},
	{Path: "scan.waivers[].reason", Required: true, MinLen: 1, Pattern: `...`, Expect: "a few words", Also: []string{"why", "because", "comment"}, Doc: "Why it does no harm here.", Example: "reason: the driver is not among our modules"},
	{Path: "scan.waivers[].expires", Required: true, Pattern: `^[0-9]{4}-[0-9]{2}-[0-9]{2}$`, Expect: "a day such as 2026-12-31", Also: []string{"until", "expiry"}, Doc: "Last day on which it holds, in UTC.", Example: "expires: 2026-12-31"},
}
