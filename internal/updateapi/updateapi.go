// Package updateapi holds the messages about updates: between an operator and
// a machine (management listener, mutual TLS), and between a machine and the
// server whose assignments it follows. HTTP/1.1, bodies in JSON, bytes in
// base64, digests in hex.
//
// On a machine, for holders of a certificate by the operator authority:
//
//	GET  /v1/slots                               -> Slots
//	POST /v1/update            Offer             -> Progress
//	PUT  /v1/update/PART?from=N&coding=CODING    -> Progress    body: bytes of the part
//	POST /v1/update/approve                      -> Progress    then the machine resets into the trial
//	POST /v1/rollback                            -> Progress    then the machine resets
//	POST /v1/override          Override          -> Progress
//	POST /v1/adopt                               -> Progress
//
// On a server, for machines that are attested (package attestapi), by the
// certificate that they got:
//
//	GET  /v1/assignment                               -> Assignment
//	GET  /v1/releases/DIGEST/manifest                 -> the signed manifest (a DSSE envelope)
//	GET  /v1/releases/DIGEST/PART?from=N&coding=CODING -> bytes of the part
//	GET  /v1/releases/DIGEST/PART.delta?base=DIGEST   -> a patch (package delta)
//	POST /v1/slots             Slots                  how the machine's slots are, after each change
//
// DIGEST of a release is the SHA-256 of its manifest.json; PART is "slot", "esp" or
// "root". The bytes of a part are those of its partition, of which the zeros at
// the end are left out; from counts in them, before any coding. A refusal has an
// Error.
//
// All programs share these types, so this package imports nothing heavy.
package updateapi

// Paths of a machine and of a server.
const (
	SlotsPath      = "/v1/slots"
	UpdatePath     = "/v1/update"
	ApprovePath    = "/v1/update/approve"
	RollbackPath   = "/v1/rollback"
	OverridePath   = "/v1/override"
	AdoptPath      = "/v1/adopt"
	AssignmentPath = "/v1/assignment"
	ReleasesPath   = "/v1/releases"
)

// Parts of a release that a machine writes.
const (
	PartSlot = "slot" // the FAT partition with the boot file
	PartRoot = "root" // the verity root; not every release has one
	PartESP  = "esp"  // the EFI system partition: for an install, updates leave it alone
)

// Codings of the bytes of a part.
const (
	CodingIdentity = "identity" // as they are
	CodingZstd     = "zstd"     // RFC 8878, one stream that begins at from
	CodingDelta    = "delta"    // a patch of package delta, always from 0
)

// MaxRequest bounds a body that is not the bytes of a part, in bytes: a manifest
// with the signatures of many (dsse.MaxEnvelope) in base64.
const MaxRequest = 43 << 20

// Offer asks a machine to take a release.
type Offer struct {
	Manifest []byte `json:"manifest"`           // manifest.dsse.json
	Override bool   `json:"override,omitempty"` // although this machine has rejected it
	Approve  bool   `json:"approve,omitempty"`  // try it as soon as it is written
	// By says who asks, as the machine knows: it is no part of the message.
	By string `json:"-"`
}

// Progress is how far an update is.
type Progress struct {
	Version string `json:"version,omitempty"` // of the release
	Slot    string `json:"slot,omitempty"`    // that it goes to: a or b
	Phase   string `json:"phase"`             // slot.Phase
	// Wants are the parts that are still to come, in the order in which they must
	// come. None in the phase staged, armed or when nothing is under way.
	Wants []Want `json:"wants,omitempty"`
	// Notice is what the machine last said about its slots.
	Notice string `json:"notice,omitempty"`
}

// Want is a part that a machine has not got yet.
type Want struct {
	Part string `json:"part"`
	Size int64  `json:"size"`           // of its partition, in bytes
	From int64  `json:"from,omitempty"` // bytes that are there already
	// Base is the digest of the partition that a patch could start from: what the
	// other slot holds. Empty: no patch is taken.
	Base string `json:"base,omitempty"`
}

// Override takes a version off the list of rejected ones.
type Override struct {
	Version string `json:"version"`
}

// Assignment is what a machine is to run.
type Assignment struct {
	// Release is the digest of a manifest; empty: stay as you are.
	Release string `json:"release,omitempty"`
	Version string `json:"version,omitempty"`
	// Approved lets the machine try it as soon as it is written; until then it
	// stages and waits.
	Approved bool `json:"approved,omitempty"`
	// Override lets the machine take it although it has rejected it.
	Override bool `json:"override,omitempty"`
	// Withheld says why a release that an operator assigned is not offered; the
	// machine stays as it is.
	Withheld *Error `json:"withheld,omitempty"`
	// Interval is the time until the machine asks again, in seconds.
	Interval float64 `json:"interval"`
}

// Slots is a machine's slots: what they hold, which starts and why.
type Slots struct {
	Running   string `json:"running,omitempty"` // a or b; empty: none, or not known
	Good      string `json:"good"`              // the last blessed slot
	Candidate string `json:"candidate,omitempty"`
	Phase     string `json:"phase"`
	Means     string `json:"means"` // firmware, selector, netboot
	TriesLeft int    `json:"triesLeft"`
	Attempt   int    `json:"attempt"`
	Floor     int    `json:"floor"` // releases below this security epoch are refused
	// Cause, Culprit and Detail are those of the last failure (docs/slots.md).
	Cause   string `json:"cause,omitempty"`
	Culprit string `json:"culprit,omitempty"`
	Detail  string `json:"detail,omitempty"`
	// Judged is how long the last trial took from the start of its kernel until it was
	// blessed or had failed, in seconds; 0: it did not come to a verdict of its own.
	Judged float64 `json:"judged,omitempty"`

	Slots    []Slot     `json:"slots"`              // a, then b
	Rejected []Rejected `json:"rejected,omitempty"` // oldest first
	// Entries are the firmware's boot variables as text ("Boot0001: hello slot-a
	// ..."), Order and Next what it starts of the two slots.
	Entries []string `json:"entries,omitempty"`
	Order   []string `json:"order,omitempty"`
	Next    string   `json:"next,omitempty"`
	// Journal says how the journal was found: read, empty (a fresh disk) or lost.
	Journal string `json:"journal"`
	// Why explains all of it in at most 20 lines.
	Why []string `json:"why"`
}

// Slot is what one slot holds, by the journal.
type Slot struct {
	Name      string `json:"name"` // a or b
	Version   string `json:"version,omitempty"`
	Condition string `json:"condition"` // empty, partial, ready, good, damaged
	Epoch     int    `json:"epoch"`     // security epoch
	Image     string `json:"image,omitempty"`
	Root      string `json:"root,omitempty"`
	// Found is what the bytes of the slot are when they were looked at: its
	// digest, or why it could not be read. Empty: nobody looked.
	Found string `json:"found,omitempty"`
}

// Rejected is a version that is not tried again.
type Rejected struct {
	Version string `json:"version"`
	Cause   string `json:"cause"`
}

// Error is the body of every refusal.
type Error struct {
	Code   string `json:"code"` // see the constants
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"`
}

// Error implements error: a refusal is returned as *Error.
func (e *Error) Error() string { return e.Code + ": " + e.Detail }

// Codes of refusals.
const (
	Malformed   = "request.malformed"
	Denied      = "request.denied"      // no certificate by the operator authority
	Untrusted   = "release.untrusted"   // not signed by enough of the fleet's keys
	Mismatched  = "release.mismatched"  // another appliance, architecture or disk layout
	BelowFloor  = "release.below-floor" // its security epoch is below the floor
	IsRejected  = "release.rejected"    // it failed here before
	Busy        = "update.busy"         // a trial is under way, or another update is being written
	WrongBase   = "update.base"         // the patch fits another image: send the whole part
	WrongBytes  = "update.digest"       // what was written is not what was signed; begin again
	NotAllowed  = "update.refused"      // the state of the slots does not allow it; Detail says why
	Unavailable = "update.unavailable"  // this machine has no slots, or its image takes no updates
	Failed      = "update.failed"       // an error of the machine or server
)
