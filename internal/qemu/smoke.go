package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"sync"
	"time"
)

// SmokePort is the name of the virtio serial port on which the guest takes
// smoke requests: one JSON object a line in each direction.
const SmokePort = "ingot.smoke"

// maxAnswer bounds one answer of the guest, in bytes.
const maxAnswer = 1 << 20

// SmokeRequest asks the guest to run one of the smoke commands of its recipe.
type SmokeRequest struct {
	Name string `json:"name"`
}

// SmokeAnswer is what came of it.
type SmokeAnswer struct {
	Name   string `json:"name"`
	Exit   int    `json:"exit"`
	Output string `json:"output"` // stdout and stderr, bounded by the guest
	Error  string `json:"error"`  // why the command could not be run or did not end
}

// smokePort is our end of the port; one request is on its way at a time.
type smokePort struct {
	conn    net.Conn
	mu      sync.Mutex
	answers chan SmokeAnswer
}

func newSmokePort(conn net.Conn) *smokePort {
	p := &smokePort{conn: conn, answers: make(chan SmokeAnswer)}
	go p.read()
	return p
}

func (p *smokePort) read() {
	defer close(p.answers)
	s := bufio.NewScanner(p.conn)
	s.Buffer(nil, maxAnswer)
	for s.Scan() {
		var a SmokeAnswer
		if json.Unmarshal(s.Bytes(), &a) == nil { // else noise of a guest that was reset in mid-line
			p.answers <- a
		}
	}
}

// Smoke asks the guest and waits for its answer. Answers to earlier requests
// that nobody waited for are dropped.
func (v *VM) Smoke(ctx context.Context, r SmokeRequest) (SmokeAnswer, error) {
	p := v.smoke
	p.mu.Lock()
	defer p.mu.Unlock()
	line, err := json.Marshal(r)
	if err != nil {
		return SmokeAnswer{}, err
	}
	deadline, _ := ctx.Deadline() // none: the zero time, which is no limit
	p.conn.SetWriteDeadline(deadline)
	if _, err := p.conn.Write(append(line, '\n')); err != nil {
		return SmokeAnswer{}, fmt.Errorf("ask for smoke test %q: %w", r.Name, err)
	}
	defer p.conn.SetWriteDeadline(time.Time{})
	for {
		select {
		case a, ok := <-p.answers:
			if !ok {
				return SmokeAnswer{}, fmt.Errorf("smoke test %q: %w", r.Name, v.ended())
			}
			if a.Name == r.Name {
				return a, nil
			}
		case <-ctx.Done():
			return SmokeAnswer{}, fmt.Errorf("smoke test %q: no answer from the machine: %w", r.Name, context.Cause(ctx))
		}
	}
}
