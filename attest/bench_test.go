package attest_test

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/internal/simhost"
)

// evidences are one boot under Secure Boot as a virtual machine logs it, and as
// a server does.
func evidences(t testing.TB) []attest.Case {
	t.Helper()
	b, err := os.ReadFile("testdata/reference-257.json")
	if err != nil {
		t.Fatal(err)
	}
	var ref attest.Reference
	if err := json.Unmarshal(b, &ref); err != nil {
		t.Fatal(err)
	}
	small, err := simhost.ReadBoot("testdata/boot-257-secureboot.json")
	if err != nil {
		t.Fatal(err)
	}
	large, err := small.Server()
	if err != nil {
		t.Fatal(err)
	}
	var out []attest.Case
	for _, boot := range []*simhost.Boot{small, large} {
		h, err := simhost.New("host", boot)
		if err != nil {
			t.Fatal(err)
		}
		c := attest.Challenge{Nonce: []byte("a nonce of this test"), ChannelKey: []byte("channel")}
		e, err := h.Evidence(c, pcr.SHA256, attest.DefaultPCRs)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, attest.Case{Evidence: e, References: []attest.Reference{ref}, Record: h.Record(), Challenge: c, Now: time.Unix(0, 0),
			Policy: attest.Policy{SecureBoot: true, Keys: []attest.Keys{boot.Keys()}}})
	}
	return out
}

// maxAllocations of one verdict, whatever the size of the log.
const maxAllocations = 300

// TestAllocations keeps the work of one verdict from growing unseen.
func TestAllocations(t *testing.T) {
	for _, c := range evidences(t) {
		n := testing.AllocsPerRun(10, func() {
			if v := attest.Verify(c); !v.Trusted {
				t.Fatal(v.Findings)
			}
		})
		if n > maxAllocations {
			t.Errorf("%d bytes of log: %v allocations, want at most %d", len(c.Evidence.EventLog), n, maxAllocations)
		}
	}
}

// BenchmarkVerify is one core judging quote, log and policy.
func BenchmarkVerify(b *testing.B) {
	for _, c := range evidences(b) {
		b.Run(fmt.Sprintf("%dKB", len(c.Evidence.EventLog)/1000), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if v := attest.Verify(c); !v.Trusted {
					b.Fatal(v.Findings)
				}
			}
		})
	}
}

// BenchmarkParseEvidence is reading the document that comes over the wire.
func BenchmarkParseEvidence(b *testing.B) {
	for _, c := range evidences(b) {
		text, err := json.Marshal(c.Evidence)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("%dKB", len(c.Evidence.EventLog)/1000), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if _, err := attest.ParseEvidence(text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
