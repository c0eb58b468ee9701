package dhcp6

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// Base is where boot files are: URLs below which paths are. In each, "{address}" stands
// for the server's address on the link that heard the client, in brackets.
type Base struct {
	TFTP  string // default tftp://{address}
	HTTP  string // http://{address}; "" when there is none
	HTTPS string
}

// Errors of Base.URL.
var (
	ErrMethod  = errors.New("the server does not serve that way")
	ErrAddress = errors.New("the server has no IPv6 address there but a link-local one, which no URL can hold")
)

// URL is the address of the boot file of an answer, for a server with the address a on
// the client's link: what firmware takes in option 59. It wants an address and no name
// in it, tftp URLs of UEFI firmware at least (RFC 5970 section 3.1).
func (b Base) URL(answer netboot.Answer, a netip.Addr) (string, error) {
	base := map[netboot.Method]string{netboot.TFTP: cmp.Or(b.TFTP, "tftp://{address}"), netboot.HTTP: b.HTTP, netboot.HTTPS: b.HTTPS}[answer.Method]
	if base == "" {
		return "", fmt.Errorf("boot file by %q: %w", answer.Method, ErrMethod)
	}
	if strings.Contains(base, "{address}") {
		if !a.IsValid() || a.IsLinkLocalUnicast() {
			return "", fmt.Errorf("boot file by %s: %w", answer.Method, ErrAddress)
		}
		base = strings.ReplaceAll(base, "{address}", "["+a.WithZone("").String()+"]")
	}
	parts := strings.Split(answer.Path, "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return strings.TrimSuffix(base, "/") + "/" + strings.Join(parts, "/"), nil
}
