package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain makes the test binary the program under another name: "ingot" is
// main itself, "elsewhere" changes the process it runs in and then becomes
// ingot. So scripts and child processes run this very code.
func TestMain(m *testing.M) {
	testscript.Main(suite{m}, map[string]func(){"ingot": ingot, "elsewhere": elsewhere})
}

// suite removes the fixture after the last test.
type suite struct{ *testing.M }

func (s suite) Run() int {
	defer removeFixture()
	return s.M.Run()
}

func ingot() {
	if shift := os.Getenv("INGOT_TEST_CLOCK"); shift != "" {
		moveClock(shift)
	}
	main()
}
