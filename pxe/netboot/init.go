package netboot

// InitClass is the vendor class (option 60) of ingot-init's own DHCP requests: a
// Client with Init.
const InitClass = "ingot"

// Codes of what a server tells such a client in option 43 (RFC 2132 section 8.4):
// code, length, text.
const (
	// InitServer is the base URL of the attestation server: https://192.0.2.1:8443.
	InitServer = 1
	// InitBoot is the base URL that root/DIGEST and boot/... are below: what the HTTP
	// boot of firmware has, http://192.0.2.1:8080. Plain HTTP will do: the machine knows
	// the digest.
	InitBoot = 2
)
