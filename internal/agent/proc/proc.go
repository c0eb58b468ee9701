// Package proc starts and reaps processes for PID 1.
//
// A process is started from a thread of its own that is given, one by one, the
// properties the process is to inherit (mount namespace, umask, capability
// bounding set, no-new-privs) and that ends right after the fork. This needs
// no helper program and no second exec of a multi-megabyte init, which under
// emulation costs more than the service's own start.
//
// All exits are collected by one Reaper, which also buries orphans; nothing
// else in the program may wait for children (so no os/exec).
package proc

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Command is a program to run. Path, Args and Env are as for execve(2); the
// zero value of the other fields is the safe choice: root without any
// capability, umask 022, / as directory.
type Command struct {
	Path   string
	Args   []string // without argv[0]
	Env    []string
	Dir    string
	UID    uint32
	GID    uint32
	Caps   []uintptr  // kept in the bounding set and raised as ambient; all others are dropped
	Cgroup string     // in a cgroup2 file system: the run gets a directory of this name and a number; "" = the caller's
	Space  *Namespace // nil: the caller's mount namespace
	Stdout *os.File   // also stderr; closed by the caller after Start; nil = /dev/null
}

// Process is a started Command.
type Process struct {
	PID    int
	Done   <-chan struct{} // closed when the process has ended
	status syscall.WaitStatus
	cgroup string
}

// Start runs the command. The answer comes after execve: a missing program or
// a refused namespace is an error here, not an exit status.
func (r *Reaper) Start(c Command) (*Process, error) {
	p, err := r.startGroup(c)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}
	return p, nil
}

func (r *Reaper) startGroup(c Command) (*Process, error) {
	if c.Cgroup != "" {
		c.Cgroup = fmt.Sprintf("%s.%d", c.Cgroup, r.runs.Add(1))
		if err := os.MkdirAll(c.Cgroup, 0o755); err != nil {
			return nil, err
		}
	}
	var p *Process
	err := onThread(func() (err error) {
		p, err = r.start(c)
		return err
	})
	if err != nil {
		os.Remove(c.Cgroup) // empty, or it was never made
		return nil, err
	}
	p.cgroup = c.Cgroup
	return p, nil
}

// start runs on a thread that ends with it.
func (r *Reaper) start(c Command) (*Process, error) {
	attr, closeFiles, err := c.procAttr()
	if err != nil {
		return nil, err
	}
	defer closeFiles()
	if err := c.taintThread(); err != nil {
		return nil, err
	}
	argv := append([]string{c.Path}, c.Args...)
	return r.fork(func() (int, error) { return syscall.ForkExec(c.Path, argv, attr) })
}

func (c Command) procAttr() (*syscall.ProcAttr, func(), error) {
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	out := null
	if c.Stdout != nil {
		out = c.Stdout
	}
	dir := c.Dir
	if dir == "" {
		dir = "/"
	}
	sys := &syscall.SysProcAttr{
		Setsid:      true, // own session and process group; no controlling terminal
		Credential:  &syscall.Credential{Uid: c.UID, Gid: c.GID},
		AmbientCaps: c.Caps,
	}
	attr := &syscall.ProcAttr{Dir: dir, Env: c.Env, Files: []uintptr{null.Fd(), out.Fd(), out.Fd()}, Sys: sys}
	if c.Cgroup == "" {
		return attr, func() { null.Close() }, nil
	}
	group, err := os.Open(c.Cgroup)
	if err != nil {
		null.Close()
		return nil, nil, err
	}
	sys.UseCgroupFD, sys.CgroupFD = true, int(group.Fd())
	return attr, func() { null.Close(); group.Close() }, nil
}

// taintThread gives the calling thread what the child inherits. The order
// matters: entering a mount namespace needs CAP_SYS_ADMIN, dropping from the
// bounding set needs CAP_SETPCAP, both of which stay effective on this thread
// until the child's execve.
func (c Command) taintThread() error {
	// umask, root and working directory are shared between threads until then.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare file system context: %w", err)
	}
	if c.Space != nil {
		if err := c.Space.enter(); err != nil {
			return err
		}
	}
	unix.Umask(0o022)
	if err := dropBounding(c.Caps); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no-new-privs: %w", err)
	}
	return nil
}

func dropBounding(keep []uintptr) error {
	kept := map[uintptr]bool{}
	for _, c := range keep {
		kept[c] = true
	}
	for c := uintptr(0); c < 64; c++ {
		if kept[c] {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			return nil // past the kernel's last capability
		}
		if err != nil {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	return nil
}

// Signal sends a signal to the process group.
func (p *Process) Signal(sig syscall.Signal) error {
	if err := syscall.Kill(-p.PID, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("signal %d: %w", p.PID, err)
	}
	return nil
}

// Kill ends the process group and, when the process has its own cgroup,
// everything else it has started.
func (p *Process) Kill() error {
	return errors.Join(p.Signal(syscall.SIGKILL), p.killGroup())
}

func (p *Process) killGroup() error {
	if p.cgroup == "" {
		return nil
	}
	err := os.WriteFile(p.cgroup+"/cgroup.kill", []byte("1"), 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil // removed, or a kernel before 5.14: then the Reaper buries them when they end
	}
	return err
}

// Clean ends what the ended process left running in its cgroup and removes the
// cgroup. It waits up to two seconds for those processes.
//
// A cgroup is never used again: Linux 6.12 kills every process that is cloned
// into a cgroup which has seen cgroup.kill, because it compares the kill
// sequence of the target with the parent's (seen with 6.12.107).
func (p *Process) Clean() {
	if p.cgroup == "" {
		return
	}
	for range 100 {
		if err := os.Remove(p.cgroup); err == nil || errors.Is(err, os.ErrNotExist) {
			return
		}
		if p.killGroup() != nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// OK reports whether the process ended with status 0. Valid after Done.
func (p *Process) OK() bool { return p.status.Exited() && p.status.ExitStatus() == 0 }

// Code is the exit status, 128 plus the signal after a signal. Valid after Done.
func (p *Process) Code() int {
	if p.status.Signaled() {
		return 128 + int(p.status.Signal())
	}
	return p.status.ExitStatus()
}

// Exit says how the process ended, for people. Valid after Done.
func (p *Process) Exit() string {
	switch {
	case p.status.Signaled():
		return fmt.Sprintf("killed by signal %d (%s)", p.status.Signal(), p.status.Signal())
	case p.status.ExitStatus() == 0:
		return "exited"
	}
	return fmt.Sprintf("exited with status %d", p.status.ExitStatus())
}

// WaitFor reports whether the process ends within d.
func (p *Process) WaitFor(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-p.Done:
		return true
	case <-t.C:
		return false
	}
}

// Capability returns the number of a capability named as in capabilities(7),
// with or without the prefix CAP_.
func Capability(name string) (uintptr, error) {
	for i, n := range capNames {
		if n == strings.TrimPrefix(strings.ToUpper(name), "CAP_") {
			return uintptr(i), nil
		}
	}
	return 0, fmt.Errorf("capability %q: no such name", name)
}

// capNames is include/uapi/linux/capability.h in order.
var capNames = strings.Fields(`CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP
	LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO
	SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE
	AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON
	BPF CHECKPOINT_RESTORE`)
