package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// underFlag, as the first argument, makes this program the parent of a program that
// is measured. Linux counts what the parent had resident at execve(2) as memory of
// the child (signal->maxrss), and this program has had hundreds of MiB after imitating
// 5,000 hosts: a fresh process between the two has 20.
const underFlag = "-under"

// peakFile is the descriptor to which the parent writes what it has measured.
const peakFile = 3

// under is a command that runs args below a fresh process, and the file in which that
// leaves the peak of its memory.
func under(ctx context.Context, args []string) (*exec.Cmd, *os.File, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	peak, err := os.CreateTemp("", "ingot-bench-")
	if err != nil {
		return nil, nil, err
	}
	if err := os.Remove(peak.Name()); err != nil {
		return nil, nil, err
	}
	cmd := exec.CommandContext(ctx, self, append([]string{underFlag}, args...)...)
	cmd.ExtraFiles = []*os.File{peak}
	return cmd, peak, nil
}

// readPeak gives the bytes resident at most, of the largest process that was waited
// for.
func readPeak(f *os.File) (int64, error) {
	var b [8]byte
	if _, err := f.ReadAt(b[:], 0); err != nil {
		return 0, fmt.Errorf("read what was measured: %w", err)
	}
	return int64(binary.LittleEndian.Uint64(b[:])), nil
}

// beParent runs a program with our standard files, and ends as it ends.
func beParent(args []string) int {
	syscall.CloseOnExec(peakFile)
	peak := os.NewFile(peakFile, "peak")
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 127
	}
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	go func() {
		for range interrupts {
			_ = cmd.Process.Signal(os.Interrupt)
		}
	}()
	err := cmd.Wait()
	if e := writePeak(peak, cmd.ProcessState); e != nil {
		fmt.Fprintln(os.Stderr, e)
		return 127
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, err)
		return 127
	}
	return cmd.ProcessState.ExitCode() & 0xff
}

func writePeak(w io.Writer, s *os.ProcessState) error {
	u, ok := s.SysUsage().(*syscall.Rusage)
	if !ok {
		return errors.New("no resource usage")
	}
	return binary.Write(w, binary.LittleEndian, uint64(u.Maxrss)<<10) // getrusage(2): KiB
}
