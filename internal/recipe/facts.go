package recipe

import (
	"fmt"
	"io/fs"
	"time"
)

// Facts is what the lock and the cache know about a recipe's inputs. Every
// field may be absent: a rule that needs it is then listed as not checked.
type Facts struct {
	// Now is the time at which certificates must be valid: the present for a
	// person, the lock's epoch for a build, so that an old one can be repeated.
	// Waivers are compared with it, too. Zero: not checked.
	Now time.Time

	Kernel *KernelFacts

	// StubError is why no image can be made of the EFI stub; it may have a method
	// Hint. nil: nothing is known against it.
	StubError error

	Stub int64 // size of the EFI stub in bytes
	Init int64 // size of ingot-init in bytes
	UKI  int64 // size of the boot file in bytes, once it was built

	// Sizes are bytes in the initramfs by the name of the lock's input:
	// "go/hello", "uroot", "file/etc/app.conf", "firmware/firmware-realtek",
	// and "modules" for the selected kernel modules.
	Sizes map[string]int64

	RootSize  int64                  // root payload with its hash tree, in bytes
	RootFiles map[string]fs.FileMode // paths of the root payload, relative; nil = unknown
	Firmware  map[string][]string    // package -> names below lib/firmware
}

// KernelFacts describes a kernel package.
type KernelFacts struct {
	Package string            // as the lock names it, for messages
	Version string            // as in lib/modules/VERSION
	Image   int64             // size of vmlinuz in bytes; 0 = unknown
	Modules map[string]string // module name with underscores -> path below lib/modules/VERSION
	Builtin map[string]bool   // names built into the image, with underscores
	Config  map[string]string // CONFIG_X -> y, m or a value; nil = unknown
}

// has tells whether a driver is in the kernel or beside it.
func (k *KernelFacts) has(module string) bool {
	name := moduleName(module)
	return k.Builtin[name] || k.Modules[name] != ""
}

// Skipped is a rule that could not be applied, and why.
type Skipped struct{ Rule, Why string }

// String is one line for people.
func (s Skipped) String() string { return fmt.Sprintf("not checked: %s: %s", s.Rule, s.Why) }

// Report is the whole answer of a static check.
type Report struct {
	Errors   Errors // the appliance would not boot, or not do what the recipe says
	Warnings Errors // it works, but hardly as meant
	Skipped  []Skipped
}
