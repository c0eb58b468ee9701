package tftp

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseRequest(t *testing.T) {
	r, err := parseRequest(rrq("boot/a", "BLKSIZE", "1468", "windowsize", "4")[2:])
	if err != nil || r.name != "boot/a" || r.netascii || !slices.Equal(r.options, []option{{"BLKSIZE", "1468"}, {"windowsize", "4"}}) {
		t.Fatal(r, err)
	}
	if _, err := parseRequest(append(rrq("a", "tsize", "0")[2:], make([]byte, 100)...)); err != nil {
		t.Error("zeros behind:", err)
	}
	for name, b := range map[string][]byte{
		"empty": nil, "no end of name": []byte("abc"), "no mode": []byte("abc\x00"), "no end of mode": []byte("abc\x00octet"),
		"mode mail": []byte("abc\x00mail\x00"), "no value": []byte("abc\x00octet\x00tsize\x00"), "no end of value": []byte("abc\x00octet\x00tsize\x000"),
		"too long": rrq(strings.Repeat("a", 520))[2:],
	} {
		if r, err := parseRequest(b); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestCleanName(t *testing.T) {
	for in, want := range map[string]string{
		"boot/a.efi": "boot/a.efi", "/boot/a": "boot/a", "//boot//a": "boot/a", `\boot\a`: "boot/a", "./boot/./a": "boot/a", "a+b~c 1.0": "a+b~c 1.0", "...": "...",
	} {
		if got, err := cleanName(in); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range traversals {
		if got, err := cleanName(in); err == nil && (got == "" || got[0] == '/' || strings.Contains("/"+got+"/", "/../")) {
			t.Errorf("%q became %q", in, got)
		}
	}
	for _, in := range []string{"", "/", ".", "..", "a/../b", `a\..\b`, "%2e%2e/a", "a%00", "a\x01", "\xc0\xae\xc0\xae/a", "ä", strings.Repeat("a", 256)} {
		if got, err := cleanName(in); err == nil {
			t.Errorf("%q became %q", in, got)
		}
	}
}

// traversals are ways to write the parent of a folder.
var traversals = []string{
	"../secret", "/../secret", "boot/../../secret", `..\secret`, `\..\..\secret`, `boot\..\..\secret`, `..\/secret`, "....//secret", "..././secret",
	"%2e%2e/secret", "%2e%2e%2fsecret", "..%2fsecret", "%252e%252e%252fsecret", "..%5csecret", "%c0%ae%c0%ae/secret", "..%c0%afsecret", "\xc0\xae\xc0\xae/secret", "..\xc0\xafsecret",
	"\uff0e\uff0e/secret", "..\u2215secret", "/etc/passwd", "//etc/passwd", "file:///etc/passwd", "C:\\secret", "~/secret", "/proc/self/root/etc/passwd", "boot/./../../secret", "..", "../", "/..", ".. /secret", "..\tsecret", "./../secret",
}

func words(b []byte) []string {
	return strings.Split(strings.TrimSuffix(string(b[2:]), "\x00"), "\x00")
}

func TestNegotiate(t *testing.T) {
	for _, c := range []struct {
		name, options string
		oack          string
		block, window int
	}{
		{"OVMF", "tsize 0 blksize 1468 windowsize 4", "tsize 9999 blksize 1468 windowsize 4", 1468, 4},
		{"order and spelling of the request", "WindowSize 4 BLKSIZE 1024 tSize 0", "WindowSize 4 BLKSIZE 1024 tSize 9999", 1024, 4},
		{"none", "", "", 512, 1},
		{"unknown ones", "multicast x blksize 600 utimeout 50000", "blksize 600", 600, 1},
		{"only unknown ones", "multicast x", "", 512, 1},
		{"no fragments", "blksize 65464", "blksize 1468", 1468, 1},
		{"smallest", "blksize 8", "blksize 8", 8, 1},
		{"below", "blksize 7", "", 512, 1},
		{"above", "blksize 65465", "", 512, 1},
		{"not numbers", "blksize -1 windowsize +4 timeout 1e1 tsize 0x0", "", 512, 1},
		{"overflow", "blksize 18446744073709551624 windowsize 4294967297", "", 512, 1},
		{"zero", "blksize 0 windowsize 0 timeout 0", "", 512, 1},
		{"largest window", "windowsize 65535", "windowsize 64", 512, 64},
		{"beyond", "windowsize 65536", "", 512, 1},
		{"window of one", "windowsize 1", "windowsize 1", 512, 1},
		{"twice", "blksize 1024 blksize 512 BlkSize 600", "blksize 1024", 1024, 1},
		{"timeout", "timeout 255", "timeout 255", 512, 1},
		{"long timeout", "timeout 256", "", 512, 1},
	} {
		var options []option
		f := strings.Fields(c.options)
		for i := 0; i < len(f); i += 2 {
			options = append(options, option{f[i], f[i+1]})
		}
		got := negotiate(options, 9999, 1468, 64)
		oack := ""
		if got.oack != nil {
			oack = strings.Join(words(got.oack), " ")
		}
		if oack != c.oack || got.block != c.block || got.window != c.window {
			t.Errorf("%s: %q, blocks of %d, window %d; want %q, %d, %d", c.name, oack, got.block, got.window, c.oack, c.block, c.window)
		}
	}
	if got := negotiate([]option{{"windowsize", "64"}, {"blksize", "65464"}}, 1, maxBlock, 64); got.window*got.block > windowBytes {
		t.Errorf("a window of %d bytes", got.window*got.block)
	}
}

func TestMeterBoundsASource(t *testing.T) {
	at := time.Unix(1e9, 0)
	m := newDesk(&Server{Limits: Limits{Rate: 10, Burst: 5, PerSource: 3}}).meter
	one, other := dialAddr("192.0.2.1"), dialAddr("192.0.2.2")
	for i := range 3 {
		if !m.take(one, at) {
			t.Fatal(i)
		}
	}
	if m.take(one, at) {
		t.Fatal("more transfers than one source may have")
	}
	if !m.take(other, at) {
		t.Fatal("another source was refused")
	}
	m.give(one)
	m.give(one)
	m.give(one)
	for i, want := range []bool{true, true, false} {
		if m.take(one, at) != want {
			t.Fatalf("a burst is not 5: %d", i)
		}
	}
	m.give(one)
	m.give(one)
	if !m.take(one, at.Add(100*time.Millisecond)) || m.take(one, at.Add(100*time.Millisecond)) {
		t.Fatal("not 10 in a second")
	}
	a, b := dialAddr("2001:db8::1"), dialAddr("2001:db8::2:1")
	if prefix(a) != prefix(b) || prefix(dialAddr("2001:db8:0:1::1")) == prefix(a) || prefix(dialAddr("::ffff:192.0.2.1")) != one {
		t.Fatal("prefixes")
	}
}

func TestMeterForgets(t *testing.T) {
	at := time.Unix(1e9, 0)
	m := newDesk(&Server{}).meter
	for i := range 2 * maxSources {
		a := dialAddr("10.0.0.0").As4()
		a[1], a[2], a[3] = byte(i>>16), byte(i>>8), byte(i)
		if !m.take(addrFrom(a), at) {
			t.Fatal("a source was refused for the sake of others")
		}
		m.give(addrFrom(a))
	}
	if len(m.sources) > maxSources {
		t.Fatalf("%d sources are remembered", len(m.sources))
	}
	at = at.Add(time.Minute)
	m.take(dialAddr("192.0.2.1"), at)
	if len(m.sources) != 1 {
		t.Fatalf("%d sources are remembered after a minute", len(m.sources))
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add(rrq("boot/a", "blksize", "1468", "tsize", "0", "windowsize", "4"))
	f.Add([]byte("\x00\x01\x00\x00"))
	for _, n := range traversals {
		f.Add(rrq(n))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ack(b)
		clientError(b)
		if len(b) < 2 {
			return
		}
		r, err := parseRequest(b[2:])
		if err != nil {
			return
		}
		if name, err := cleanName(r.name); err == nil {
			for p := range strings.SplitSeq(name, "/") {
				if p == "" || p == "." || p == ".." || strings.ContainsAny(p, "\\%\x00") {
					t.Fatalf("%q became %q", r.name, name)
				}
			}
		}
		g := negotiate(r.options, 1<<40, 1468, 64)
		if g.block < minBlock || g.block > 1468 || g.window < 1 || g.window > 64 || len(g.oack) > maxRequest || g.timeout > maxTimeout*time.Second {
			t.Fatalf("%+v", g)
		}
		if g.oack != nil && bytes.Count(g.oack[2:], []byte{0})%2 != 0 {
			t.Fatalf("%q", g.oack)
		}
	})
}
