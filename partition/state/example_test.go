package state_test

import (
	"fmt"
	"os"

	"github.com/ingot-os/ingot/partition/state"
)

// A region is replaced as a whole; the last record that was written wins.
func Example() {
	f, err := os.CreateTemp("", "state")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := f.Truncate(state.Size); err != nil {
		fmt.Println(err)
	}
	for _, host := range []string{"hostname: edge-1\n", "hostname: edge-2\n"} {
		if err := state.Store(f, state.Machine, []byte(host)); err != nil {
			fmt.Println(err)
		}
	}
	b, seq, err := state.Load(f, state.Machine)
	fmt.Printf("%d %q %v\n", seq, b, err)
	// Output: 2 "hostname: edge-2\n" <nil>
}
