// Package keys makes, keeps and uses the keys of a fleet: those that firmware
// enrols, the one that signs image sets, the one that signs TPM policies, and
// the authorities of the management connections.
//
// A key set is a folder with keys.json, an index that holds nothing secret, and
// for each key its certificate or public key in PEM. A private key is a PKCS #8
// PEM file of mode 0600 in the folder (a .gitignore there names them), or it is
// elsewhere and the index has its URI:
//
//	file:pk.key                                              relative to the folder
//	pkcs11:token=fleet;id=%01?module-path=M&pin-source=F    RFC 7512, through OpenSC's pkcs11-tool
//	exec:/usr/local/bin/sign-with-vault?key=fleet-db         any program; see the protocol below
//
// # Why programs
//
// A PKCS #11 module is a C library. Both Go bindings, miekg/pkcs11 and
// crypto11 above it, need cgo; purego loads it without cgo but makes the program
// dynamically linked (measured). ingot is one static program, so it runs another
// one for the few signatures that a release has: 13 ms each with SoftHSM.
//
// # Protocol of an exec: signer
//
//	PROGRAM public KEY          prints the public key, SubjectPublicKeyInfo in DER or PEM
//	PROGRAM sign KEY ALGORITHM  reads what to sign, prints the raw signature
//
// ALGORITHM is rsa-pkcs1-sha256 or ecdsa-sha256 (input is the 32-byte digest,
// an ECDSA signature is ASN.1), or ed25519 (input is the whole message). A
// status other than 0 is a refusal, stderr says why. ingot checks every
// signature against the public key in the index before using it.
//
// # Test keys
//
// A set made with Test has TEST in its index and in every certificate's name,
// and signs for the environments dev and test only.
//
//	set, err := keys.Init(ctx, dir, keys.Options{Name: "acme", Now: now, Rand: rand.Reader})
//	set, err = keys.Open(dir)
//	set, err = keys.Add(ctx, dir, keys.Hosts, keys.Options{Now: now, Rand: rand.Reader}) // to a set of an earlier ingot
//	signer, err := set.Signer(ctx, keys.DB, "prod")
//	files, err := set.Export(ctx, dir)
package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/ingot-os/ingot/partition/gpt"
)

// Purpose says what a key is for.
type Purpose string

// The keys of a set.
const (
	PK       Purpose = "pk"       // owns the platform: signs updates of PK and KEK
	KEK      Purpose = "kek"      // signs updates of db and dbx
	DB       Purpose = "db"       // signs boot images; one key for all environments
	Image    Purpose = "image"    // signs manifests and statements
	Policy   Purpose = "policy"   // signs the PCR values that unseal a data key
	Fleet    Purpose = "fleet"    // root of the management connections
	Operator Purpose = "operator" // issues clients
	Server   Purpose = "server"   // issues servers
	Hosts    Purpose = "hosts"    // issues hosts that were attested
	Boot     Purpose = "boot"     // issues servers that firmware boots from by HTTPS
)

// Algorithm names a kind of key.
type Algorithm string

// Algorithms of keys.
const (
	RSA2048 Algorithm = "rsa-2048"
	P256    Algorithm = "ecdsa-p256"
	Ed25519 Algorithm = "ed25519"
)

// role is what a key of a purpose is made of.
type role struct {
	purpose    Purpose
	algorithms []Algorithm // the first is made unless Options say otherwise; a key elsewhere may be any
	name       string      // of the certificate's subject; "" for a key without one
	issuer     Purpose     // "" for self-signed
}

// roles is the table of a key set, issuers before those they issue. Firmware
// takes RSA-2048 everywhere. The policy key is RSA because every TPM 2.0
// verifies it, systemd's tools too, and its signatures are the same each time.
// The image key is P-256, which signs a digest: with Ed25519 the whole manifest
// has to go to where the key is, and PKCS #11 tokens seldom have it.
var roles = []role{
	{PK, []Algorithm{RSA2048}, "platform key", ""},
	{KEK, []Algorithm{RSA2048}, "key exchange key", ""},
	{DB, []Algorithm{RSA2048}, "boot image key", ""},
	{Image, []Algorithm{P256, Ed25519, RSA2048}, "", ""},
	{Policy, []Algorithm{RSA2048}, "", ""},
	{Fleet, []Algorithm{P256, RSA2048}, "fleet root", ""},
	{Operator, []Algorithm{P256, RSA2048}, "operator authority", Fleet},
	{Server, []Algorithm{P256, RSA2048}, "server authority", Fleet},
	{Hosts, []Algorithm{P256, RSA2048}, "host authority", Fleet},
	// RSA, because firmware of EDK2 2022.11 takes nothing else; its own root, since
	// firmware that trusts it must not trust the whole fleet's certificates, and
	// some takes no certificate but a self-signed one as an authority.
	{Boot, []Algorithm{RSA2048}, "boot authority", ""},
}

// Index is keys.json.
type Index struct {
	Version int       `json:"version"` // 1
	Name    string    `json:"name"`
	Test    bool      `json:"test"` // TEST keys: for dev and test only
	Created time.Time `json:"created"`
	Owner   gpt.GUID  `json:"owner"` // in signature lists; PCR 7 measures it
	Keys    []Key     `json:"keys"`
}

// Key is one key of the index.
type Key struct {
	Purpose     Purpose   `json:"purpose"`
	Algorithm   Algorithm `json:"algorithm"`
	Fingerprint string    `json:"fingerprint"` // SHA-256 of the public key's DER, in hex
	URI         string    `json:"uri"`         // of the private key
	Public      string    `json:"public"`      // file with the certificate or public key
}

// indexVersion is the only version of keys.json.
const indexVersion = 1

// Errors to be tested with errors.Is.
var (
	// ErrExists: Init and Export never write over anything.
	ErrExists = errors.New("exists already")
	// ErrTestKey: a TEST key was asked to sign for a real environment.
	ErrTestKey = errors.New("is a TEST key")
)

// Fingerprint returns the SHA-256 of a public key (SubjectPublicKeyInfo) in hex.
func Fingerprint(pub crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", fmt.Errorf("name key: %w", err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

// algorithmOf names a public key, and says what it is when it is none of ours.
func algorithmOf(pub crypto.PublicKey) (Algorithm, error) {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() == 2048 {
			return RSA2048, nil
		}
		return "", fmt.Errorf("RSA of %d bits", k.N.BitLen())
	case *ecdsa.PublicKey:
		if k.Params().BitSize == 256 {
			return P256, nil
		}
		return "", fmt.Errorf("ECDSA %s", k.Params().Name)
	case ed25519.PublicKey:
		return Ed25519, nil
	}
	return "", fmt.Errorf("key of type %T", pub)
}
