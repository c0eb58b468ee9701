package evidence

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"reflect"
	"strings"
	"sync"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/predict"
	"github.com/ingot-os/ingot/boot/esl"
	"github.com/ingot-os/ingot/internal/regular"
	"github.com/ingot-os/ingot/internal/strictyaml"
	"github.com/ingot-os/ingot/internal/strictyaml/keydoc"
)

// policyFile is attest.Policy as people write it.
type policyFile struct {
	SecureBoot    bool         `yaml:"secureBoot"`
	Keys          []policyKeys `yaml:"keys"`
	Paths         []string     `yaml:"paths"`
	PCRs          []int        `yaml:"pcrs"`
	Banks         []string     `yaml:"banks"`
	MachineConfig bool         `yaml:"machineConfig"`
	DMAProtection bool         `yaml:"dmaProtection"`
	QuietFirmware bool         `yaml:"quietFirmware"`
	Early         []string     `yaml:"earlyApplications"`
	AllowDebug    bool         `yaml:"allowDebug"`
	AllowResumed  bool         `yaml:"allowResumed"`
}

type policyKeys struct {
	PK          string   `yaml:"pk"`
	KEK         string   `yaml:"kek"`
	DB          string   `yaml:"db"`
	Authorities []string `yaml:"authorities"`
}

const (
	digestPattern = "^[0-9a-f]{64}$"
	digestWords   = "a SHA-256 of 64 hexadecimal digits in lower case"
)

func isDigest(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size && s == strings.ToLower(s)
}

// anyDigestPattern is one of SHA-256, SHA-384 or SHA-512.
const anyDigestPattern = "^([0-9a-f]{64}|[0-9a-f]{96}|[0-9a-f]{128})$"

func isAnyDigest(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && (len(b) == 32 || len(b) == 48 || len(b) == 64) && s == strings.ToLower(s)
}

// PolicyKeys describes the policy file for the decoder, the schema and
// docs/attest-policy.md.
var PolicyKeys = sync.OnceValue(func() *strictyaml.Table {
	digest := func(path, doc string) strictyaml.Key {
		return strictyaml.Key{Path: path, Required: !strings.HasSuffix(path, "[]"), Pattern: digestPattern, Match: isDigest, Expect: digestWords, Doc: doc}
	}
	return strictyaml.NewTable(
		strictyaml.Key{Path: "secureBoot", Default: "false", Also: []string{"secure-boot", "secure_boot"},
			Doc: "Refuse a boot with Secure Boot off (`secureboot.off`).", Example: "secureBoot: true"},
		strictyaml.Key{Path: "keys", Default: "none: then the verdict says that the keys were not checked", Also: []string{"secureBootKeys"},
			Doc: "Secure Boot keys that may be enrolled; one entry must fit whole. Two entries let old and new keys stand during a rotation. `ingot attest verify --keys DIR` takes those of a key set without this."},
		digest("keys[].pk", "SHA-256 of the content of the variable PK: its signature lists."),
		digest("keys[].kek", "The same of KEK."),
		digest("keys[].db", "The same of db. dbx is not compared: it may grow."),
		strictyaml.Key{Path: "keys[].authorities", Required: true, MinLen: 1, Expect: "name at least one certificate", Doc: "Certificates that may let an image in. db may hold others, for option ROMs."},
		digest("keys[].authorities[]", "SHA-256 of the certificate in DER."),
		strictyaml.Key{Path: "paths", Default: "those of the references on which the image's own command line counts", Also: []string{"boot"},
			Doc: "Ways to boot that are accepted.", Example: "paths: [disk, http]"},
		strictyaml.Key{Path: "paths[]", Enum: []string{"disk", "pxe", "http", "ipxe", "kernel"}},
		strictyaml.Key{Path: "pcrs", Default: fmt.Sprint(attest.DefaultPCRs), MinLen: 1, Expect: "name at least one register",
			Doc: "Registers that must be quoted. One that is not quoted is not judged: the verdict says so."},
		strictyaml.Key{Path: "pcrs[]", Min: 0, Max: pcr.Count - 1},
		strictyaml.Key{Path: "banks", Default: "[sha256, sha384]", MinLen: 1, Expect: "name at least one bank", Doc: "Banks that are accepted, best first: the first that is quoted is judged."},
		strictyaml.Key{Path: "banks[]", Enum: []string{"sha256", "sha384", "sha512"}},
		strictyaml.Key{Path: "machineConfig", Default: "false", Doc: "Refuse a machine.yaml other than the registered one (`machine.config`)."},
		strictyaml.Key{Path: "dmaProtection", Default: "false", Doc: "Refuse firmware that says that it ran without DMA protection (`firmware.dma`)."},
		strictyaml.Key{Path: "quietFirmware", Default: "false", Doc: "Accept firmware that measures neither the boot manager's calls nor the end of boot services (PCR 4 and 5): failed boot options are not counted then."},
		strictyaml.Key{Path: "earlyApplications", MinLen: 1, Expect: "name at least one digest", Doc: "Programs that the firmware may start before its boot manager, by the digest that a refusal with `boot.early` names."},
		strictyaml.Key{Path: "earlyApplications[]", Pattern: anyDigestPattern, Match: isAnyDigest, Expect: "a digest of 64, 96 or 128 hexadecimal digits in lower case, as long as those of the bank that is judged"},
		strictyaml.Key{Path: "allowDebug", Default: "false", Doc: "Accept a boot in which a debug ticket was used; the verdict says so."},
		strictyaml.Key{Path: "allowResumed", Default: "false", Doc: "Accept a TPM that was resumed from sleep: its registers may be of an earlier boot."},
	)
})

// maxPolicy bounds a policy in bytes.
const maxPolicy = 64 << 10

// ReadPolicy reads a policy file.
func ReadPolicy(path string) (attest.Policy, error) {
	b, err := regular.Read(path, maxPolicy)
	if err == nil && len(bytes.TrimSpace(b)) == 0 {
		err = fmt.Errorf("%s: the policy is empty", path)
	}
	if err != nil {
		return attest.Policy{}, hinted("a policy is a file such as docs/attest-policy.md shows", "%w", err)
	}
	return ParsePolicy(path, b)
}

// ParsePolicy reads a policy, in YAML or JSON. name is only used in messages.
// An error about the text is of type strictyaml.Errors and has every finding.
func ParsePolicy(name string, data []byte) (attest.Policy, error) {
	doc, err := strictyaml.Parse(name, data, strictyaml.Limits{Size: maxPolicy})
	if err != nil {
		return attest.Policy{}, err
	}
	var f policyFile
	errs := doc.Decode(&f, PolicyKeys())
	errs.Sort()
	if err := errs.Err(); err != nil {
		return attest.Policy{}, err
	}
	return f.policy()
}

func (f *policyFile) policy() (attest.Policy, error) {
	p := attest.Policy{SecureBoot: f.SecureBoot, Paths: f.Paths, PCRs: f.PCRs, MachineConfig: f.MachineConfig,
		DMAProtection: f.DMAProtection, QuietFirmware: f.QuietFirmware, AllowDebug: f.AllowDebug, AllowResumed: f.AllowResumed}
	for _, name := range f.Banks {
		b, err := pcr.ParseBank(name)
		if err != nil {
			return p, err
		}
		p.Banks = append(p.Banks, b)
	}
	for _, d := range f.Early {
		p.EarlyApplications = append(p.EarlyApplications, digest(d))
	}
	for _, k := range f.Keys {
		keys := attest.Keys{PK: digest(k.PK), KEK: digest(k.KEK), DB: digest(k.DB)}
		for _, a := range k.Authorities {
			keys.Authorities = append(keys.Authorities, digest(a))
		}
		p.Keys = append(p.Keys, keys)
	}
	return p, nil
}

// digest of a text that isDigest or isAnyDigest has accepted.
func digest(text string) pcr.Digest {
	b, err := hex.DecodeString(text)
	if err != nil {
		panic("evidence: " + err.Error())
	}
	return b
}

// SecureBootKeys are the keys of a machine as a policy names them: every
// certificate in db is an authority.
func SecureBootKeys(k predict.Keys) (attest.Keys, error) {
	sum := func(b []byte) pcr.Digest { return pcr.SHA256.Sum(b) }
	out := attest.Keys{PK: sum(k.PK), KEK: sum(k.KEK), DB: sum(k.DB)}
	lists, err := esl.Parse(k.DB)
	if err != nil {
		return out, fmt.Errorf("db: %w", err)
	}
	certs, err := esl.Certificates(lists)
	if err != nil {
		return out, fmt.Errorf("db: %w", err)
	}
	for _, c := range certs {
		out.Authorities = append(out.Authorities, sum(c.Raw))
	}
	return out, nil
}

// PolicySchema returns the JSON Schema of a policy; docs/attest-policy.schema.json
// is a copy.
func PolicySchema() []byte {
	return keydoc.Schema("urn:ingot:attest-policy", "ingot policy of attestation", reflect.TypeFor[policyFile](), PolicyKeys())
}

// PolicyReference returns docs/attest-policy.md.
func PolicyReference() []byte {
	return keydoc.Markdown("The policy of attestation", policyIntro, policySections, reflect.TypeFor[policyFile](), PolicyKeys())
}

const policyIntro = `
What an operator demands of a boot beyond "it is one of these releases": a YAML or JSON
file of at most 64 KiB that ` + "`ingot attest verify --policy FILE`" + ` reads.

` + "```yaml" + `
secureBoot: true
paths: [disk, http]
machineConfig: true
` + "```" + `

Every key is optional; an empty file is not. The rules of YAML are those of a recipe (see
[recipe.md](recipe.md)): unknown keys and wrong types are errors with line, column and a
hint. What the verdicts are: [verdicts.md](verdicts.md).
`

var policySections = []keydoc.Section{
	{Title: "Secure Boot", Keys: []string{"secureBoot", "keys"}},
	{Title: "The boot", Keys: []string{"paths", "machineConfig", "dmaProtection", "quietFirmware", "earlyApplications", "allowDebug", "allowResumed"}},
	{Title: "The quote", Keys: []string{"pcrs", "banks"}},
}
