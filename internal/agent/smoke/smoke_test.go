package smoke

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/appliance"
)

type port struct {
	io.Reader
	strings.Builder
}

func TestOnlyDeclaredCommandsRun(t *testing.T) {
	var ran [][]string
	s := &Server{
		Declared: []appliance.Smoke{
			{Name: "ok", Command: []string{"/bin/true", "-x"}},
			{Name: "slow", Command: []string{"/bin/slow"}, Timeout: appliance.Duration(time.Second)},
			{Name: "http", HTTP: &appliance.HTTPCheck{Port: 80}},
		},
		Run: func(c []string, limit time.Duration) (int, string, error) {
			ran = append(ran, c)
			if c[0] == "/bin/slow" {
				return 137, "so far\xff", errors.New("no end within " + limit.String())
			}
			if limit != Timeout {
				t.Errorf("limit = %s, want the default", limit)
			}
			return 4, "out\n", nil
		},
	}
	p := &port{Reader: strings.NewReader(`{"name":"ok"}
{"name":"slow"}
{"name":"http"}
{"name":"/bin/sh","command":["/bin/sh"]}
nonsense
`)}
	if err := s.Serve(p); err != nil {
		t.Fatal(err)
	}
	var got []Answer
	for line := range strings.Lines(p.Builder.String()) {
		var a Answer
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			t.Fatal(err)
		}
		got = append(got, a)
	}
	if len(got) != 5 || len(ran) != 2 {
		t.Fatalf("%d answers, %d commands run; want 5 and 2: %+v", len(got), len(ran), got)
	}
	if got[0] != (Answer{"ok", 4, "out\n", ""}) || got[1] != (Answer{"slow", -1, "so far?", "no end within 1s"}) {
		t.Errorf("answers = %+v", got[:2])
	}
	for _, a := range got[2:] {
		if a.Exit != -1 || a.Error == "" {
			t.Errorf("answer = %+v, want a refusal", a)
		}
	}
}

func TestLongRequestEndsTheConnection(t *testing.T) {
	s := &Server{}
	p := &port{Reader: strings.NewReader(strings.Repeat("x", 2*maxRequest) + "\n")}
	if err := s.Serve(p); err == nil {
		t.Error("Serve of an endless line = nil")
	}
}

func TestFind(t *testing.T) {
	sys := t.TempDir()
	for dev, name := range map[string]string{"vport1p1": "org.other", "vport2p3": Port} {
		dir := filepath.Join(sys, "class/virtio-ports", dev)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "name"), []byte(name+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := Find(sys); got != "/dev/vport2p3" {
		t.Errorf("Find() = %q", got)
	}
	if got := Find(t.TempDir()); got != "" {
		t.Errorf("Find() without ports = %q", got)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"name":"ok"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		s := &Server{Run: func([]string, time.Duration) (int, string, error) { panic("nothing is declared") }}
		if a := s.answer(line); a.Exit != -1 {
			t.Errorf("answer = %+v", a)
		}
	})
}
