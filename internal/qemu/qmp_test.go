package qemu

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// server plays QEMU's side: answer gets a request line and returns what to send.
func server(t *testing.T, answer func(line string) string) *qmp {
	t.Helper()
	a, b := net.Pipe()
	t.Cleanup(func() { a.Close(); b.Close() })
	go func() {
		fmt.Fprint(b, `{"QMP": {"version": {"qemu": {"major": 7}}, "capabilities": ["oob"]}}`+"\r\n")
		for s := bufio.NewScanner(b); s.Scan(); {
			if out := answer(s.Text()); out != "" {
				fmt.Fprint(b, out)
			} else {
				b.Close()
			}
		}
	}()
	return newQMP(a)
}

func TestQMPCalls(t *testing.T) {
	q := server(t, func(line string) string {
		switch {
		case strings.Contains(line, "query-status"):
			// An event may come between request and answer.
			return `{"event":"RESET","data":{"guest":true},"timestamp":{"seconds":7,"microseconds":5}}` + "\n" +
				`{"return":{"status":"running"},"id":2}` + "\n"
		case strings.Contains(line, "nonsense"):
			return `{"id":3,"error":{"class":"CommandNotFound","desc":"The command nonsense has not been found"}}` + "\n"
		}
		return `{"return":{},"id":1}` + "\n"
	})
	ctx := t.Context()
	if err := q.negotiate(ctx); err != nil {
		t.Fatal(err)
	}
	var s struct{ Status string }
	if err := q.call(ctx, "query-status", nil, &s); err != nil || s.Status != "running" {
		t.Errorf("got %+v, %v", s, err)
	}
	err := q.call(ctx, "nonsense", map[string]int{"x": 1}, nil)
	if err == nil || err.Error() != "qmp nonsense: The command nonsense has not been found" {
		t.Errorf("got %v", err)
	}
	events, _, _ := q.snapshot()
	if len(events) != 1 || events[0].Name != EventReset || events[0].Time.UnixMicro() != 7000005 {
		t.Errorf("got events %+v", events)
	}
}

func TestQMPClosedInMidCall(t *testing.T) {
	q := server(t, func(string) string { return "" })
	if err := q.negotiate(t.Context()); !errors.Is(err, errQMPClosed) {
		t.Errorf("got %v", err)
	}
	if err := q.call(t.Context(), "quit", nil, nil); !errors.Is(err, errQMPClosed) {
		t.Errorf("second call: got %v", err)
	}
}

func TestQMPGarbageEndsTheConnection(t *testing.T) {
	q := server(t, func(string) string { return "}{ not json\n" })
	if err := q.negotiate(t.Context()); !errors.Is(err, errQMPClosed) {
		t.Errorf("got %v", err)
	}
}

func TestQMPSilence(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	go bufio.NewReader(b).ReadString(0) // takes all, answers nothing
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if err := newQMP(a).negotiate(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestQMPEventsAreBounded(t *testing.T) {
	q := server(t, func(string) string {
		var b strings.Builder
		for i := range 3 * maxEvents {
			fmt.Fprintf(&b, `{"event":"E%d","data":{},"timestamp":{"seconds":1,"microseconds":0}}`+"\n", i)
		}
		return b.String() + `{"event":"RTC_CHANGE"}{"return":{},"id":1}` + "\n"
	})
	if err := q.negotiate(t.Context()); err != nil {
		t.Fatal(err)
	}
	events, _, _ := q.snapshot()
	if len(events) != maxEvents || events[maxEvents-1].Name != fmt.Sprintf("E%d", 3*maxEvents-1) {
		t.Errorf("got %d events, last %+v", len(events), events[len(events)-1])
	}
}
