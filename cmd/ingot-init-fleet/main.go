// Command ingot-init-fleet is PID 1 of an appliance that attests to a server,
// takes updates or encrypts its data: ingot-init with what that takes, TLS and
// all of the TPM. internal/initbin says which image gets which.
package main

import (
	"fmt"
	"os"
	"runtime"

	"github.com/ingot-os/ingot/internal/agent"
	"github.com/ingot-os/ingot/internal/agent/attester"
	"github.com/ingot-os/ingot/internal/agent/crypt"
	"github.com/ingot-os/ingot/internal/agent/updater"
)

// See cmd/ingot-init.
func init() { runtime.LockOSThread() }

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "ingot-init-fleet: error: this program is PID 1 of an appliance and does nothing elsewhere")
		os.Exit(2)
	}
	agent.Run(agent.Options{Attest: attester.Run, Crypt: crypt.Sealer{}, Update: updater.Run,
		Diskless: agent.NewDiskless(attester.Machine, updater.RunDiskless)})
}
