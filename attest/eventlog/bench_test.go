package eventlog

import (
	"testing"

	"github.com/ingot-os/ingot/attest/pcr"
)

// BenchmarkReplay reads and replays a log of the size that servers have: 83
// events, 34 KB.
func BenchmarkReplay(b *testing.B) {
	entries := []entry{startup(0)}
	for i := range 82 {
		entries = append(entries, entry{uint32(i % 8), PostCode, make([]byte, 330), []byte{byte(i)}})
	}
	log := agile(b, entries...)
	b.SetBytes(int64(len(log)))
	b.ReportAllocs()
	for b.Loop() {
		l, err := Parse(log)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := l.Replay(pcr.SHA256); err != nil {
			b.Fatal(err)
		}
	}
}
