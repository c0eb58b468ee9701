package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// The names of the QMP events that callers look for.
const (
	EventPanicked = "GUEST_PANICKED" // pvpanic: the guest's kernel has panicked
	EventReset    = "RESET"
	EventShutdown = "SHUTDOWN"
	EventPowered  = "POWERDOWN" // the power button was pressed
	EventWatchdog = "WATCHDOG"  // the watchdog was not fed: it resets the machine
)

// maxEvents bounds the events that are kept.
const maxEvents = 256

// Event is one asynchronous message of QMP.
type Event struct {
	Name string
	Time time.Time
	Data map[string]any // as QEMU's qapi describes it: SHUTDOWN has "guest" and "reason"
}

// qmp is a client of QEMU's machine protocol on one connection (QEMU's
// docs/interop/qmp-spec): a greeting, then one JSON object per message. It
// knows requests by id and sorts events out.
type qmp struct {
	conn net.Conn

	mu      sync.Mutex
	nextID  int
	waiting map[int]chan qmpMessage
	events  []Event
	changed chan struct{} // closed and replaced at each event and at the end
	err     error         // why the connection ended
}

type qmpMessage struct {
	Greeting json.RawMessage `json:"QMP"`
	ID       int             `json:"id"`
	Return   json.RawMessage `json:"return"`
	Error    *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
	Event     string         `json:"event"`
	Data      map[string]any `json:"data"`
	Timestamp struct {
		Seconds      int64 `json:"seconds"`
		Microseconds int64 `json:"microseconds"`
	} `json:"timestamp"`
}

var errQMPClosed = errors.New("machine has ended")

func newQMP(conn net.Conn) *qmp {
	q := &qmp{conn: conn, waiting: map[int]chan qmpMessage{}, changed: make(chan struct{})}
	go q.read()
	return q
}

// negotiate leaves the greeting mode, in which QEMU takes no other command.
func (q *qmp) negotiate(ctx context.Context) error {
	return q.call(ctx, "qmp_capabilities", nil, nil)
}

func (q *qmp) read() {
	dec := json.NewDecoder(q.conn)
	for {
		var m qmpMessage
		if err := dec.Decode(&m); err != nil {
			q.end(errQMPClosed)
			return
		}
		q.dispatch(m)
	}
}

func (q *qmp) dispatch(m qmpMessage) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case m.Event == "RTC_CHANGE" || m.Event == "NIC_RX_FILTER_CHANGED": // every boot has some; they say nothing
	case m.Event != "":
		t := time.Unix(m.Timestamp.Seconds, m.Timestamp.Microseconds*1000)
		if len(q.events) == maxEvents {
			q.events = q.events[1:]
		}
		q.events = append(q.events, Event{m.Event, t, m.Data})
		close(q.changed)
		q.changed = make(chan struct{})
	case m.ID != 0 && q.waiting[m.ID] != nil:
		q.waiting[m.ID] <- m
		delete(q.waiting, m.ID)
	}
}

func (q *qmp) end(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return
	}
	q.err = err
	for _, c := range q.waiting {
		close(c)
	}
	q.waiting = nil
	close(q.changed)
	q.changed = make(chan struct{})
}

// call runs one command; result may be nil.
func (q *qmp) call(ctx context.Context, command string, arguments, result any) error {
	answer := make(chan qmpMessage, 1)
	if err := q.send(command, arguments, answer); err != nil {
		return fmt.Errorf("qmp %s: %w", command, err)
	}
	select {
	case m, ok := <-answer:
		switch {
		case !ok:
			return fmt.Errorf("qmp %s: %w", command, errQMPClosed)
		case m.Error != nil:
			return fmt.Errorf("qmp %s: %s", command, m.Error.Desc)
		case result != nil:
			return json.Unmarshal(m.Return, result)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("qmp %s: %w", command, context.Cause(ctx))
	}
}

func (q *qmp) send(command string, arguments any, answer chan qmpMessage) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return q.err
	}
	q.nextID++
	b, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        int    `json:"id"`
	}{command, arguments, q.nextID})
	if err != nil {
		return err
	}
	q.waiting[q.nextID] = answer
	if _, err := q.conn.Write(append(b, '\n')); err != nil {
		delete(q.waiting, q.nextID)
		return errQMPClosed
	}
	return nil
}

// human runs a command of the human monitor, for the few things QMP has no command for.
func (q *qmp) human(ctx context.Context, line string) (string, error) {
	var out string
	err := q.call(ctx, "human-monitor-command", map[string]string{"command-line": line}, &out)
	return out, err
}

// snapshot returns the kept events and a channel that is closed at the next one.
func (q *qmp) snapshot() ([]Event, <-chan struct{}, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return append([]Event(nil), q.events...), q.changed, q.err
}
