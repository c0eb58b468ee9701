package dhcp6

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// efi is a Solicit as EDK2 of 2022 sends it, made by another party's library.
func efi(t testing.TB, typ dhcpv6.MessageType, mods ...dhcpv6.Modifier) []byte {
	t.Helper()
	m, err := dhcpv6.NewMessage()
	if err != nil {
		t.Fatal(err)
	}
	m.MessageType, m.TransactionID = typ, dhcpv6.TransactionID{1, 2, 3}
	m.AddOption(dhcpv6.OptClientID(clientDUID))
	m.AddOption(dhcpv6.OptElapsedTime(0))
	m.AddOption(dhcpv6.OptClientArchType(iana.EFI_X86_64))
	m.AddOption(&dhcpv6.OptVendorClass{EnterpriseNumber: Intel, Data: [][]byte{[]byte("PXEClient:Arch:00007:UNDI:003000")}})
	for _, f := range mods {
		f(m)
	}
	return m.ToBytes()
}

var (
	clientMAC  = net.HardwareAddr{0x52, 0x54, 0, 0x12, 0x34, 0x56}
	clientDUID = &dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: clientMAC}
	source     = netip.MustParseAddr("fe80::5054:ff:fe12:3456%eth0")
)

func parse(t testing.TB, b []byte) Packet {
	t.Helper()
	p, err := ParsePacket(b)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestClient(t *testing.T) {
	p := parse(t, efi(t, dhcpv6.MessageTypeSolicit))
	c := Client(p, source)
	if c.MAC.String() != "52:54:00:12:34:56" || c.Arch != netboot.EFIX64 || c.Class != "PXEClient:Arch:00007:UNDI:003000" || c.IPXE || c.Init || c.HTTP() {
		t.Errorf("%+v", c)
	}
	ipxe := parse(t, efi(t, dhcpv6.MessageTypeSolicit, dhcpv6.WithUserClass([]byte("iPXE"))))
	if !Client(ipxe, source).IPXE {
		t.Error("iPXE is not known by its user class")
	}
}

// TestMACs: which of what a client says of its hardware address counts.
func TestMACs(t *testing.T) {
	llt := "0001000100000000" + "020000000001"
	uuid := "0004" + strings.Repeat("1", 32)
	relay := func(o ...Option) []Relay {
		return []Relay{{Peer: netip.MustParseAddr("fe80::ff:fe00:3"), Options: o}}
	}
	for _, x := range []struct {
		name, duid, source string
		relays             []Relay
		want               string
	}{
		{"EUI-64 before DUID", llt, "fe80::ff:fe00:2", nil, "02:00:00:00:00:02"},
		{"DUID when the address is private", llt, "fe80::1234:5678:9abc:def0", nil, "02:00:00:00:00:01"},
		{"nothing", uuid, "fe80::1234:5678:9abc:def0", nil, "00:00:00:00:00:00"},
		{"group bit", uuid, "fe80::300:ff:fe00:1", nil, "00:00:00:00:00:00"},
		{"relay's peer, not the relay", llt, "fd00::1", relay(), "02:00:00:00:00:03"},
		{"option 79 before all", llt, "fd00::1", relay(Option{OptLinkLayer, []byte{0, 1, 2, 0, 0, 0, 0, 4}}), "02:00:00:00:00:04"},
		{"option 79 of no Ethernet", llt, "fd00::1", relay(Option{OptLinkLayer, []byte{0, 32, 2, 0, 0, 0, 0, 4}}), "02:00:00:00:00:03"},
	} {
		duid, _ := hex.DecodeString(x.duid)
		p := Packet{Relays: x.relays, Message: Message{Type: Solicit, Options: Options{{OptClientID, duid}}}}
		if got := Client(p, netip.MustParseAddr(x.source)).MAC.String(); got != x.want {
			t.Errorf("%s: %s, want %s", x.name, got, x.want)
		}
	}
}

// TestUUID: OVMF with -uuid 00112233-4455-6677-8899-aabbccddeeff sends the first three
// fields the other way round, which RFC 6355 does not say.
func TestUUID(t *testing.T) {
	mixed, _ := hex.DecodeString("000433221100554477668899aabbccddeeff")
	plain, _ := hex.DecodeString("000400112233445566778899aabbccddeeff")
	const want = "00112233-4455-6677-8899-aabbccddeeff"
	if a, b := DUID(mixed).UUID(true), DUID(plain).UUID(false); a != want || b != want {
		t.Errorf("%s, %s", a, b)
	}
	for _, x := range []byte{0, 0xff} {
		if u := DUID(append([]byte{0, 4}, bytes.Repeat([]byte{x}, 16)...)).UUID(true); u != "" {
			t.Errorf("%s is the UUID of every board without one", u)
		}
	}
}

// TestOracle: what is written here, another party's library reads, and the other way.
func TestOracle(t *testing.T) {
	status := NoAddrsAvail
	ia := IANA{ID: 7, T1: time.Hour, T2: 2 * time.Hour, Addresses: []Address{{netip.MustParseAddr("fd00::1"), time.Hour, 3 * time.Hour}}, Status: &status}
	p := Packet{
		Relays: []Relay{{Hops: 1, Link: netip.MustParseAddr("fd00::ff"), Peer: netip.MustParseAddr("fe80::1"), Options: Options{{OptInterfaceID, []byte("port7")}}},
			{Link: netip.IPv6Unspecified(), Peer: netip.MustParseAddr("fe80::2")}},
		Message: Message{Reply, [3]byte{9, 8, 7}, Options{{OptServerID, ServerDUID(netboot.MAC{2, 0, 0, 0, 0, 1})}, ia.Option(),
			{OptBootURL, []byte("tftp://[fd00::1]/x")}, VendorClass(Intel, "HTTPClient")}},
	}
	wire := p.AppendBinary(nil)
	other, err := dhcpv6.FromBytes(wire)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(other.ToBytes(), wire) {
		t.Errorf("read and written again:\n%x\n%x", other.ToBytes(), wire)
	}
	outer := other.(*dhcpv6.RelayMessage)
	if outer.MessageType != dhcpv6.MessageTypeRelayReply || string(outer.Options.InterfaceID()) != "port7" || outer.HopCount != 1 {
		t.Errorf("outer relay: %s", outer.Summary())
	}
	m, err := outer.GetInnerMessage()
	if err != nil {
		t.Fatal(err)
	}
	got := m.Options.OneIANA()
	if m.Options.BootFileURL() != "tftp://[fd00::1]/x" || got.T2 != 2*time.Hour || got.Options.OneAddress().ValidLifetime != 3*time.Hour ||
		got.Options.Status().StatusCode != iana.StatusNoAddrsAvail {
		t.Error(m.Summary())
	}
	if vc := m.Options.VendorClasses(); len(vc) != 1 || vc[0].EnterpriseNumber != Intel || string(vc[0].Data[0]) != "HTTPClient" {
		t.Errorf("vendor class: %v", vc)
	}
	if m.Options.ServerID().DUIDType() != dhcpv6.DUID_LL {
		t.Errorf("server: %s", m.Options.ServerID())
	}
	again := parse(t, wire)
	if !bytes.Equal(again.AppendBinary(nil), wire) || len(again.Relays) != 2 {
		t.Error("not the same when read here")
	}
	back, err := ParseIANA(again.Message.Options[1].Data)
	if err != nil || back.Addresses[0] != ia.Addresses[0] || *back.Status != status {
		t.Errorf("%+v, %v", back, err)
	}
}

func TestParseRefuses(t *testing.T) {
	deep := Packet{Relays: make([]Relay, MaxRelays), Message: Message{Type: Solicit}}
	if _, err := ParsePacket(deep.AppendBinary(nil)); err != nil {
		t.Errorf("%d relays: %v", MaxRelays, err)
	}
	deep.Relays = make([]Relay, MaxRelays+1)
	mixed := Packet{Relays: make([]Relay, 2), Message: Message{Type: Solicit}}.AppendBinary(nil)
	mixed[0] = byte(RelayReply)
	for name, b := range map[string][]byte{
		"empty": {}, "half a header": {1, 2}, "9 relays": deep.AppendBinary(nil), "mixed relays": mixed,
		"relay without a message": append([]byte{12, 0}, make([]byte, 32)...), "half a relay": {12, 0, 0},
		"option longer than the datagram": {1, 0, 0, 0, 0, 1, 0, 9, 1},
		"half an option header":           {1, 0, 0, 0, 0, 1, 0},
		"many options":                    append([]byte{1, 0, 0, 0}, make([]byte, 4*(maxOptions+1))...),
		"empty message in a relay":        append(append([]byte{12, 0}, make([]byte, 32)...), 0, 9, 0, 0),
	} {
		var f *FormatError
		if _, err := ParsePacket(b); !errors.As(err, &f) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(efi(f, dhcpv6.MessageTypeSolicit, dhcpv6.WithIAID([4]byte{1})))
	f.Add(efi(f, dhcpv6.MessageTypeInformationRequest))
	f.Add(Packet{Relays: make([]Relay, 3), Message: Message{Type: Solicit, Options: Options{{OptClientID, []byte{0, 4, 1, 2}}, {OptIANA, make([]byte, 12)}}}}.AppendBinary(nil))
	f.Add(Packet{Message: Message{Type: Request, Options: Options{{OptClientID, []byte{0, 3, 0, 1, 1, 2, 3, 4, 5, 6}}, {OptServerID, ours}, {OptIANA, make([]byte, 12)}}}}.AppendBinary(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePacket(b)
		if err != nil {
			return
		}
		Client(p, source)
		for _, assign := range []bool{true, false} {
			s := server(t, assign)
			out := s.Answer(Question{Packet: p, Source: source, Link: onLink, Boot: yes, URL: "tftp://[fd00::1]/x"}, start)
			if out == nil {
				continue
			}
			wire := out.AppendBinary(nil)
			if again, err := ParsePacket(wire); err != nil || again.Message.TransactionID != p.Message.TransactionID {
				t.Errorf("an answer that cannot be read: %v\n%x\n%x", err, b, wire)
			}
			if len(wire) > len(b)+400+maxIAs*64 {
				t.Errorf("%d bytes are answered by %d", len(b), len(wire))
			}
		}
	})
}
