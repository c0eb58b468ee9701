package ui

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func pipe() (*UI, *bytes.Buffer, *bytes.Buffer) {
	var out, err bytes.Buffer
	return New(&out, &err), &out, &err
}

type hinted struct{}

func (hinted) Error() string { return "fetch kernel: superseded" }
func (hinted) Hint() string  { return "ingot lock --update kernel" }

func TestFail(t *testing.T) {
	cases := []struct {
		err  error
		code int
		want string
	}{
		{nil, 0, ""},
		{Exit(CodeDiffers), 4, ""},
		{fmt.Errorf("compare: %w", Exit(CodeDiffers)), 4, ""},
		{errors.New("open disk: no such file"), 1, "ingot: error: open disk: no such file\n"},
		{&Error{Code: CodeUsage, Err: errors.New("unknown flag --x"), Hint: "ingot --help"}, 2,
			"ingot: error: unknown flag --x\nhint: ingot --help\n"},
		{fmt.Errorf("build: %w", &Error{Err: errors.New("x"), Hint: "do y"}), 1, "ingot: error: build: x\nhint: do y\n"},
		{fmt.Errorf("build: %w", hinted{}), 1, "ingot: error: build: fetch kernel: superseded\nhint: ingot lock --update kernel\n"},
		{fmt.Errorf("run: %w", context.Canceled), 1, "ingot: interrupted\n"},
		{errors.Join(errors.New("a.yaml:1:2: one\nhint: fix one"), errors.New("a.yaml:3:4: two")), 1,
			"ingot: error: a.yaml:1:2: one\nhint: fix one\ningot: error: a.yaml:3:4: two\n"},
	}
	for _, c := range cases {
		u, out, words := pipe()
		if code := u.Fail(c.err); code != c.code || words.String() != c.want || out.Len() != 0 {
			t.Errorf("Fail(%v): got code %d, %q, out %q; want code %d, %q", c.err, code, words.String(), out.String(), c.code, c.want)
		}
	}
}

// A pipe must stay silent while all goes well: scripts read stderr as trouble.
func TestPipeIsSilent(t *testing.T) {
	u, out, words := pipe()
	u.StepStarted("kernel")
	u.Progress("fetch kernel", 1, 10, false)
	u.Progress("fetch kernel", 10, 10, true)
	u.StepDone("kernel", time.Second, false, "x")
	u.Note("done")
	if err := u.Print("out/hello-1"); err != nil {
		t.Fatal(err)
	}
	if words.Len() != 0 || out.String() != "out/hello-1\n" {
		t.Errorf("got words %q, out %q", words.String(), out.String())
	}
}

// screen plays what a terminal would show of the control codes that are used.
func screen(s string) []string {
	lines := []string{""}
	for len(s) > 0 {
		last := len(lines) - 1
		switch {
		case strings.HasPrefix(s, "\r\x1b[K"):
			lines[last], s = "", s[4:]
		case s[0] == '\n':
			lines, s = append(lines, ""), s[1:]
		default:
			lines[last], s = lines[last]+s[:1], s[1:]
		}
	}
	return lines
}

func TestTerminalKeepsOneLine(t *testing.T) {
	u, _, words := pipe()
	u.Terminal, u.Width = true, 30
	u.StepStarted("kernel")
	u.StepStarted("initramfs")
	u.Progress("fetch kernel", 512*1024, 1<<20, false)
	u.Say("a message between")
	u.Progress("fetch kernel", 1<<20, 1<<20, true)
	u.StepDone("kernel", 1500*time.Millisecond, false, strings.Repeat("long detail ", 9))
	u.StepDone("initramfs", 0, true, "")
	got := screen(words.String())
	want := []string{"ingot: a message between", "  kernel             1.50 s", "  initramfs          cached", ""}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("screen shows %q, want %q", got, want)
	}
	for line := range strings.SplitSeq(strings.ReplaceAll(words.String(), "\r\x1b[K", "\n"), "\n") {
		if len(line) >= u.Width {
			t.Errorf("line %q is as wide as the terminal", line)
		}
	}
	if !strings.Contains(words.String(), "fetch kernel  50% of 1 MiB") {
		t.Errorf("no progress with percent in %q", words.String())
	}
}

func TestErrorTakesProgressAway(t *testing.T) {
	u, _, words := pipe()
	u.Terminal = true
	u.StepStarted("kernel")
	u.Fail(errors.New("build kernel: no space left"))
	if got := screen(words.String()); got[0] != "ingot: error: build kernel: no space left" || len(got) != 2 || got[1] != "" {
		t.Errorf("screen shows %q", got)
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 512: "512 B", 1024: "1 KiB", 1536: "1.5 KiB", 18373120: "17.5 MiB",
		200 << 20: "200 MiB", 16 << 40: "16 TiB", -2048: "-2 KiB", 1<<63 - 1: "8 EiB"} {
		if got := Size(n); got != want {
			t.Errorf("Size(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "0 ms", 41 * time.Millisecond: "41 ms", 310 * time.Millisecond: "0.31 s",
		12400 * time.Millisecond: "12.4 s", 125 * time.Second: "2 min 5 s", 3725 * time.Second: "1 h 2 min", -time.Second: "-1.00 s"} {
		if got := Duration(d); got != want {
			t.Errorf("Duration(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestPlural(t *testing.T) {
	for got, want := range map[string]string{Plural(1, "file"): "1 file", Plural(0, "file"): "0 files", Plural(2, "entry", "entries"): "2 entries"} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestTable(t *testing.T) {
	u, out, _ := pipe()
	err := u.Table([]string{"partition", "size", "role"}, [][]string{{"1", "128 MiB", "esp"}, {"12", "1 GiB", "slot-ä"}})
	want := "partition     size  role\n        1  128 MiB  esp\n       12    1 GiB  slot-ä\n"
	if err != nil || out.String() != want {
		t.Errorf("got %q, %v; want %q", out.String(), err, want)
	}
}

// TestTableOfDigests: a digest that begins with a digit is no number.
func TestTableOfDigests(t *testing.T) {
	u, out, _ := pipe()
	sum := strings.Repeat("1a", 32)
	err := u.Table([]string{"records", "sha256"}, [][]string{{"3", sum}})
	if want := "records  sha256\n      3  " + sum + "\n"; err != nil || out.String() != want {
		t.Errorf("got %q, %v; want %q", out.String(), err, want)
	}
}

func TestVersionJSON(t *testing.T) {
	u, out, _ := pipe()
	u.JSON = true
	if err := u.Version("1.2", 3, "1.26.0"); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || got["version"] != "1.2" || got["format"] != 3.0 {
		t.Errorf("got %v, %v", got, err)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestResultsThatCannotBeWrittenAreErrors(t *testing.T) {
	u := New(full{}, &bytes.Buffer{})
	for _, err := range []error{u.Print("x"), u.PrintJSON(1), u.Table(nil, [][]string{{"a"}}), u.Version("1", 1, "")} {
		if err == nil || !strings.Contains(err.Error(), "no space left") {
			t.Errorf("got %v", err)
		}
	}
}

// TestPrintable: a name cannot move the cursor or start a line.
func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{"a\x1b[2K\rok": `a\x1b[2K\rok`, "a\nb": `a\nb`, "a\u202eb": `a\u202eb`, "ä → b\tc": "ä → b\tc"} {
		if got := printable(in); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
	var out, said bytes.Buffer
	u := New(&out, &said)
	u.Say("file %s", "a\x1b[2K\rverified")
	if err := u.Table(nil, [][]string{{"a\nb"}}); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(said.String()+out.String(), "\x1b\r") || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("said %q, printed %q", said.String(), out.String())
	}
}
