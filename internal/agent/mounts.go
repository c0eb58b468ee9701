package agent

import (
	"errors"
	"os"

	"github.com/u-root/u-root/pkg/libinit"
	"golang.org/x/sys/unix"
)

const (
	noExec = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	noDev  = unix.MS_NOSUID | unix.MS_NODEV
)

// early are the file systems without which nothing can be said or found. Of
// libinit only the building blocks are used: its own CreateRootfs also mounts
// debugfs and version 1 cgroups, makes eight directories of a Go development
// system and copies /etc onto a tmpfs.
var early = []libinit.Creator{
	libinit.Dir{Name: "/proc", Mode: 0o555},
	libinit.Mount{Source: "proc", Target: "/proc", FSType: "proc", Flags: noExec},
	libinit.Dir{Name: "/sys", Mode: 0o555},
	libinit.Mount{Source: "sysfs", Target: "/sys", FSType: "sysfs", Flags: noExec},
	libinit.Dir{Name: "/dev", Mode: 0o755},
	libinit.Mount{Source: "devtmpfs", Target: "/dev", FSType: "devtmpfs", Flags: unix.MS_NOSUID, Opts: "mode=0755"},
}

// usual are the rest. /run and /tmp are tmpfs although / is memory too: they
// get a size limit, so a service cannot fill the machine's memory with files.
var usual = []libinit.Creator{
	libinit.Dir{Name: "/dev/pts", Mode: 0o755},
	libinit.Mount{Source: "devpts", Target: "/dev/pts", FSType: "devpts", Flags: unix.MS_NOSUID | unix.MS_NOEXEC, Opts: "newinstance,ptmxmode=0666,mode=620,gid=5"},
	libinit.Symlink{NewPath: "/dev/ptmx", Target: "pts/ptmx"},
	libinit.Symlink{NewPath: "/dev/fd", Target: "/proc/self/fd"},
	libinit.Symlink{NewPath: "/dev/stdin", Target: "/proc/self/fd/0"},
	libinit.Symlink{NewPath: "/dev/stdout", Target: "/proc/self/fd/1"},
	libinit.Symlink{NewPath: "/dev/stderr", Target: "/proc/self/fd/2"},
	libinit.Dir{Name: "/dev/shm", Mode: 0o1777},
	libinit.Mount{Source: "shm", Target: "/dev/shm", FSType: "tmpfs", Flags: noExec, Opts: "mode=1777"},
	libinit.Dir{Name: "/run", Mode: 0o755},
	libinit.Mount{Source: "run", Target: "/run", FSType: "tmpfs", Flags: noDev, Opts: "mode=0755,size=25%"},
	libinit.Dir{Name: "/tmp", Mode: 0o1777},
	libinit.Mount{Source: "tmp", Target: "/tmp", FSType: "tmpfs", Flags: noDev, Opts: "mode=1777,size=50%"},
	libinit.Mount{Source: "cgroup2", Target: "/sys/fs/cgroup", FSType: "cgroup2", Flags: noExec},
	libinit.Mount{Source: "securityfs", Target: "/sys/kernel/security", FSType: "securityfs", Flags: noExec},
}

// create makes all of a list and returns what did not work.
func create(list []libinit.Creator) error {
	defer unix.Umask(unix.Umask(0))
	var errs []error
	for _, c := range list {
		err := c.Create()
		if m, ok := c.(libinit.Mount); ok && errors.Is(err, unix.EBUSY) && m.FSType == "devtmpfs" {
			err = nil // CONFIG_DEVTMPFS_MOUNT may have been faster
		}
		if err != nil {
			errs = append(errs, &os.PathError{Op: "create", Path: c.String(), Err: err})
		}
	}
	return errors.Join(errs...)
}

// sysctls are set before anything that can go wrong. Names are below
// /proc/sys.
var sysctls = []struct{ name, value string }{
	{"kernel/panic", "10"},               // seconds until reset
	{"kernel/panic_on_oops", "1"},        // half a kernel is not healthy
	{"kernel/ctrl-alt-del", "0"},         // tell init instead of resetting
	{"kernel/kptr_restrict", "1"},        // addresses only with CAP_SYSLOG
	{"kernel/dmesg_restrict", "1"},       // likewise the kernel log
	{"kernel/yama/ptrace_scope", "1"},    // services do not read each other
	{"fs/protected_symlinks", "1"},       //
	{"fs/protected_hardlinks", "1"},      //
	{"net/ipv4/conf/all/rp_filter", "2"}, // loose: bonds and two uplinks work
	{"net/ipv4/tcp_syncookies", "1"},     //
	{"vm/panic_on_oom", "0"},             // the OOM killer takes a service, supervision restarts it
}

func setSysctls() error {
	var errs []error
	for _, s := range sysctls {
		err := os.WriteFile("/proc/sys/"+s.name, []byte(s.value), 0)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// kexecDisabled is the switch of kexec, which can be set once and not taken back.
const kexecDisabled = "/proc/sys/kernel/kexec_load_disabled"

// endKexec sees that there will be no second kernel behind the measured one. Only
// the choice of the slot, which ends before any service starts, may need one.
func (m *Machine) endKexec() {
	err := os.WriteFile(kexecDisabled, []byte("1"), 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		m.problem("prepare: %v", err)
	}
}
