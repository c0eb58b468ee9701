package netlab

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"sync"
)

// Packet is what of a frame tests ask for; zero where a frame has no such thing.
type Packet struct {
	Source, Destination netip.AddrPort
	Protocol            byte // of IP: 6 TCP, 17 UDP
	Fragment            bool // a part of an IP packet
	Payload             []byte
}

// Ethernet types, and numbers of IPv6 extension headers.
const (
	typeIPv4, typeIPv6 = 0x0800, 0x86dd
	hopByHop, fragment = 0, 44
	tcp, udp           = 6, 17
)

// Parse reads a frame: IPv4 or IPv6, TCP or UDP. What it cannot read it leaves
// zero.
func Parse(frame []byte) (p Packet) {
	if len(frame) < 14 {
		return p
	}
	body := frame[14:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case typeIPv4:
		return parse4(body)
	case typeIPv6:
		return parse6(body)
	}
	return p
}

func parse4(b []byte) (p Packet) {
	if len(b) < 20 || len(b) < int(b[0]&15)*4 {
		return p
	}
	src, _ := netip.AddrFromSlice(b[12:16])
	dst, _ := netip.AddrFromSlice(b[16:20])
	const moreFragments, offset = 0x2000, 0x1fff // RFC 791 section 3.1
	p.Protocol, p.Fragment = b[9], binary.BigEndian.Uint16(b[6:])&(moreFragments|offset) != 0
	b = b[:min(len(b), max(int(binary.BigEndian.Uint16(b[2:])), int(b[0]&15)*4))] // short frames are padded
	p.transport(src, dst, b[int(b[0]&15)*4:])
	return p
}

func parse6(b []byte) (p Packet) {
	if len(b) < 40 {
		return p
	}
	src, _ := netip.AddrFromSlice(b[8:24])
	dst, _ := netip.AddrFromSlice(b[24:40])
	next, rest := b[6], b[40:]
	for len(rest) >= 8 && (next == hopByHop || next == fragment) {
		n := 8
		if next == hopByHop {
			n += int(rest[1]) * 8
		} else {
			p.Fragment = true
		}
		next, rest = rest[0], rest[min(n, len(rest)):]
	}
	p.Protocol = next
	p.transport(src, dst, rest)
	return p
}

// transport reads the ports. A fragment has none: its payload is all of it.
func (p *Packet) transport(src, dst netip.Addr, b []byte) {
	p.Source, p.Destination, p.Payload = netip.AddrPortFrom(src, 0), netip.AddrPortFrom(dst, 0), b
	head := 8
	if p.Protocol == tcp && len(b) >= 20 {
		head = int(b[12]>>4) * 4
	}
	if p.Fragment || p.Protocol != tcp && p.Protocol != udp || len(b) < head {
		return
	}
	p.Source = netip.AddrPortFrom(src, binary.BigEndian.Uint16(b))
	p.Destination = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[2:]))
	p.Payload = b[head:]
}

// Search looks for byte strings in what goes over a wire, also where one is cut
// in two by a packet's end. It is a sink for captures; its methods may be called
// concurrently.
type Search struct {
	mu    sync.Mutex
	texts [][]byte
	found map[string]Packet
	tails map[flow][]byte
}

type flow struct{ from, to netip.AddrPort }

// NewSearch looks for each of texts.
func NewSearch(texts ...string) *Search {
	s := &Search{found: map[string]Packet{}, tails: map[flow][]byte{}}
	for _, t := range texts {
		s.texts = append(s.texts, []byte(t))
	}
	return s
}

// See looks at a frame.
func (s *Search) See(f Frame) {
	p := Parse(f.Data)
	s.mu.Lock()
	defer s.mu.Unlock()
	body := f.Data // what is not IP, and all headers, are looked at as they are
	key := flow{p.Source, p.Destination}
	if p.Payload != nil {
		data := p.Payload
		if p.Protocol == udp && len(data) > 4 && data[0] == 0 && data[1] == 3 { // a TFTP block: RFC 1350 section 5
			data = data[4:]
		}
		body = append(s.tails[key], data...)
	}
	longest := 0
	for _, text := range s.texts {
		longest = max(longest, len(text))
		if bytes.Contains(body, text) || bytes.Contains(f.Data, text) {
			s.found[string(text)] = p
		}
	}
	if p.Payload != nil {
		s.tails[key] = bytes.Clone(body[max(0, len(body)-longest+1):])
	}
}

// Found gives the packet that each text was last seen in.
func (s *Search) Found() map[string]Packet {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.found
}
