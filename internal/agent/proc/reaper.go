package proc

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
)

// Reaper collects every child of this process. Make it with NewReaper, before
// the first Start.
type Reaper struct {
	mu    sync.Mutex
	alive map[int]*pending
	sig   chan os.Signal
	runs  atomic.Uint64 // numbers the cgroups
}

type pending struct {
	p    *Process
	done chan struct{}
}

// NewReaper takes over SIGCHLD.
func NewReaper() *Reaper {
	r := &Reaper{alive: map[int]*pending{}, sig: make(chan os.Signal, 1)}
	signal.Notify(r.sig, syscall.SIGCHLD)
	return r
}

// Run collects children until the context ends. One delivered SIGCHLD may
// stand for many exits, so each one drains all.
func (r *Reaper) Run(ctx context.Context) {
	defer signal.Stop(r.sig)
	for {
		r.drain()
		select {
		case <-ctx.Done():
			return
		case <-r.sig:
		}
	}
}

func (r *Reaper) drain() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		r.ended(pid, status)
	}
}

func (r *Reaper) ended(pid int, status syscall.WaitStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w, ok := r.alive[pid]
	if !ok {
		return // an orphan that was re-parented to PID 1
	}
	delete(r.alive, pid)
	w.p.status = status
	close(w.done)
}

// fork runs f and registers its child. The lock is held over both, so that a
// child that ends at once is not taken for an orphan.
func (r *Reaper) fork(f func() (int, error)) (*Process, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := f()
	if err != nil {
		return nil, err
	}
	done := make(chan struct{})
	p := &Process{PID: pid, Done: done}
	r.alive[pid] = &pending{p, done}
	return p, nil
}
