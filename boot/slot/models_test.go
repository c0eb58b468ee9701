package slot

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// machine is one machine with its disk, firmware and images, in memory. It is
// the model of all three actuators: means says which one starts slots.
type machine struct {
	t       testing.TB
	rules   Rules
	means   Means
	journal []byte // last record written; nil = empty
	lost    bool   // the journal is unreadable
	list    []byte
	before  Digest // image of the candidate that the kept baseline is for
	unkept  error  // no baseline can be kept
	counter uint32 // the TPM's
	sealed  error  // the TPM refuses to raise it
	floor   uint32 // as last seen

	vars     vars
	stray    bool             // NVRAM was destroyed: the firmware finds only the ESP
	holds    [2]Content       // what is on the slots
	broken   [2]bool          // bytes differ from the digest
	behave   map[string]Cause // how a version ends, by its text
	evidence []Evidence       // pending
	polluted bool

	state    State
	running  Slot // None: powered off or in the selector
	launch   Slot // asked for by Launch
	reset    bool
	restored Slot // by Recover, not told yet
	cut      bool // power is gone: nothing is done any more
	gone     bool // another kernel was started
	life     int  // actions until that; 0 = no cut
	hook     func(n int)
	acts     int  // actions so far
	offline  bool // no verdicts
	locked   bool // the reboot lock is refused

	journalWrites, varWrites int
	log                      []string // actions
	reports                  []string
	chain                    []string // what was started, in order
}

// vars is the NVRAM of a firmware.
type vars struct {
	entries bool
	order   []Slot
	next    Slot
	err     error // every write fails
	forgets bool  // writes are accepted and dropped
	deaf    bool  // BootNext is neither used nor deleted
	drops   bool  // BootNext is deleted and not used
}

var (
	v1 = Content{Version: "1.0", Image: Digest{1}, Epoch: 1}
	v2 = Content{Version: "2.0", Image: Digest{2}, Epoch: 2}
	v3 = Content{Version: "3.0", Image: Digest{3}, Epoch: 3}
)

// newMachine is a machine that has booted version 1.0 from slot a once.
func newMachine(t testing.TB, means Means) *machine {
	m := &machine{t: t, means: means, behave: map[string]Cause{}}
	m.holds[0] = v1
	if means == Firmware {
		m.vars = vars{entries: true, order: []Slot{A, B}}
	} else {
		r := Record{Good: A, Means: means, Slots: [2]Content{v1}}
		r.Slots[0].Condition = Good
		m.journal, _ = r.AppendBinary(nil)
	}
	m.power()
	m.journalWrites, m.varWrites, m.log, m.chain = 0, 0, nil, nil
	return m
}

func (m *machine) host() Host {
	return Host{Rules: m.rules, Actuators: [3]Actuator{firmware{m}, selector{m, true}, selector{m, false}}, Do: m.do}
}

var errCut = errors.New("power cut")

// alive counts an action, and is false when power is gone.
func (m *machine) alive() bool {
	if m.cut || m.gone {
		return false
	}
	m.acts++
	if m.hook != nil {
		m.hook(m.acts)
	}
	if m.life > 0 {
		if m.life--; m.life == 0 {
			m.cut = true
		}
	}
	return !m.cut
}

// says is what the journal holds at this moment.
func (m *machine) says() Record {
	r, _ := Parse(m.journal)
	return r
}

func (m *machine) do(a Action) error {
	if !m.alive() {
		return errCut
	}
	if a.Do == Report {
		m.reports = append(m.reports, a.Detail)
	}
	m.log = append(m.log, strings.TrimSpace(a.Do.String()+" "+strings.TrimPrefix(a.Slot.String(), "no slot")))
	switch a.Do {
	case WriteJournal:
		b, err := a.Record.AppendBinary(nil)
		if err != nil {
			m.t.Fatalf("record %+v: %v", a.Record, err)
		}
		m.journal, m.lost = b, false
		m.journalWrites++
	case WriteRejected:
		m.list, _ = EncodeRejections(a.Rejections)
	case Fill:
		if a.Slot == m.running || a.Slot == m.says().Good {
			m.t.Fatalf("%s is written: good is %s, %s runs", a.Slot, m.says().Good, m.running)
		}
		m.holds[a.Slot.index()], m.broken[a.Slot.index()] = a.Release, false
	case Recover:
		if a.Slot == m.running {
			m.t.Fatalf("%s is restored while it runs", a.Slot)
		}
		m.holds[a.Slot.index()], m.broken[a.Slot.index()] = a.Release, false
		m.restored = a.Slot
	case KeepBaseline:
		if m.unkept != nil {
			return m.unkept
		}
		m.before = a.Release.Image
	case TakeLock:
		if m.locked {
			return errors.New("another machine holds the lock")
		}
	case EraseEvidence:
		m.evidence = nil
	case RaiseFloor:
		if m.sealed != nil {
			return m.sealed
		}
		m.counter = max(m.counter, a.Floor)
	case Reset:
		m.reset = true
	}
	return nil
}

type firmware struct{ m *machine }

func (f firmware) write(text string, change func(*vars)) error {
	if !f.m.alive() {
		return errCut
	}
	f.m.log = append(f.m.log, text)
	f.m.varWrites++
	if f.m.vars.err != nil {
		return f.m.vars.err
	}
	if f.m.vars.forgets {
		return errors.New("the firmware did not keep the value")
	}
	change(&f.m.vars)
	return nil
}

func (f firmware) SetDefault(first, second Slot) error {
	if r := f.m.says(); r.Good != None && (r.Good != first || r.Of(first).Condition != Good) {
		f.m.t.Fatalf("%s becomes the default, the journal says %s is good", first, r.Good)
	}
	if f.m.vars.entries && slices.Equal(f.m.vars.order, []Slot{first, second}) {
		return nil // package nvram writes only what differs
	}
	return f.write("set-default "+first.String(), func(v *vars) { v.entries, v.order = true, []Slot{first, second} })
}

func (f firmware) SetNext(s Slot) error {
	if r := f.m.says(); s != None && r.Good != None && s != r.Good && (r.Phase != Armed || r.Candidate != s) {
		f.m.t.Fatalf("%s is tried, the journal is in %s", s, r.Phase)
	} else if s != None && s == r.Candidate && f.m.before != r.Of(s).Image {
		f.m.t.Fatalf("%s is tried, and there is no baseline of its own", s)
	}
	return f.write("set-next "+s.String(), func(v *vars) { v.next = s })
}

func (f firmware) Launch(Slot) error { return errors.New("the firmware starts slots by itself") }

// selector is the actuator of kexec and of the netboot server alike: what it
// launches runs next.
type selector struct {
	m     *machine
	kexec bool // nothing is done after it
}

func (s selector) SetDefault(Slot, Slot) error { return nil }
func (s selector) SetNext(Slot) error          { return nil }
func (s selector) Launch(x Slot) error {
	if !s.m.alive() {
		return errCut
	}
	if !s.m.loads(x) {
		return errors.New("no boot file")
	}
	s.m.log = append(s.m.log, "launch "+x.String())
	s.m.launch, s.m.gone = x, s.kexec
	return nil
}

func (m *machine) loads(x Slot) bool {
	c := m.holds[x.index()]
	why := m.behave[c.Version]
	return c.Version != "" && !m.broken[x.index()] && why != CorruptPE && why != WrongSignature
}

// power switches on and goes on until a system stays up; it fails the test when
// that takes more than 12 boots.
func (m *machine) power() {
	m.t.Helper()
	m.cut, m.life = false, 0
	for range 12 {
		m.reset, m.launch = false, None
		m.start()
		if !m.reset {
			return
		}
	}
	m.t.Fatalf("does not come to rest: %v", m.chain)
}

// start is one boot by UEFI's rules, or by the selector's.
func (m *machine) start() {
	if m.means == Firmware && !m.stray {
		try := m.vars.order
		if n := m.vars.next; n != None && !m.vars.deaf {
			m.vars.next = None
			if !m.vars.drops {
				try = append([]Slot{n}, try...)
			}
		}
		for _, x := range try {
			if m.vars.entries && m.loads(x) {
				m.run(x)
				return
			}
			if why := m.behave[m.holds[x.index()].Version]; why == CorruptPE || why == WrongSignature {
				m.evidence = append(m.evidence, Evidence{Cause: why})
			}
		}
	}
	m.chain = append(m.chain, "selector")
	m.boot(None)
	m.follow()
}

// follow runs what Launch asked for.
func (m *machine) follow() {
	for range 4 {
		if m.launch == None || m.reset {
			return
		}
		x := m.launch
		m.launch = None
		m.run(x)
	}
}

// run is a slot's kernel and init.
func (m *machine) run(x Slot) {
	v := m.holds[x.index()].Version
	m.chain = append(m.chain, fmt.Sprintf("%s=%s", x.letter(), v))
	switch why := m.behave[v]; why {
	case Panic, CorruptRoot:
		m.evidence = append(m.evidence, Evidence{Cause: why, Detail: "before init"})
		m.reset = true
		return
	case LostBeforeInit:
		m.reset = true
		return
	case Hang, InitExit:
		m.boot(x)
		m.evidence = append(m.evidence, Evidence{Cause: why})
		m.reset = true
		return
	}
	m.boot(x)
	m.follow()
	if m.running == x && !m.reset {
		m.check(x)
	}
}

// check lets the checks answer until a trial is over.
func (m *machine) check(x Slot) {
	why := m.behave[m.holds[x.index()].Version]
	for up := 10 * time.Second; up < 20*time.Minute && m.state.Phase == Trying && !m.reset && !m.cut; up += time.Minute {
		if !m.offline {
			m.give(Event{Kind: Verdict, OK: why != NotAttested, Detail: "image.unknown"})
		}
		m.give(Event{Kind: Checked, OK: why == NoCause || why == NotAttested, Cause: why, Uptime: up})
	}
}

// boot gives the first event of a boot.
func (m *machine) boot(x Slot) {
	b := Boot{Running: x, View: View{m.vars.entries, m.vars.order, m.vars.next}, Damaged: m.broken, Baseline: m.before, Counter: m.counter, Polluted: m.polluted}
	m.running, m.restored, m.gone = x, None, false
	if x != None {
		b.Content = m.holds[x.index()]
		b.Evidence = slices.Clone(m.evidence)
	}
	m.state = State{Record: Record{Means: m.means}}
	switch r, err := Parse(m.journal); {
	case m.lost:
		b.Journal = JournalLost
	case m.journal == nil:
		b.Journal = JournalEmpty
	case err != nil:
		m.t.Fatal(err)
	default:
		m.state.Record = r
	}
	m.state.Rejections, _ = ParseRejections(m.list)
	m.give(Event{Kind: Booted, Boot: b})
}

func (m *machine) give(e Event) {
	if m.cut {
		return
	}
	m.state, _ = m.host().Handle(m.state, e)
	m.invariants(e)
	if x := m.restored; x != None && !m.cut {
		m.restored = None
		m.give(Event{Kind: Restored, Slot: x})
	}
}

// invariants hold after every event of every test.
func (m *machine) invariants(e Event) {
	s := m.state
	if m.counter < m.floor {
		m.t.Fatalf("after %s: the floor fell from %d to %d", e.Kind, m.floor, m.counter)
	}
	if s.Floor < m.floor && s.Good != None {
		m.t.Fatalf("after %s: the journal's floor fell from %d to %d", e.Kind, m.floor, s.Floor)
	}
	if m.counter > m.floor && m.counter > s.Of(s.Good).Epoch {
		m.t.Fatalf("after %s: floor %d is above the good slot's epoch %d", e.Kind, m.counter, s.Of(s.Good).Epoch)
	}
	m.floor = m.counter
	if s.Good == None || s.Unjournalled {
		return
	}
	if c := s.Of(s.Good).Condition; c != Good && !(c == Damaged || s.Recovering) {
		m.t.Fatalf("after %s: good %s is %s", e.Kind, s.Good, c)
	}
	if s.Candidate == s.Good || s.Phase.hasCandidate() && s.Candidate == None {
		m.t.Fatalf("after %s: candidate %s beside good %s in %s", e.Kind, s.Candidate, s.Good, s.Phase)
	}
	if lines := s.Why(); len(lines) > 20 {
		m.t.Fatalf("Why has %d lines", len(lines))
	}
}

// update stages, writes and tries a release.
func (m *machine) update(c Content) {
	m.t.Helper()
	m.stage(c)
	m.give(Event{Kind: Approve})
	if m.reset {
		m.power()
	}
}

func (m *machine) stage(c Content) {
	m.give(Event{Kind: Stage, Release: c})
	if m.state.Phase == Staging {
		m.give(Event{Kind: Written, OK: true})
	}
}

// rest tries again as often as the machine allows.
func (m *machine) rest() {
	for range 10 {
		if m.state.Phase != Failed {
			return
		}
		m.give(Event{Kind: Approve})
		m.power()
	}
}

func (m *machine) want(running Slot, version string, phase Phase) {
	m.t.Helper()
	got := fmt.Sprintf("%s %s %s", m.running, m.holds[m.running.index()].Version, m.state.Phase)
	if want := fmt.Sprintf("%s %s %s", running, version, phase); got != want {
		m.t.Fatalf("got %s, want %s\nchain %v\nlog %s\n%s", got, want, m.chain, strings.Join(m.log, "; "), strings.Join(m.state.Why(), "\n"))
	}
}
