package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// elsewhere changes the process it is in (umask, host name, mounts, root
// directory, user) and becomes ingot with the remaining arguments. What needs a namespace expects
// that the parent made one (SysProcAttr.Cloneflags).
func elsewhere() {
	f := flag.NewFlagSet("elsewhere", flag.ExitOnError)
	umask := f.Int("umask", -1, "")
	host := f.String("host", "", "")
	tmpfs := f.String("tmpfs", "", "mount a small tmpfs here")
	size := f.String("size", "1m", "")
	readonly := f.String("readonly", "", "make this directory read-only")
	noNet := f.Bool("no-net", false, "")
	list := f.String("list", "", "run ingot as a child and print what this directory holds then")
	root := f.String("chroot", "", "directory that holds bin/ingot")
	uid := f.Int("uid", -1, "")
	plain := f.Bool("plain", false, "die at a system call that mounts or makes a namespace")
	sin := f.Bool("sin", false, "make such a call")
	f.Parse(os.Args[1:])

	runtime.LockOSThread()
	if *noNet {
		must(unix.Unshare(unix.CLONE_NEWNET))
	}
	if *umask >= 0 {
		syscall.Umask(*umask)
	}
	if *host != "" {
		must(syscall.Sethostname([]byte(*host)))
	}
	if *tmpfs != "" || *readonly != "" {
		must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	}
	if *tmpfs != "" {
		must(unix.Mount("tmpfs", *tmpfs, "tmpfs", 0, "size="+*size))
	}
	if *readonly != "" {
		must(unix.Mount(*readonly, *readonly, "", unix.MS_BIND, ""))
		must(unix.Mount("", *readonly, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
	}
	exe, err := os.Executable()
	must(err)
	exe = filepath.Join(filepath.Dir(exe), "ingot")
	if *root != "" {
		must(syscall.Chroot(*root))
		must(syscall.Chdir("/"))
		exe = "/bin/ingot"
	}
	if *uid >= 0 {
		must(syscall.Setgroups(nil))
		must(syscall.Setgid(*uid))
		must(syscall.Setuid(*uid))
	}
	if *plain {
		must(forbid(privileged))
	}
	if *sin {
		unix.Unshare(unix.CLONE_NEWUSER)
	}
	if *list != "" {
		runAndList(exe, f.Args(), *list)
	}
	must(syscall.Exec(exe, append([]string{"ingot"}, f.Args()...), os.Environ()))
}

// runAndList prints the names in a directory that only this process can see,
// and exits as ingot does.
func runAndList(exe string, args []string, dir string) {
	cmd := exec.Command(exe, args...)
	cmd.Stderr = os.Stderr
	cmd.Run()
	entries, err := os.ReadDir(dir)
	must(err)
	for _, e := range entries {
		fmt.Println(e.Name())
	}
	os.Exit(cmd.ProcessState.ExitCode())
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "elsewhere:", err)
		os.Exit(99)
	}
}

// needRoot skips a test that must mount, change the user or name the host. No
// package gives that, so INGOT_REQUIRE_TOOLS does not ask for it.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
}

// movedClock keeps the replacement of time.Now alive.
var movedClock func() time.Time

// moveClock makes time.Now of this process answer with another time. The
// kernel's clock cannot be moved for one process (a time namespace shifts the
// monotonic clocks only) and a static program has no library to replace, so
// the first instructions of time.Now become a jump: mov rdx, closure; jmp [rdx].
func moveClock(shift string) {
	d, err := time.ParseDuration(shift)
	must(err)
	if runtime.GOARCH != "amd64" {
		must(fmt.Errorf("moving the clock is written for amd64"))
	}
	movedClock = func() time.Time {
		var ts unix.Timespec
		must(unix.ClockGettime(unix.CLOCK_REALTIME, &ts))
		return time.Unix(ts.Unix()).Add(d)
	}
	now := time.Now
	code := **(**uintptr)(unsafe.Pointer(&now))
	closure := *(*uintptr)(unsafe.Pointer(&movedClock))
	jump := []byte{0x48, 0xba, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0x22}
	for i := range 8 {
		jump[2+i] = byte(closure >> (8 * i))
	}
	page := uintptr(os.Getpagesize())
	first := code &^ (page - 1)
	text := unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(nil), first)), 2*page)
	must(unix.Mprotect(text, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC))
	copy(text[code-first:], jump)
	must(unix.Mprotect(text, unix.PROT_READ|unix.PROT_EXEC))
}
