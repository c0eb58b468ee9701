package slot

// Cause is why a trial or a blessed slot failed (S6). Values are on disk: new
// ones go to the end.
type Cause byte

// The causes.
const (
	NoCause        Cause = iota
	Panic                // the kernel's record of a panic or oops survived
	Hang                 // the watchdog reset the machine
	InitExit             // PID 1 ended and said so
	Unhealthy            // a check did not hold until the deadline
	CorruptPE            // the slot's bytes are wrong, or its program does not load
	WrongSignature       // Secure Boot refused it
	CorruptRoot          // dm-verity found a wrong block
	NetworkDead          // no network, and the slot before had it
	DataFull             // the data partition is full
	ClockWrong           // the clock stands before the build
	NotAttested          // the verifier refused it, or gave no verdict in time
	Returned             // the program went back to the firmware (S7)
	LostBeforeInit       // armed and never seen: panic, hang or power
	PowerCut             // its init ran, and ended without a trace
	Crashes              // a blessed slot failed again and again
	Unloadable           // the firmware starts the other slot instead
	ByOperator           // rolled back by hand
	causes
)

// causeTable: counts says that a try is used up; final that another try of the
// same bytes can only end the same way; rank prefers the more exact of several
// pieces of evidence (the panic that follows from init's exit says less than
// the exit).
var causeTable = [causes]struct {
	name          string
	text          string
	counts, final bool
	rank          int
}{
	NoCause:        {name: "none", text: "nothing has failed"},
	Panic:          {"panic", "the kernel panicked", true, false, 2},
	Hang:           {"hang", "it hung until the watchdog reset the machine", true, false, 1},
	InitExit:       {"init-exit", "PID 1 ended", true, false, 3},
	Unhealthy:      {"unhealthy", "a health check failed", true, false, 3},
	CorruptPE:      {"corrupt-pe", "the boot file is damaged or does not load", true, true, 5},
	WrongSignature: {"wrong-signature", "Secure Boot refused the boot file", true, true, 6},
	CorruptRoot:    {"corrupt-root", "the root file system differs from its digest", true, true, 4},
	NetworkDead:    {"network-dead", "the network did not come up", true, false, 3},
	DataFull:       {"data-full", "the data partition is full", true, false, 3},
	ClockWrong:     {"clock", "the clock is wrong", true, false, 3},
	NotAttested:    {"not-attested", "the attestation server did not trust it", true, false, 3},
	Returned:       {"returned", "the boot file returned to the firmware", true, false, 4},
	LostBeforeInit: {"lost-before-init", "it was started and never seen (panic, hang or power)", false, false, 0},
	PowerCut:       {"power-cut", "it ended without a trace, as by a power cut", false, false, 0},
	Crashes:        {"crash-loop", "the blessed slot failed again and again", true, true, 0},
	Unloadable:     {"unloadable", "the firmware does not start it", true, true, 0},
	ByOperator:     {"operator", "an operator rolled it back", true, true, 0},
}

// String gives the stable name: "lost-before-init".
func (c Cause) String() string {
	if c < causes {
		return causeTable[c].name
	}
	return "unknown"
}

// Text is the cause in words.
func (c Cause) Text() string {
	if c < causes {
		return causeTable[c].text
	}
	return "of a kind that a newer version knows"
}

// Evidence is one trace that a boot left behind and a later one found.
type Evidence struct {
	Cause  Cause
	Slot   Slot   // that left it; None: the trace does not say
	Detail string // one line, for people
	// ID tells one trace from another (the hash of a pstore record), so that
	// one which could not be erased is counted once. 0: the trace cannot be
	// seen twice, as a watchdog's boot status.
	ID uint64
}

// strongest returns the most exact evidence that may be of slot x and was not
// counted before.
func strongest(all []Evidence, x Slot, seen uint64) (best Evidence, ok bool) {
	for _, e := range all {
		if e.Slot != None && e.Slot != x {
			continue
		}
		if e.Cause == NoCause || e.Cause >= causes || e.ID != 0 && e.ID == seen {
			continue
		}
		if !ok || causeTable[e.Cause].rank > causeTable[best.Cause].rank {
			best, ok = e, true
		}
	}
	return best, ok
}
