package attest

// Code is a stable reason of a verdict. Programs may compare them; words may
// change.
type Code string

// What the evidence itself shows, before any of it is believed.
const (
	EvidenceMalformed Code = "evidence.malformed"
	HostUnknown       Code = "host.unknown"
	HostPending       Code = "host.pending"
	HostRevoked       Code = "host.revoked"
	AKMalformed       Code = "ak.malformed"
	AKAttributes      Code = "ak.attributes"
	AKKey             Code = "ak.key"
	EKKey             Code = "ek.key"
	QuoteMalformed    Code = "quote.malformed"
	QuoteTrailing     Code = "quote.trailing"
	QuoteMagic        Code = "quote.magic"
	QuoteType         Code = "quote.type"
	QuoteSignature    Code = "quote.signature"
	QuoteHash         Code = "quote.hash"
	QuoteNonce        Code = "quote.nonce"
	QuoteComposite    Code = "quote.composite"
	QuotePCR          Code = "quote.pcr"
	NonceExpired      Code = "nonce.expired"
	ClockRewound      Code = "clock.rewound"
	ClockReset        Code = "clock.reset"
	ClockResumed      Code = "clock.resumed"
	BankMismatch      Code = "bank.mismatch"
	BankWeak          Code = "bank.weak"
	BankEmpty         Code = "bank.empty"
)

// What the event log shows.
const (
	LogMalformed       Code = "log.malformed"
	LogBank            Code = "log.bank"
	LogReplay          Code = "log.replay"
	LogUnlogged        Code = "log.unlogged"
	LogType            Code = "log.type"
	LogData            Code = "log.data"
	LogSeparator       Code = "log.separator"
	FirmwareError      Code = "firmware.error"
	FirmwareUnmeasured Code = "firmware.unmeasured"
	FirmwareChanged    Code = "firmware.changed"
	FirmwareDebug      Code = "firmware.debug"
	SecureBootGrammar  Code = "secureboot.grammar"
	SecureBootOff      Code = "secureboot.off"
	SecureBootKeys     Code = "secureboot.keys"
	SecureBootOther    Code = "secureboot.authority"
)

// What the comparison with a release shows.
const (
	PCRNone           Code = "pcr.none"
	ReferenceNone     Code = "reference.none"
	PathUnknown       Code = "path.unknown"
	ImageUnknown      Code = "image.unknown"
	BootEarly         Code = "boot.early"
	BootPolluted      Code = "boot.polluted"
	MeasureUnexpected Code = "measure.unexpected"
	MeasureMissing    Code = "measure.missing"
	CmdlineReplaced   Code = "cmdline.replaced"
	CmdlineAdded      Code = "cmdline.added"
	DiskLayout        Code = "disk.layout"
	StatementUnknown  Code = "statement.malformed"
	MachineConfig     Code = "machine.config"
	MachineDebug      Code = "machine.debug"
	VersionFloor      Code = "version.floor"
	FloorLost         Code = "floor.lost"
	FloorUnproven     Code = "floor.proof"
)

// Reported without refusing, unless the policy wants more.
const (
	ClockUnsafe     Code = "clock.unsafe"
	FirmwareDMA     Code = "firmware.dma"
	FirmwareDriver  Code = "firmware.driver"
	FirmwareForeign Code = "firmware.foreign"
)

// Codes says of each code what it means.
var Codes = map[Code]string{
	EvidenceMalformed: "the evidence is not a document of the known format, or too large",
	HostUnknown:       "no such host is enrolled",
	HostPending:       "no operator has approved the host yet",
	HostRevoked:       "an operator has revoked the host",
	AKMalformed:       "the attestation key is not a public area that can be read",
	AKAttributes:      "the attestation key could sign what the TPM has not made, or leave the TPM",
	AKKey:             "the attestation key is not the enrolled one",
	EKKey:             "the endorsement key is not the enrolled one",
	QuoteMalformed:    "the quote or its signature cannot be read",
	QuoteTrailing:     "signed bytes follow the quote",
	QuoteMagic:        "the signed structure was not made by a TPM",
	QuoteType:         "the signed structure is not a quote",
	QuoteSignature:    "the signature is not one by the attestation key over this quote",
	QuoteHash:         "the signature is over a weak hash",
	QuoteNonce:        "the quote answers another challenge, or comes over another channel",
	QuoteComposite:    "register values are not those that were quoted",
	QuotePCR:          "a required register was not quoted",
	NonceExpired:      "the challenge was answered after its lifetime",
	ClockRewound:      "the TPM's clock or restart counter is behind what was seen before",
	ClockReset:        "the TPM's reset counter is behind what was seen before: cleared, or another TPM; enrol again",
	ClockResumed:      "the TPM was resumed since the last reset, so registers may be of an earlier boot",
	BankMismatch:      "values of a bank that was not quoted",
	BankWeak:          "no bank that the policy accepts was quoted",
	BankEmpty:         "firmware has measured nothing into the quoted bank",

	LogMalformed:       "the event log cannot be read, or can be read in two ways",
	LogBank:            "the event log has no digests of the quoted bank",
	LogReplay:          "the logged events do not give the value of a register",
	LogUnlogged:        "a register was extended and no event says by what",
	LogType:            "an event's type has no place in its register",
	LogData:            "an event's data is not what its digest is of",
	LogSeparator:       "a register of the firmware has no separator, or two",
	FirmwareError:      "the firmware reported an error in a separator",
	FirmwareUnmeasured: "the firmware did not measure itself",
	FirmwareDebug:      "the firmware was in debug mode, in which whoever is at the machine can change what runs",
	FirmwareChanged:    "firmware or option ROMs are not those of the enrolment; an operator approves",
	SecureBootGrammar:  "the Secure Boot variables are not logged once, in order, before the separator",
	SecureBootOff:      "Secure Boot is off and the policy wants it on",
	SecureBootKeys:     "PK, KEK or db are not those of the release",
	SecureBootOther:    "an image was accepted by a key that is not the release's",

	PCRNone:           "no register was compared with anything",
	ReferenceNone:     "no reference was given",
	PathUnknown:       "the references do not know this way to boot, or not this bank",
	ImageUnknown:      "a part of the image is not that of the release",
	BootEarly:         "a program was started before the boot manager",
	BootPolluted:      "another application ran before the image in this boot",
	MeasureUnexpected: "something was measured that the release does not measure",
	MeasureMissing:    "something was not measured that the release measures",
	CmdlineReplaced:   "the kernel got another command line than the image's",
	CmdlineAdded:      "a command line, credential or add-on was given to the image",
	DiskLayout:        "the partition table is not that of the release",
	StatementUnknown:  "ingot-init's statement about the boot cannot be read",
	MachineConfig:     "the machine configuration is not the registered one",
	MachineDebug:      "a debug ticket was used in this boot",
	VersionFloor:      "the release is older than the floor",
	FloorLost:         "the TPM's counter of the version floor is gone, was made anew or moved by somebody else; enrol again",
	FloorUnproven:     "what is said of the counter of the version floor is not the TPM's word of now",

	EnrolName:     "no host name, or no host of that name",
	EnrolKnown:    "the name is enrolled; an operator must allow it again",
	EnrolEK:       "the TPM is enrolled under another name",
	EnrolSecret:   "the secret did not come back, came late or twice",
	EnrolBusy:     "too many enrolments are open",
	EKMalformed:   "the endorsement key is not a public area that can be read",
	EKAttributes:  "the endorsement key does not prove that a key is in this TPM",
	EKCertificate: "the certificate is not one of this endorsement key, or out of its time",
	EKRevoked:     "the certificate or an issuer is revoked",
	EKUnknown:     "no configured root vouches for the TPM, and the policy wants one",
	TPMDenied:     "this kind of TPM is on the list of denied ones",

	ClockUnsafe:     "reported: power was cut, the TPM's clock may have lost some minutes",
	FirmwareDMA:     "reported, a refusal where the policy has `dmaProtection`: the firmware ran without DMA protection",
	FirmwareDriver:  "reported: a driver of an option ROM or of the firmware ran, and no firmware was accepted yet to compare it with",
	FirmwareForeign: "reported: a driver ran that is neither of the firmware nor of an option ROM; an operator accepts the firmware, the first verdict does not",
}
