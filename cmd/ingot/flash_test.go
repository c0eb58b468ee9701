package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/ui"
	"github.com/ingot-os/ingot/partition/flash"
	"github.com/ingot-os/ingot/partition/frames"
)

// Ctrl-C ends the question for a device's name at once.
func TestReadLineInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	never, w := io.Pipe()
	defer w.Close()
	v := &verb{ctx: ctx, ui: ui.New(io.Discard, io.Discard), env: env{Stdin: never, Stderr: io.Discard}}
	cancel()
	if _, err := readLine(v); !errors.Is(err, context.Canceled) {
		t.Errorf("readLine = %v", err)
	}
	v.ctx, v.env.Stdin = context.Background(), strings.NewReader(" /dev/sdb \n")
	if got, err := readLine(v); got != "/dev/sdb" || err != nil {
		t.Errorf("readLine = %q, %v", got, err)
	}
	v.env.Stdin = strings.NewReader("")
	if _, err := readLine(v); !errors.Is(err, io.EOF) {
		t.Errorf("readLine at the end of the input = %v", err)
	}
}

// What becomes of the device, and what to do about it, is always said.
func TestFlashExplains(t *testing.T) {
	refuse := func(r flash.Reason, hint string) error {
		return &flash.RefusedError{Path: "/dev/sdb", Refusals: []flash.Refusal{{Reason: r, Msg: "no", Hint: hint}}}
	}
	for name, tt := range map[string]struct {
		err  error
		code int
		want string
	}{
		"not confirmed": {refuse(flash.NotRemovable, "x"), ui.CodeRefused, "hint: add --yes when /dev/sdb is"},
		"mounted":       {refuse(flash.Mounted, "unmount it first"), ui.CodeRefused, "hint: unmount it first"},
		"interrupted":   {&flash.UnfinishedError{Device: "/dev/sdb", Err: context.Canceled}, ui.CodeError, "/dev/sdb is not finished: flash it again"},
		"bad medium": {&flash.UnfinishedError{Device: "/dev/sdb", Err: &flash.MismatchError{}}, ui.CodeRefused,
			"hint: flash it again"},
		"bad frame": {&flash.UnfinishedError{Device: "/dev/sdb", Err: fmt.Errorf("read: %w", frames.ErrDamaged)}, ui.CodeRefused,
			"copy both again, then flash it again"},
		"no right": {&fs.PathError{Op: "open", Path: "/dev/sdb", Err: fs.ErrPermission}, ui.CodeError, "hint: writing /dev/sdb needs root"},
	} {
		var out bytes.Buffer
		v := &verb{ui: ui.New(io.Discard, &out)}
		code := v.ui.Fail((&flashCmd{Device: "/dev/sdb"}).explain(v, tt.err))
		if code != tt.code || !strings.Contains(out.String(), tt.want) {
			t.Errorf("%s: exit code %d, %q, want %d and %q", name, code, &out, tt.code, tt.want)
		}
	}
}
