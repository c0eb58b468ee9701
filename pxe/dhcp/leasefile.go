package dhcp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"time"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// The file of leases is text: a line that says what it is, one line of JSON for each
// lease, and a line with their number and their CRC-32, so that half a file is not taken
// for a whole one: what it lacks would be given to somebody else.
const (
	fileHead = "ingot dhcp leases 1\n"
	fileTail = "end %d %08x\n"
)

// maxLeaseLine is more than the longest line has: names have 63 characters, none of which
// JSON writes in another way, and years four.
const maxLeaseLine = 256

// MaxLeaseFile is how many bytes of a file of leases are read at most: of as many leases
// as a configuration has addresses, and again as many of the one before it.
const MaxLeaseFile = 2*MaxAddresses*maxLeaseLine + 64

// ErrLeases is the error of a file of leases that is not whole.
var ErrLeases = errors.New("not a whole file of leases; put a copy of it back, or move it away: then machines keep their addresses as they renew them, and an address can be given twice until they do")

type leaseLine struct {
	Addr     netip.Addr  `json:"address"`
	MAC      netboot.MAC `json:"mac"`
	Name     string      `json:"name,omitempty"`
	Standing Standing    `json:"standing"`
	Since    time.Time   `json:"since"`
	Expires  time.Time   `json:"expires"`
}

// AppendText writes the leases for a file. Offers are not kept: a client asks again.
func (l *Leases) AppendText(b []byte) []byte {
	b = append(b, fileHead...)
	start, n := len(b), 0
	for _, x := range l.List() {
		if x.Standing == Offered {
			continue
		}
		line, err := json.Marshal(leaseLine{x.Addr, x.MAC, x.Name, x.Standing, x.Since.UTC().Truncate(time.Second), x.Expires.UTC().Truncate(time.Second)})
		if err != nil {
			continue // years beyond 9999, which Now never was
		}
		b, n = append(append(b, line...), '\n'), n+1
	}
	return fmt.Appendf(b, fileTail, n, crc32.ChecksumIEEE(b[start:]))
}

// ParseLeases reads what AppendText has written. State.Reload then sorts it into the
// networks of a policy.
func ParseLeases(b []byte) (Leases, error) {
	var l Leases
	l.init()
	body, ok := bytes.CutPrefix(b, []byte(fileHead))
	if !ok || len(b) > MaxLeaseFile {
		return l, fmt.Errorf("read leases: line 1 is not %q: %w", fileHead[:len(fileHead)-1], ErrLeases)
	}
	lines := bytes.SplitAfter(body, []byte("\n"))
	n := len(lines) - 2 // the tail, and nothing after its newline
	if n < 0 || string(lines[n]) != fmt.Sprintf(fileTail, n, crc32.ChecksumIEEE(bytes.Join(lines[:n], nil))) {
		return l, fmt.Errorf("read leases: the last line does not fit the %d before it: %w", max(n, 0), ErrLeases)
	}
	for i, line := range lines[:n] {
		var x leaseLine
		if err := json.Unmarshal(line, &x); err != nil {
			return Leases{}, fmt.Errorf("read leases: line %d: %v: %w", i+2, err, ErrLeases)
		}
		if !x.Addr.Is4() || x.Standing != Bound && x.Standing != Declined {
			return Leases{}, fmt.Errorf("read leases: line %d: no lease of IPv4: %w", i+2, ErrLeases)
		}
		l.byAddr[x.Addr] = Lease{Addr: x.Addr, MAC: x.MAC, Name: x.Name, Standing: x.Standing, Since: x.Since, Expires: x.Expires}
	}
	return l, nil
}
