package disk

import (
	"os"
	"testing"
)

func BenchmarkFormat(b *testing.B) {
	f, err := os.Create(b.TempDir() + "/p7")
	if err != nil {
		b.Fatal(err)
	}
	if err := f.Truncate(1 << 30); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := Format(Device{f}, 1<<30); err != nil {
			b.Fatal(err)
		}
	}
}
