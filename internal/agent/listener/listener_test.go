package listener

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/agent/http1"
	"github.com/ingot-os/ingot/internal/agent/ring"
)

func get(t *testing.T, s *Server, target string) http1.Response {
	t.Helper()
	r, err := http1.ReadRequest(strings.NewReader("GET " + target + " HTTP/1.1\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	return s.Handle(r)
}

func server() (*Server, *Status) {
	st := &Status{Name: "hello", Healthy: true}
	r := ring.New(1 << 20)
	for i := range 3 {
		r.Add(0, []string{"ingot", "web"}[i%2], "line")
	}
	return &Server{Status: func() Status { return *st }, Logs: r}, st
}

func TestHealthz(t *testing.T) {
	s, st := server()
	if r := get(t, s, "/healthz"); r.Status != 200 || string(r.Body) != "ok\n" {
		t.Errorf("healthy: %d %q", r.Status, r.Body)
	}
	st.Healthy, st.Reasons = false, []string{"service a is waiting", "service b is failed"}
	if r := get(t, s, "/healthz"); r.Status != 503 || string(r.Body) != "service a is waiting\nservice b is failed\n" {
		t.Errorf("unhealthy: %d %q", r.Status, r.Body)
	}
}

func TestStatusAndLogs(t *testing.T) {
	s, _ := server()
	var st Status
	if r := get(t, s, "/v1/status"); r.Status != 200 || json.Unmarshal(r.Body, &st) != nil || st.Name != "hello" {
		t.Errorf("status: %d %s", r.Status, r.Body)
	}
	for target, want := range map[string][]uint64{"/v1/logs": {1, 2, 3}, "/v1/logs?since=1": {2, 3}, "/v1/logs?service=web": {2}, "/v1/logs?since=3": {}} {
		var got Logs
		r := get(t, s, target)
		if r.Status != 200 || json.Unmarshal(r.Body, &got) != nil || len(got.Lines) != len(want) {
			t.Errorf("%s: %d %s", target, r.Status, r.Body)
			continue
		}
		for i, l := range got.Lines {
			if l.Seq != want[i] || got.Next != want[len(want)-1] {
				t.Errorf("%s: %+v, want lines %v", target, got, want)
			}
		}
		if len(want) == 0 && got.Next != 3 {
			t.Errorf("%s: next = %d, want 3 again", target, got.Next)
		}
	}
	for target, want := range map[string]int{"/v1/logs?since=-1": 400, "/": 404, "/v1/status/": 404} {
		if r := get(t, s, target); r.Status != want {
			t.Errorf("%s: %d, want %d", target, r.Status, want)
		}
	}
}

// However long the lines are, an answer is of a size that 64 clients may have
// at once, and a client that asks on gets every line.
func TestLogsInPieces(t *testing.T) {
	s, _ := server()
	s.Logs = ring.New(1 << 20)
	for range 240 {
		s.Logs.Add(0, "web", strings.Repeat("x", ring.MaxLine))
	}
	seen, answers := 0, 0
	for next, since := uint64(0), ^uint64(0); next != since; answers++ {
		since = next
		var got Logs
		r := get(t, s, fmt.Sprintf("/v1/logs?since=%d", since))
		if err := json.Unmarshal(r.Body, &got); err != nil {
			t.Fatal(err)
		}
		if len(r.Body) > 2*MaxLogBytes {
			t.Fatalf("an answer has %d bytes", len(r.Body))
		}
		seen, next = seen+len(got.Lines), got.Next
	}
	if seen != 240 || answers != 5 {
		t.Errorf("%d lines in %d answers, want 240 in 4 and an empty one", seen, answers)
	}
}
