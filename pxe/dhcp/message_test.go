package dhcp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/ingot-os/ingot/pxe/netboot"
)

var testMAC = netboot.MAC{0x52, 0x54, 0, 0x12, 0x34, 0x56}

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// ask is a message of a client.
func ask(t Type, mac netboot.MAC, opts ...Option) Message {
	m := Message{Op: opRequest, HType: ethernet, HLen: 6, XID: 0x12345678}
	copy(m.Hardware[:], mac[:])
	m.Options = append(Options{{optType, []byte{byte(t)}}}, opts...)
	return m
}

func class(s string) Option { return Option{optClass, []byte(s)} }

func archOption(n uint16) Option { return Option{optArch, binary.BigEndian.AppendUint16(nil, n)} }

func roundTrip(t *testing.T, m Message, limit int) (Message, []byte, []byte) {
	t.Helper()
	b, left := m.Append(nil, limit)
	got, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return got, b, left
}

// TestLibraryReadsWhatIsWritten: another implementation finds each field and option.
func TestLibraryReadsWhatIsWritten(t *testing.T) {
	m := ask(Offer, testMAC, class("HTTPClient"), Option{optBootFile, []byte(strings.Repeat("u", 300))}, Option{optRelayInfo, []byte("\x01\x04\xff\x00\xff\x00\x02\x01\x07")}, Option{optServer, []byte{192, 0, 2, 1}})
	m.Op, m.Client, m.Your, m.Next, m.Relay = opReply, ip("192.0.2.3"), ip("192.0.2.4"), ip("192.0.2.5"), ip("192.0.2.6")
	m.SName, m.File, m.Flags, m.Secs, m.Hops = "boot", "a/b.efi", broadcast, 7, 2
	b, left := m.Append(nil, maximumLimit)
	if left != nil {
		t.Errorf("left out %v", left)
	}
	d, err := dhcpv4.FromBytes(b)
	if err != nil {
		t.Fatal(err)
	}
	if d.ServerHostName != "boot" || d.BootFileName != "a/b.efi" || d.NumSeconds != 7 || d.HopCount != 2 || !d.IsBroadcast() || d.TransactionID != [4]byte{0x12, 0x34, 0x56, 0x78} ||
		d.ClientIPAddr.String()+d.YourIPAddr.String()+d.ServerIPAddr.String()+d.GatewayIPAddr.String() != "192.0.2.3192.0.2.4192.0.2.5192.0.2.6" || d.ClientHWAddr.String() != testMAC.String() {
		t.Errorf("%s", d.Summary())
	}
	for _, o := range m.Options {
		if !bytes.Equal(d.Options.Get(dhcpv4.GenericOptionCode(o.Code)), o.Data) {
			t.Errorf("option %d: %q", o.Code, d.Options.Get(dhcpv4.GenericOptionCode(o.Code)))
		}
	}
	if i := bytes.LastIndex(b, []byte("\x52\x09\x01\x04\xff\x00\xff\x00\x02\x01\x07\xff")); i < 0 || len(bytes.Trim(b[i+12:], "\x00")) > 0 {
		t.Error("option 82 is not the last, byte for byte")
	}
}

// TestLibraryIsRead is the other way round, with random options.
func TestLibraryIsRead(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		d, err := dhcpv4.New()
		if err != nil {
			t.Fatal(err)
		}
		d.ClientHWAddr, d.BootFileName, d.ClientIPAddr = testMAC[:], "x", []byte{10, 0, 0, byte(r.IntN(255) + 1)}
		for range r.IntN(8) {
			data := make([]byte, r.IntN(600))
			for i := range data {
				data[i] = byte(r.Uint32())
			}
			code := byte(r.IntN(253) + 1)
			if code != optOverload {
				d.UpdateOption(dhcpv4.OptGeneric(dhcpv4.GenericOptionCode(code), data))
			}
		}
		b := d.ToBytes()
		m, err := Parse(b)
		if len(b) > MaxSize {
			if err == nil {
				t.Errorf("%d bytes are read", len(b))
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if m.MAC() != testMAC || m.File != "x" || m.Client.String() != d.ClientIPAddr.String() || len(m.Options) != len(d.Options) {
			t.Fatalf("%+v of %s", m, d.Summary())
		}
		for _, o := range m.Options {
			if !bytes.Equal(o.Data, d.Options[o.Code]) {
				t.Errorf("option %d: %x, want %x", o.Code, o.Data, d.Options[o.Code])
			}
		}
	}
}

// TestOverload: what does not fit goes into file and sname (option 52), and comes back.
func TestOverload(t *testing.T) {
	m := ask(Offer, testMAC, Option{optBootFile, bytes.Repeat([]byte("u"), 200)}, Option{optVendor, bytes.Repeat([]byte("v"), 100)},
		Option{optDomain, bytes.Repeat([]byte("d"), 50)}, Option{optTFTPName, bytes.Repeat([]byte("t"), 90)}, Option{optRelayInfo, bytes.Repeat([]byte{1, 2, 0, 255}, 15)})
	got, b, left := roundTrip(t, m, defaultLimit)
	if len(b) > defaultLimit || !slices.Equal(left, []byte{optTFTPName}) {
		t.Errorf("%d bytes, left out %v", len(b), left)
	}
	for _, o := range m.Options {
		if o.Code != optTFTPName && !bytes.Equal(got.Options.Get(o.Code), o.Data) {
			t.Errorf("option %d: %q", o.Code, got.Options.Get(o.Code))
		}
	}
	d, err := dhcpv4.FromBytes(b)
	if err != nil || len(d.Options.Get(dhcpv4.OptionBootfileName)) != 200 {
		t.Errorf("%v, %v", d, err)
	}
	m.File, m.SName = "boot.efi", "x" // are used: nothing may be laid over them
	got, b, left = roundTrip(t, m, defaultLimit)
	if got.File != "boot.efi" || got.Options.Get(optOverload) != nil || len(b) > defaultLimit || len(left) != 3 {
		t.Errorf("file %q, left out %v", got.File, left)
	}
}

func TestRelayInfoThatDoesNotFit(t *testing.T) {
	m := ask(Offer, testMAC, Option{optServer, []byte{1, 2, 3, 4}}, Option{optRelayInfo, make([]byte, 400)})
	got, b, left := roundTrip(t, m, defaultLimit)
	if len(b) > defaultLimit || !slices.Equal(left, []byte{optRelayInfo}) || got.Options.Get(optRelayInfo) != nil || got.Options.Get(optServer) == nil {
		t.Errorf("%d bytes, left out %v, %v", len(b), left, got.Options)
	}
}

// TestMalformed: each is refused at its place.
func TestMalformed(t *testing.T) {
	m := ask(Discover, testMAC)
	good, _ := m.Append(nil, defaultLimit)
	edit := func(f func(b []byte) []byte) []byte { return f(slices.Clone(good)) }
	for name, c := range map[string]struct {
		b     []byte
		off   int
		field string
	}{
		"empty":          {nil, 0, "header"},
		"short":          {good[:239], 239, "header"},
		"long":           {make([]byte, MaxSize+1), MaxSize, "options"},
		"bootp":          {edit(func(b []byte) []byte { b[236] = 0; return b }), 236, "cookie"},
		"op":             {edit(func(b []byte) []byte { b[0] = 3; return b }), 0, "op"},
		"hlen":           {edit(func(b []byte) []byte { b[2] = 17; return b }), 2, "hlen"},
		"option":         {edit(func(b []byte) []byte { return append(b[:243], 60, 9, 1) }), 243, "options"},
		"option at end":  {edit(func(b []byte) []byte { return append(b[:243], 60) }), 243, "options"},
		"overload file":  {edit(func(b []byte) []byte { b[108], b[109] = 1, 127; return append(b[:243], 52, 1, 1, 255) }), 108, "file"},
		"overload sname": {edit(func(b []byte) []byte { b[107] = 9; return append(b[:243], 52, 1, 3, 255) }), 107, "sname"},
	} {
		_, err := Parse(c.b)
		var f *FormatError
		if !errors.As(err, &f) || f.Off != c.off || f.Field != c.field {
			t.Errorf("%s: %v, want byte %d of %s", name, err, c.off, c.field)
		}
	}
	if _, err := Parse(good[:243]); err != nil {
		t.Errorf("without an end option: %v", err)
	}
}

func TestFacts(t *testing.T) {
	id := append([]byte{0}, 0x78, 0x56, 0x34, 0x12, 0xbc, 0x9a, 0xf0, 0xde, 1, 2, 3, 4, 5, 6, 7, 8)
	m := ask(Discover, testMAC, class("PXEClient:Arch:00007:UNDI:003000"), archOption(7), Option{optUUID, id}, Option{optUserClass, []byte("iPXE")},
		Option{optRelayInfo, []byte("\x01\x03p/7\x02\x02sw")})
	c := Facts(&m, "eth0")
	if c.MAC != testMAC || c.UUID != "12345678-9abc-def0-0102-030405060708" || c.Arch != netboot.EFIX64 || !c.IPXE || c.Init || string(c.CircuitID) != "p/7" || string(c.RemoteID) != "sw" || c.Link != "eth0" {
		t.Errorf("%+v", c)
	}
	for name, v := range map[string][]byte{"zero": make([]byte, 17), "ones": append([]byte{0}, bytes.Repeat([]byte{255}, 16)...), "short": id[:16], "type 1": append([]byte{1}, id[1:]...)} {
		if got := uuid(v); got != "" {
			t.Errorf("UUID of %s is %q", name, got)
		}
	}
	for _, c := range []struct {
		data  []byte
		class string
		want  netboot.Arch
	}{
		{[]byte{0, 7}, "", 7}, {[]byte{0, 99, 0, 16}, "", 16}, {[]byte{0, 99}, "", 99}, {nil, "PXEClient:Arch:00000:UNDI:002001", 0},
		{nil, "PXEClient", netboot.Unknown}, {[]byte{7}, "PXEClient:Arch:xxxxx", netboot.Unknown}, {nil, "PXEClient:Arch:99999", netboot.Unknown},
	} {
		if got := arch(c.data, c.class); got != c.want {
			t.Errorf("%v %q: %s", c.data, c.class, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	m := ask(Discover, testMAC, class("PXEClient:Arch:00007:UNDI:003000"), archOption(7), Option{optRelayInfo, []byte("\x01\x03p/7\x02\x02sw")}, Option{optVendor, []byte("\x06\x01\x08\xff")})
	b, _ := m.Append(nil, defaultLimit)
	f.Add(b)
	f.Add(append(slices.Clone(b[:243]), 52, 1, 3, 255))
	f.Add(append(slices.Clone(b[:243]), 67, 2, 'a', 'b', 67, 1, 'c', 255))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse(b)
		if err != nil {
			return
		}
		Facts(&m, "x")
		for _, limit := range []int{0, defaultLimit, maximumLimit} {
			out, left := m.Append(nil, limit)
			if len(out) > max(limit, minimumSize) {
				t.Fatalf("%d bytes, limit %d", len(out), limit)
			}
			again, err := Parse(out)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range m.Options {
				if got := again.Options.Get(o.Code); o.Code != optOverload && !slices.Contains(left, o.Code) && !bytes.Equal(got, o.Data) {
					t.Fatalf("option %d: %x, want %x", o.Code, got, o.Data)
				}
			}
		}
	})
}
