package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ingot-os/ingot/internal/delta"
	"github.com/ingot-os/ingot/partition"
)

// slotOf DISK FILE copies slot a of a disk image.
func slotOf(ts *testscript.TestScript, neg bool, args []string) {
	d := openScriptDisk(ts, args[0])
	defer d.f.Close()
	out, err := os.Create(ts.MkAbs(args[1]))
	ts.Check(err)
	defer out.Close()
	_, err = io.Copy(out, d.part(ts, partition.SlotA).Section(d.f))
	ts.Check(err)
}

// applied OLD PATCH NEW wants NEW of the patch, by this program's reader and by
// the zstd program, which knows nothing of our header.
func applied(ts *testscript.TestScript, neg bool, args []string) {
	old, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	patch, err := os.ReadFile(ts.MkAbs(args[1]))
	ts.Check(err)
	want, err := os.ReadFile(ts.MkAbs(args[2]))
	ts.Check(err)
	r, err := delta.Open(bytes.NewReader(old), bytes.NewReader(patch), delta.Limits{Size: int64(len(old))})
	ts.Check(err)
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
		ts.Fatalf("applied: %d bytes, %v", len(got), err)
	}
	if _, err := exec.LookPath("zstd"); err != nil {
		if os.Getenv("INGOT_REQUIRE_TOOLS") == "1" {
			ts.Fatalf("zstd is missing")
		}
		return
	}
	base, frame, got := ts.MkAbs("base"), ts.MkAbs("frame.zst"), ts.MkAbs("got")
	ts.Check(errors.Join(os.WriteFile(base, old[:r.Info.OldUsed], 0o644), os.WriteFile(frame, withoutID(ts, patch[delta.HeaderSize:]), 0o644)))
	ts.Check(ts.Exec("zstd", "-d", "-q", "--long=31", "-D", base, frame, "-o", got))
	b, err := os.ReadFile(got)
	ts.Check(err)
	if !bytes.Equal(b, want[:r.Info.NewUsed]) {
		ts.Fatalf("zstd makes %d other bytes", len(b))
	}
}

// withoutID takes the dictionary's id out of the header of a zstd frame (RFC 8878
// section 3.1.1.1): a dictionary that is plain bytes has none for zstd.
func withoutID(ts *testscript.TestScript, frame []byte) []byte {
	if frame[4]&3 != 1 || frame[6] != 1 {
		ts.Fatalf("frame header % x", frame[:16])
	}
	out := append(bytes.Clone(frame[:6]), frame[7:]...)
	out[4] &^= 3
	return out
}

// begins WHOLE START wants START, and after it only zeros.
func begins(ts *testscript.TestScript, neg bool, args []string) {
	whole, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	start, err := os.ReadFile(ts.MkAbs(args[1]))
	ts.Check(err)
	if rest, ok := bytes.CutPrefix(whole, start); !ok || len(bytes.Trim(rest, "\x00")) > 0 || len(start) == 0 {
		ts.Fatalf("%d bytes are not what %d begin with", len(start), len(whole))
	}
}
