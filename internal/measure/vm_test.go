package measure

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingot-os/ingot/attest/eventlog"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/phase"
	"github.com/ingot-os/ingot/attest/predict"
	"github.com/ingot-os/ingot/attest/statement"
	"github.com/ingot-os/ingot/internal/qemu"
)

// evidence is what testdata/evidence serves.
type evidence struct {
	Log     []byte                    `json:"log"`
	InitLog []byte                    `json:"initLog"`
	Cmdline string                    `json:"cmdline"`
	PCRs    map[string]map[int]string `json:"pcrs"`

	console string
}

const bootLimit = 6 * time.Minute

// record starts the machine and asks for its evidence.
func record(t *testing.T, m qemu.Machine) evidence {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	m.Arch, m.TPM, m.Accel = cmp.Or(m.Arch, qemu.AMD64), true, qemu.AccelTCG
	m.Banks = []uint16{qemu.SHA1, qemu.SHA256, qemu.SHA384}
	m.Forwards = []qemu.Forward{{Guest: 8080}}
	vm, err := qemu.Start(ctx, m)
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	var e evidence
	for {
		body, err := ask(ctx, "http://"+vm.Forward(8080))
		if err == nil {
			if err := json.Unmarshal(body, &e); err != nil {
				t.Fatalf("%v: %s", err, body)
			}
			e.console = string(vm.Console())
			return e
		}
		if ctx.Err() != nil {
			t.Fatalf("no evidence: %v\n%s", err, vm.Console())
		}
		time.Sleep(500 * time.Millisecond)
	}
}

func ask(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

// evidenceSets build testdata/evidence once for each boot loader.
var evidenceSets = map[string]func() (string, error){
	"firmware":     sync.OnceValues(func() (string, error) { return buildEvidence("firmware") }),
	"systemd-boot": sync.OnceValues(func() (string, error) { return buildEvidence("systemd-boot") }),
}

// scratch is where everything of this test process is.
var scratch string

// compare holds a prediction against a boot: every register and every event of
// it, in all banks.
func compare(t *testing.T, p *predict.Prediction, e evidence) {
	t.Helper()
	l, err := eventlog.Parse(e.Log)
	if err != nil {
		t.Fatal(err)
	}
	since := stated(t, e)
	n := 0
	for bank, values := range p.PCRs {
		s, err := l.Replay(bank)
		if err != nil {
			t.Fatal(err)
		}
		for i := range since.Events {
			if e := &since.Events[i]; e.Extends() {
				if err := s.Extend(int(e.PCR), e.Digest(bank)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if s.Compare(statement.PCR, register(t, e, bank, statement.PCR)) != pcr.Match {
			t.Errorf("%s PCR %d is not what ingot-init has logged\n%s", bank, statement.PCR, e.console)
		}
		for i, want := range values {
			if i == stubPCR {
				want = after(bank, want, phase.All())
			}
			value := register(t, e, bank, i)
			if v := s.Compare(i, value); !v.Explained() {
				t.Errorf("%s PCR %d: the log is %s", bank, i, v)
			}
			if !bytes.Equal(value, want) {
				t.Errorf("%s PCR %d: predicted %s, the TPM has %x", bank, i, want, value)
				events(t, l, p, bank, i)
			}
			n++
		}
	}
	if len(p.Open) == 0 && n != 6*len(p.PCRs) || n == 0 {
		t.Errorf("%d registers were compared", n)
	}
	if strings.TrimSpace(p.Cmdline) != e.Cmdline {
		t.Errorf("predicted the command line %q, the kernel has %q", p.Cmdline, e.Cmdline)
	}
}

// stubPCR is what ingot-init extends by how far the boot has come.
const stubPCR = 11

// after is a register that words have been measured into.
func after(bank pcr.Bank, value pcr.Digest, words []string) pcr.Digest {
	for _, w := range words {
		value = bank.Sum(append(bytes.Clone(value), bank.Sum([]byte(w))...))
	}
	return value
}

func register(t *testing.T, e evidence, bank pcr.Bank, i int) pcr.Digest {
	t.Helper()
	value, err := hex.DecodeString(e.PCRs[bank.String()][i])
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// stated is the log of ingot-init: a statement, then the words of its phases.
func stated(t *testing.T, e evidence) *eventlog.Log {
	t.Helper()
	l, err := eventlog.Parse(e.InitLog)
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for i := range l.Events {
		switch e := &l.Events[i]; {
		case e.PCR == statement.PCR:
			s, err := statement.Parse(e.Data)
			if err != nil {
				t.Error(err)
			}
			t.Logf("ingot-init states %+v", s)
		case e.PCR == stubPCR:
			words = append(words, string(e.Data))
		}
	}
	if !slices.Equal(words, phase.All()) {
		t.Errorf("ingot-init has measured the words %q, not %q", words, phase.All())
	}
	return l
}

// events prints both sequences of one register.
func events(t *testing.T, l *eventlog.Log, p *predict.Prediction, bank pcr.Bank, register int) {
	t.Helper()
	for _, e := range p.Events {
		if e.PCR == register {
			t.Logf("predicted %.16s %s", e.Digests[bank], e.Name)
		}
	}
	for i := range l.Events {
		if e := &l.Events[i]; e.PCR == uint32(register) && e.Extends() {
			t.Logf("logged    %.16s %s %.60q", e.Digest(bank), e.Type, e.Text())
		}
	}
}

var banks = []pcr.Bank{pcr.SHA1, pcr.SHA256, pcr.SHA384}

func must(t *testing.T, path string, o Options) *predict.Prediction {
	t.Helper()
	o.Banks = banks
	p, err := Of(path, o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
