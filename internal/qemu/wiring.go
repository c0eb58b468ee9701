package qemu

import (
	"fmt"
	"net"
	"os"
	"syscall"
)

// firstFD is the number of the first inherited descriptor in a child.
const firstFD = 3

// wiring collects the descriptors that QEMU inherits.
type wiring struct {
	files []*os.File
	conns []net.Conn
	err   error
}

// child hands a file over and returns its number in the child.
func (w *wiring) child(f *os.File) int {
	w.files = append(w.files, f)
	return firstFD + len(w.files) - 1
}

// share hands a duplicate over; f stays open here.
func (w *wiring) share(f *os.File) int {
	n, err := syscall.Dup(int(f.Fd()))
	if err != nil {
		w.err = fmt.Errorf("share %s: %w", f.Name(), err)
		return 0
	}
	syscall.CloseOnExec(n)
	return w.child(os.NewFile(uintptr(n), f.Name()))
}

// socket makes a connected pair: one end for the child, whose number goes to
// n, the other for us.
func (w *wiring) socket(n *int) net.Conn {
	if w.err != nil {
		return nil
	}
	ours, theirs, err := socketPair("socket")
	if err != nil {
		w.err = err
		return nil
	}
	defer ours.Close() // FileConn duplicates it
	conn, err := net.FileConn(ours)
	if err != nil {
		theirs.Close()
		w.err = err
		return nil
	}
	*n = w.child(theirs)
	w.conns = append(w.conns, conn)
	return conn
}

// take gives the files away, to start; from then on the connections live too.
func (w *wiring) take() []*os.File {
	files := w.files
	w.files, w.conns = nil, nil
	return files
}

// close closes what was not taken.
func (w *wiring) close() {
	for _, f := range w.files {
		f.Close()
	}
	for _, c := range w.conns {
		c.Close()
	}
}
