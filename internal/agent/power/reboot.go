package power

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// ErrNotInit means that a process other than the first one wanted to end the machine.
var ErrNotInit = errors.New("only process 1 ends the machine")

// Reboot calls reboot(2) with one of its commands. It returns only when the kernel
// refuses, and does nothing for a process that is not the machine's first: a test of
// init that fails must not reset the computer it runs on.
func Reboot(cmd int) error {
	if os.Getpid() != 1 {
		return ErrNotInit
	}
	return unix.Reboot(cmd)
}
