package main

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/smoke"
	"github.com/ingot-os/ingot/internal/ui"
)

// The exit code of ingot test: a verdict against the machine is 3, but an
// operator who gives up has learnt nothing about it.
func TestConclude(t *testing.T) {
	stopped, cancel := context.WithCancel(context.Background())
	cancel()
	for name, tt := range map[string]struct {
		ctx    context.Context
		ok     bool
		code   int
		result string
	}{
		"passed":      {context.Background(), true, ui.CodeOK, `"ok": true`},
		"failed":      {context.Background(), false, ui.CodeRefused, `"ok": false`},
		"interrupted": {stopped, false, ui.CodeError, ""},
	} {
		var out bytes.Buffer
		v := &verb{ctx: tt.ctx, ui: ui.New(&out, io.Discard)}
		code := v.ui.Fail(new(testCmd).conclude(v, verdict{Verdict: smoke.Verdict{OK: tt.ok}}))
		if code != tt.code || !strings.Contains(out.String(), tt.result) || (tt.result == "") != (out.Len() == 0) {
			t.Errorf("%s: exit code %d, want %d, output %q", name, code, tt.code, &out)
		}
	}
}
