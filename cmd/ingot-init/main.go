// Command ingot-init is PID 1 of an appliance: /init in its initramfs. It takes
// no arguments; internal/agent describes what it does. Images that attest or
// encrypt their data get ingot-init-fleet instead.
package main

import (
	"fmt"
	"os"
	"runtime"

	"github.com/ingot-os/ingot/internal/agent"
)

// The main thread is the one that /proc/1 shows and the kernel signals. It is
// kept for the main goroutine, so that no service start lends its properties.
func init() { runtime.LockOSThread() }

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "ingot-init: error: this program is PID 1 of an appliance and does nothing elsewhere")
		os.Exit(2)
	}
	agent.Run(agent.Options{})
}
