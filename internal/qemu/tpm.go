package qemu

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// startTPM starts swtpm on a control socket made beforehand and returns
// QEMU's end of it. QEMU sends the data socket through it and initialises the
// TPM; swtpm ends when QEMU does.
func startTPM(dir string, active []uint16) (*process, *os.File, error) {
	program, err := findTPM()
	if err != nil {
		return nil, nil, err
	}
	if err := manufacture(program, dir, active); err != nil {
		return nil, nil, err
	}
	ours, theirs, err := socketPair("tpm")
	if err != nil {
		return nil, nil, err
	}
	p, err := start(program, []string{"socket", "--tpm2", "--tpmstate", "dir=" + dir,
		"--ctrl", "type=unixio,clientfd=3", "--terminate"}, theirs)
	if err != nil {
		ours.Close()
		return nil, nil, err
	}
	return p, ours, nil
}

// socketPair gives two connected stream sockets, closed in other children.
func socketPair(name string) (a, b *os.File, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("create socket: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name), nil
}

// findProgram is exec.LookPath with the package's name in the error.
func findProgram(arch string) (string, error) {
	p := packages[arch]
	path, err := exec.LookPath(p.program)
	if errors.Is(err, exec.ErrNotFound) {
		return "", &MissingError{[]Missing{{p.program, p.qemu, "to run " + arch}}}
	}
	return path, err
}
