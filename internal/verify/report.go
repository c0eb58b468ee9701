package verify

// Kind is what was verified.
type Kind string

// The kinds of Report.
const (
	KindSet   Kind = "set"   // an image set directory
	KindImage Kind = "image" // a raw image as it was built
	KindFile  Kind = "file"  // one file of a set that holds no disk: its digest
	KindDisk  Kind = "disk"  // the disk of a machine: state and data are not judged
)

// Verdict is the outcome of all checks.
type Verdict string

// The verdicts.
const (
	Verified Verdict = "verified" // signature and everything behind it hold
	Unsigned Verdict = "unsigned" // everything but the signature was checked, and holds
	Refused  Verdict = "refused"
)

// Report is what was checked. Its order does not depend on timing.
type Report struct {
	Path    string   `json:"path"`
	Kind    Kind     `json:"kind"`
	Verdict Verdict  `json:"verdict"`
	Name    string   `json:"name,omitempty"` // of the release, as its manifest says
	Version string   `json:"version,omitempty"`
	Build   string   `json:"build,omitempty"`
	Signers []string `json:"signers,omitempty"` // ids of the trusted keys that signed
	// TestSigners are those of them that are known as TEST keys.
	TestSigners []string `json:"testSigners,omitempty"`
	Checks      []*Check `json:"checks"`
	// NotChecked is everything that a reader of the verdict must not assume.
	NotChecked []Note    `json:"notChecked"`
	Refusals   []Refusal `json:"refusals"` // the first one is the most exact
}

// CheckName names a check; docs/verify.md has the table.
type CheckName string

// The checks in their order.
const (
	CheckSignature  CheckName = "signature"
	CheckManifest   CheckName = "manifest"
	CheckFiles      CheckName = "files"
	CheckTable      CheckName = "partition-table"
	CheckPartitions CheckName = "partitions"
	CheckBoot       CheckName = "boot-file"
	CheckSecureBoot CheckName = "secure-boot"
	CheckInitramfs  CheckName = "initramfs"
	CheckRoot       CheckName = "root"
	CheckSBOM       CheckName = "sbom"
	CheckProvenance CheckName = "provenance"
	CheckReference  CheckName = "reference"
	CheckPolicies   CheckName = "policies"
	CheckContainers CheckName = "containers"
)

// State is the outcome of one check.
type State string

// The states of a Check.
const (
	Passed  State = "passed"
	Failed  State = "refused"
	Skipped State = "skipped"
)

// Check is one check and what it looked at.
type Check struct {
	Name  CheckName `json:"check"`
	State State     `json:"state"`
	Count int       `json:"count"`         // of the things that were compared: files, partitions, sections, signatures
	Why   Why       `json:"why,omitempty"` // it was skipped

	notes    []Note
	refusals []Refusal
}

// Why says why something was not checked.
type Why string

// The reasons of notes and skipped checks.
const (
	WhyNoKeys     Why = "no-keys"       // no image key was given
	WhyOtherKey   Why = "other-key"     // a signature of a key that was not given
	WhyNoImage    Why = "no-image"      // there is none to look into
	WhyNoSet      Why = "no-set"        // an image alone was named
	WhyNoFile     Why = "no-file"       // the file is not beside the manifest
	WhyRefused    Why = "refused"       // what holds it was refused
	WhyNoCert     Why = "no-db"         // no db certificate was given
	WhyUnsigned   Why = "not-signed"    // there is no signature to check
	WhyNoRoot     Why = "no-root"       // the release has no root payload
	WhyMachine    Why = "machine-data"  // state and data belong to the machine
	WhyOtherSlot  Why = "other-release" // the partition holds another release
	WhyFreeSpace  Why = "free-space"    // no partition covers it
	WhyDigestOnly Why = "digest-only"   // the file's digest was compared, not what it means
	WhyHostGUIDs  Why = "host-guids"    // GUIDs are those of one machine
	WhyNoOther    Why = "no-container"  // the set has no other container of the disk
	WhyNotSealed  Why = "not-sealed"    // the machines do not encrypt their data
	WhyNoRules    Why = "no-rules"      // this ingot does not know what the stub measures
)

// Whys are all that there are.
var Whys = []Why{
	WhyNoKeys, WhyOtherKey, WhyNoImage, WhyNoSet, WhyNoFile, WhyRefused, WhyNoCert, WhyUnsigned, WhyNoRoot, WhyMachine, WhyOtherSlot,
	WhyFreeSpace, WhyDigestOnly, WhyHostGUIDs, WhyNoOther, WhyNotSealed, WhyNoRules,
}

// Note is something that was not checked.
type Note struct {
	Check CheckName `json:"check"`
	What  string    `json:"what,omitempty"` // partition, file or key; empty for the whole check
	Why   Why       `json:"why"`
	Got   string    `json:"got,omitempty"` // what is there instead
}

// Code is a stable reason.
type Code string

// The reasons of a Refusal.
const (
	ManifestMissing      Code = "manifest.missing"
	ManifestMalformed    Code = "manifest.malformed"
	ManifestInconsistent Code = "manifest.inconsistent"

	EnvelopeMissing   Code = "envelope.missing"
	EnvelopeMalformed Code = "envelope.malformed"
	EnvelopeType      Code = "envelope.type"
	EnvelopeUntrusted Code = "envelope.untrusted"
	EnvelopeTestKey   Code = "envelope.test-key"
	EnvelopeSignature Code = "envelope.signature"
	EnvelopePayload   Code = "envelope.payload"

	FileMissing  Code = "file.missing"
	FileStranger Code = "file.stranger"
	FileKind     Code = "file.kind"
	FileSize     Code = "file.size"
	FileDigest   Code = "file.digest"

	DiskSize        Code = "disk.size"
	DiskRelease     Code = "disk.release"
	DiskSlack       Code = "disk.slack"
	TableMBR        Code = "table.mbr"
	TablePrimary    Code = "table.primary"
	TableBackup     Code = "table.backup"
	PartitionDigest Code = "partition.digest"
	PartitionFormat Code = "partition.format"

	BootMissing   Code = "boot.missing"
	BootMalformed Code = "boot.malformed"
	BootSection   Code = "boot.section"
	BootCmdline   Code = "boot.cmdline"

	SignatureMissing   Code = "secureboot.unsigned"
	SignatureMalformed Code = "secureboot.malformed"
	SignatureDigest    Code = "secureboot.digest"
	SignatureInvalid   Code = "secureboot.signature"
	SignatureKey       Code = "secureboot.key"

	InitramfsMalformed Code = "initramfs.malformed"
	InitramfsContents  Code = "initramfs.contents"
	InitramfsIdentity  Code = "initramfs.identity"

	RootMalformed Code = "root.malformed"
	RootHash      Code = "root.hash"
	RootVerity    Code = "root.verity"

	SBOMMalformed Code = "sbom.malformed"
	SBOMIdentity  Code = "sbom.identity"
	SBOMFiles     Code = "sbom.files"

	ProvenanceMalformed Code = "provenance.malformed"
	ProvenanceIdentity  Code = "provenance.identity"
	ProvenanceOutputs   Code = "provenance.outputs"

	ReferenceMalformed Code = "reference.malformed"
	ReferenceDiffers   Code = "reference.differs"

	PolicyMalformed Code = "policy.malformed"
	PolicyDiffers   Code = "policy.differs"
	PolicySignature Code = "policy.signature"

	ContainerFormat Code = "container.format"
	ContainerDisk   Code = "container.disk"

	NothingChecked Code = "nothing.checked"
)

// Codes are all that there are, in the order of the checks.
var Codes = []Code{
	ManifestMissing, ManifestMalformed, ManifestInconsistent,
	EnvelopeMissing, EnvelopeMalformed, EnvelopeType, EnvelopeUntrusted, EnvelopeTestKey, EnvelopeSignature, EnvelopePayload,
	FileMissing, FileStranger, FileKind, FileSize, FileDigest,
	DiskSize, DiskRelease, DiskSlack, TableMBR, TablePrimary, TableBackup, PartitionDigest, PartitionFormat,
	BootMissing, BootMalformed, BootSection, BootCmdline,
	SignatureMissing, SignatureMalformed, SignatureDigest, SignatureInvalid, SignatureKey,
	InitramfsMalformed, InitramfsContents, InitramfsIdentity,
	RootMalformed, RootHash, RootVerity,
	SBOMMalformed, SBOMIdentity, SBOMFiles,
	ProvenanceMalformed, ProvenanceIdentity, ProvenanceOutputs,
	ReferenceMalformed, ReferenceDiffers,
	PolicyMalformed, PolicyDiffers, PolicySignature,
	ContainerFormat, ContainerDisk,
	NothingChecked,
}

// Place is where something is wrong, from outside to inside.
type Place struct {
	File   string   `json:"file"`             // of the set, or the image
	Path   []string `json:"path,omitempty"`   // partition, structure, file, section, field
	Offset *int64   `json:"offset,omitempty"` // bytes from the start of File, where it is known
}

// at is a place in a file.
func at(file string, path ...string) Place { return Place{File: file, Path: path} }

// byte gives the place its offset; a negative one is unknown.
func (p Place) byte(off int64) Place {
	if off >= 0 {
		p.Offset = &off
	}
	return p
}

// Refusal is one reason why the verdict is Refused.
type Refusal struct {
	Check CheckName `json:"check"`
	Code  Code      `json:"code"`
	Place Place     `json:"place"`
	Want  string    `json:"want,omitempty"`
	Got   string    `json:"got,omitempty"`
	Cause string    `json:"cause,omitempty"` // of a reader that gave up
}

// absent are reasons that leave nothing open: there is no such thing.
var absent = []Why{WhyNoRoot, WhyNoOther, WhyNotSealed}
