package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/ingot-os/ingot/internal/netlab"
)

// wire is what a machine's cable has carried, read by parsers of others.
type wire struct {
	t       *testing.T
	capture *netlab.Capture
	search  *netlab.Search

	mu        sync.Mutex
	dhcp      []dhcpSeen
	tftp      []string // requests and answers but blocks, words separated by spaces
	fragments int
	requests  []string // first lines of HTTP
}

type dhcpSeen struct {
	at time.Time
	to netip.AddrPort
	m  *dhcpv4.DHCPv4
}

// watch looks at a device until the test ends.
func watch(t *testing.T, s *netlab.Space, dev string) *wire {
	t.Helper()
	w := &wire{t: t, search: netlab.NewSearch(written(canary)...)}
	w.capture = s.Capture(dev, w.see)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(w.story())
		}
	})
	return w
}

func (w *wire) see(f netlab.Frame) {
	w.search.See(f)
	p := netlab.Parse(f.Data)
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.Fragment {
		w.fragments++
	}
	const udp = 17
	switch to := p.Destination.Port(); {
	case p.Protocol != udp:
		for _, verb := range []string{"HEAD ", "GET "} {
			if bytes.HasPrefix(p.Payload, []byte(verb)) {
				line, _, _ := strings.Cut(string(p.Payload), "\r")
				w.requests = append(w.requests, line)
			}
		}
	case to == 67 || to == 68 || to == 4011:
		if m, err := dhcpv4.FromBytes(p.Payload); err == nil {
			w.dhcp = append(w.dhcp, dhcpSeen{f.Time, p.Destination, m})
		}
	case len(p.Payload) > 2 && p.Payload[0] == 0 && (p.Payload[1] == 1 || p.Payload[1] == 6) && to != 53:
		w.tftp = append(w.tftp, fmt.Sprintf("%d %s", p.Payload[1], strings.ToLower(strings.Join(strings.Split(strings.TrimRight(string(p.Payload[2:]), "\x00"), "\x00"), " "))))
	}
}

// story is what was seen, for people.
func (w *wire) story() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var s strings.Builder
	for _, d := range w.dhcp {
		fmt.Fprintf(&s, "%s %s xid %s class %q file %q relay %s\n", d.at.Format("05.000"), d.m.MessageType(), d.m.TransactionID, d.m.ClassIdentifier(), d.m.BootFileName, d.m.GatewayIPAddr)
	}
	return s.String() + strings.Join(w.tftp, "\n") + "\n" + strings.Join(w.requests, "\n") + fmt.Sprintf("\n%d fragments", w.fragments)
}

// clean wants no fragment and no secret on the wire.
func (w *wire) clean() {
	w.t.Helper()
	w.capture.Stop()
	if w.capture.Lost != 0 || w.capture.Frames == 0 {
		w.t.Errorf("%d frames were seen, and %d not", w.capture.Frames, w.capture.Lost)
	}
	if w.fragments != 0 {
		w.t.Errorf("%d fragments of IP packets", w.fragments)
	}
	for text, p := range w.search.Found() {
		w.t.Errorf("the secret %q goes from %s to %s", text, p.Source, p.Destination)
	}
}

// windowed wants transfers by TFTP as EDK2 asks for them: blksize 1468 and
// windowsize 4, answered with the options asked for and no others, in that order.
func (w *wire) windowed(path string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	var asked bool
	for _, line := range w.tftp {
		switch {
		case strings.HasPrefix(line, "1 "+strings.ToLower(path)+" octet ") && strings.Contains(line, "blksize 1468 windowsize 4"):
			asked = true
		case strings.HasPrefix(line, "6 ") && strings.HasSuffix(line, "blksize 1468 windowsize 4") && asked:
			return
		}
	}
	w.t.Errorf("no window of 4 was agreed on:\n%s", strings.Join(w.tftp, "\n"))
}

// answered wants all answers to a relay agent to have gone to it, by unicast and with
// its option 82 as it was in the question (RFC 3046 section 2.2).
func (w *wire) answered(agent string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	asked, answers := map[dhcpv4.TransactionID][]byte{}, 0
	for _, d := range w.dhcp {
		information := d.m.Options.Get(dhcpv4.OptionRelayAgentInformation)
		switch {
		case d.m.OpCode == dhcpv4.OpcodeBootRequest:
			asked[d.m.TransactionID] = information
		case d.to != netip.AddrPortFrom(netip.MustParseAddr(agent), 67) || d.m.GatewayIPAddr.String() != agent:
			w.t.Errorf("an answer for the relay agent %s goes to %s", d.m.GatewayIPAddr, d.to)
		case len(information) == 0 || !bytes.Equal(information, asked[d.m.TransactionID]):
			w.t.Errorf("option 82 is %x in the question and %x in the answer", asked[d.m.TransactionID], information)
		default:
			answers++
		}
	}
	if answers == 0 {
		w.t.Error("the relay agent got no answer")
	}
}

// told wants a firmware that may not boot to have taken the first answer to each of
// its questions, and says how long it took over them.
func (w *wire) told() {
	w.t.Helper()
	w.capture.Stop()
	firmware := map[string]int{}
	for i, d := range w.dhcp {
		class, _, _ := strings.Cut(d.m.ClassIdentifier(), ":")
		if class != "PXEClient" && class != "HTTPClient" {
			continue
		}
		if d.m.MessageType() == dhcpv4.MessageTypeDiscover {
			firmware[class]++
		}
		if i > 0 {
			w.t.Logf("%s %s %.1f s after the message before", class, d.m.MessageType(), d.at.Sub(w.dhcp[i-1].at).Seconds())
		}
	}
	for _, class := range []string{"PXEClient", "HTTPClient"} {
		if n := firmware[class]; n < 1 || n > 2 {
			w.t.Errorf("%s that was told no has asked %d times", class, n)
		}
	}
	if len(w.tftp) > 0 {
		w.t.Errorf("it has asked for files: %q", w.tftp)
	}
}

// written are the ways that a program may write a secret: as it is, in hex, and in base64
// behind any number of bytes, without the ends that its neighbours have a part in.
func written(secret string) []string {
	out := []string{secret, hex.EncodeToString([]byte(secret))}
	for before := range 3 {
		text := base64.StdEncoding.EncodeToString(append(make([]byte, before), secret...))
		from, to := (8*before+5)/6, 8*(before+len(secret))/6
		out = append(out, text[from:to])
	}
	return out
}

// TestWritten: each text is found in what was written.
func TestWritten(t *testing.T) {
	for before := range 6 {
		in := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", before) + canary + "yz"))
		if !slices.ContainsFunc(written(canary), func(w string) bool { return strings.Contains(in, w) }) {
			t.Errorf("behind %d bytes: %s has none of %q", before, in, written(canary))
		}
	}
}
