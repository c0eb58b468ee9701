package gpt_test

import (
	"fmt"
	"os"

	"github.com/ingot-os/ingot/partition/gpt"
)

// A table is a value; Plan shows what would be written, in which order.
func Example() {
	t := gpt.Table{
		SectorSize: 512, Size: 64 << 20,
		Disk: gpt.MustGUID("5b4a1c4e-9f0d-8c4e-9a51-0c2f4be5a001"),
		Partitions: []gpt.Partition{{
			Index: 1, Name: "esp", Type: gpt.TypeESP,
			GUID:  gpt.MustGUID("5b4a1c4e-9f0d-8c4e-9a51-0c2f4be5a002"),
			Start: 1 << 20, Size: 62 << 20,
		}},
	}
	steps, err := t.Plan()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	for _, s := range steps {
		fmt.Printf("%-14s %8d+%d\n", s.Name, s.Offset, len(s.Data))
	}
	// Output:
	// backup array   67091968+16384
	// backup header  67108352+512
	// protective mbr      446+66
	// primary array      1024+16384
	// primary header      512+512
}
