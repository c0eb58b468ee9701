package partition

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/ingot-os/ingot/internal/golden"
	"github.com/ingot-os/ingot/partition/gpt"
)

func TestPicture(t *testing.T) {
	hello := plan(t, Spec{Name: "hello", ESP: 128 * mib, Slot: 256 * mib, Data: 64 * mib})
	root := plan(t, Spec{Name: "shop", ESP: 128 * mib, Slot: 256 * mib, Root: 1024 * mib, Data: 64 * mib, SectorSize: 4096})
	var flashed Layout
	if table, err := gpt.Grow(root.Table(), 1_920_383_410_176, true); err != nil {
		t.Fatal(err)
	} else if flashed, err = FromTable(table); err != nil {
		t.Fatal(err)
	}
	roomy := hello
	roomy.Size = 32 << 30
	for name, l := range map[string]Layout{"hello": hello, "root": root, "flashed": flashed, "room": roomy, "empty": {Size: 64 * mib, SectorSize: 512}} {
		var b strings.Builder
		for _, width := range []int{60, 80, 120} {
			pic := Picture(l, width)
			fmt.Fprintf(&b, "== %d columns\n%s", width, pic)
			checkLines(t, name, pic, width)
		}
		golden.Equal(t, "testdata/picture-"+name+".txt", b.String())
	}
}

// checkLines wants boxes of one length within the width, the offset of the last
// one sticking out by a few columns at most, and no trailing space.
func checkLines(t *testing.T, name, pic string, width int) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(pic, "\n"), "\n")
	boxes := utf8.RuneCountInString(lines[2])
	for i, line := range lines {
		n := utf8.RuneCountInString(line)
		switch {
		case i < 6 && n > width, i == 6 && n > width+3, i > 6 && n > 81:
			t.Errorf("%s at %d: line of %d columns: %s", name, width, n, line)
		case strings.TrimRight(line, " ") != line:
			t.Errorf("%s at %d: trailing space in %q", name, width, line)
		case i >= 2 && i <= 5 && n != boxes:
			t.Errorf("%s at %d: box line of %d columns, top has %d", name, width, n, boxes)
		}
	}
}

func TestShort(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0", 512: "512", 1024: "1K", mib: "1M", 128 * mib: "128M", 1024 * mib: "1G", 1665 * mib: "1665M", 9999 * mib: "9999M",
		10001 * mib: "9.7G", 10 << 40: "10T", 1_920_383_410_176: "1.7T", 500_107_862_016: "465.7G", 4096 * 3: "12K",
	} {
		if got := short(n); got != want {
			t.Errorf("short(%d) = %s, want %s", n, got, want)
		}
	}
}
