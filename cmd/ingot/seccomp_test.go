package main

import (
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// privileged are the system calls of a builder that mounts, makes devices or
// namespaces, or loads modules.
var privileged = []uint32{
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_UNSHARE, unix.SYS_SETNS,
	unix.SYS_FSOPEN, unix.SYS_FSMOUNT, unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE, unix.SYS_MOUNT_SETATTR,
	unix.SYS_MKNODAT, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_SETUID, unix.SYS_SETRESUID, unix.SYS_BPF,
}

// namespaces are the flags of clone(2) that make one.
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// forbid installs a seccomp filter (seccomp(2)) on this thread, which what it
// executes inherits: a process that makes one of the calls, or a namespace by
// clone, is killed. The flags of clone3 lie in memory that no filter can read,
// so there is no clone3; libraries fall back to clone.
func forbid(calls []uint32) error {
	const nr, arg0 = 0, 16 // offsets in struct seccomp_data; the low half of the argument
	const (
		load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		anyBit = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		answer = unix.BPF_RET | unix.BPF_K
	)
	kill := unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_KILL_PROCESS}
	program := []unix.SockFilter{{Code: load, K: nr}}
	for _, c := range calls {
		program = append(program, unix.SockFilter{Code: equal, Jf: 1, K: c}, kill)
	}
	program = append(program,
		unix.SockFilter{Code: equal, Jf: 1, K: unix.SYS_CLONE3},
		unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		unix.SockFilter{Code: equal, Jf: 3, K: unix.SYS_CLONE},
		unix.SockFilter{Code: load, K: arg0},
		unix.SockFilter{Code: anyBit, Jf: 1, K: namespaces},
		kill,
		unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_ALLOW})
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0)
	runtime.KeepAlive(program)
	return err
}

// TestPlainCallsOnly (B3) builds a recipe with Go code and an empty cache where
// mounting, namespaces, devices and a change of user are death, for ingot and
// for the Go toolchain that it runs.
func TestPlainCallsOnly(t *testing.T) {
	f := warm(t)
	recipe, want := f.built(t, "squashfs")
	w := newWorld(t, f, recipe)
	w.cache, w.elsewhere = f.cold(t), []string{"--plain"}
	same(t, want, w.build(t, f))

	sinner := child(f.exe, w.dir, nil, "version")
	sinner.Args = []string{"elsewhere", "--plain", "--sin", "--", "version"}
	finish(sinner)
	if status := sinner.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != unix.SIGSYS {
		t.Errorf("a process that makes a namespace ended with %v, want death by SIGSYS", sinner.ProcessState)
	}
}
