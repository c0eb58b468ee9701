package dhcp

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// hereMark is replaced in Base by the server's address on the client's link.
const hereMark = "{address}"

func here(s string, local netip.Addr) string { return strings.ReplaceAll(s, hereMark, local.String()) }

// noDiscovery is option 43 for PXE clients: discovery control with bit 3, "load the file
// that is named here" (PXE 2.1 table 2-2). Without it EDK2 asks port 4011 again, which
// takes it 1.2 s more.
var noDiscovery = []byte{pxeControl, 1, 8, optEnd}

// localBoot is option 43 for PXE clients that shall not boot from here: a menu without time
// to choose, whose one item is type 0, "boot locally" (PXE 2.1 section 2.4). EDK2 and
// PXE ROMs leave at once for their next boot option.
var localBoot = append(appendSub(appendSub(appendSub(nil,
	pxeControl, []byte{0}),
	pxePrompt, []byte("\x00Local boot")),
	pxeMenu, append([]byte{0, 0, 10}, "Local boot"...)), optEnd)

// tell puts a decision into an answer, and says what it has told.
func (t *turn) tell(r *Message) netboot.Event {
	a := t.answer
	if a.Verb == netboot.Boot {
		if why := t.name(r); why != "" {
			a = netboot.Answer{Verb: netboot.Refuse, Reason: why}
		}
	}
	if a.Verb == netboot.Refuse {
		t.refuse(r)
		return t.event(netboot.Refused, a.Reason)
	}
	e := t.event(netboot.Offered, fmt.Sprintf("%s on %d: %s", r.Type(), t.q.Port, a.Reason))
	e.Method, e.Path = a.Method, a.Path
	return e
}

// name puts the boot file into an answer, or says why it cannot.
func (t *turn) name(r *Message) (why string) {
	a, base := t.answer, t.p.Base
	switch {
	case a.Path == "":
		return "no file is named"
	case a.Method == netboot.TFTP && t.kind == http:
		return "firmware that boots from URLs is given a file of TFTP"
	case a.Method != netboot.TFTP && t.kind == pxe && !t.client.IPXE:
		return "firmware that boots by TFTP is given a URL"
	case a.Method == netboot.TFTP:
		t.class(r)
		return t.nameTFTP(r)
	}
	root := map[netboot.Method]string{netboot.HTTP: base.HTTP, netboot.HTTPS: base.HTTPS}[a.Method]
	if root == "" {
		return fmt.Sprintf("the server has no address for %q", a.Method)
	}
	t.class(r)
	// In option 67 alone: the field has room for 127 bytes, and firmware that finds both takes
	// the field (UEFI 2.10 section 24.7.3.1 speaks of the option).
	r.Options.setString(optBootFile, t.url(root, a.Path))
	return ""
}

// nameTFTP says it in every way that firmware reads: old PXE ROMs only look at siaddr and
// the field file, EDK2 prefers options 66 and 67.
func (t *turn) nameTFTP(r *Message) (why string) {
	at := t.p.Base.TFTP
	if at == "" {
		at = hereMark
	}
	addr, err := netip.ParseAddr(here(at, t.q.Local))
	if err != nil || len(t.answer.Path) > 255 {
		return fmt.Sprintf("no TFTP server %q for a name of %d bytes", at, len(t.answer.Path))
	}
	r.Next = addr
	if len(t.answer.Path) < headerSize-fileAt {
		r.File = t.answer.Path
	}
	r.Options.setString(optTFTPName, addr.String())
	r.Options.setString(optBootFile, t.answer.Path)
	return ""
}

// class gives firmware its own vendor class back, without which it takes an offer for one of
// an ordinary server (PXE 2.1 section 2.2.1; UEFI 2.10 section 24.7.2), and tells it not to look
// further.
func (t *turn) class(r *Message) {
	switch t.kind {
	case http:
		r.Options.setString(optClass, httpClass)
	case pxe:
		r.Options.setString(optClass, pxeClass)
		r.Options.Set(optVendor, noDiscovery)
		if t.client.IPXE && t.p.Mode == Full {
			// iPXE waits for a ProxyDHCP server otherwise: sub-option no-pxedhcp.
			r.Options.Set(optIPXE, []byte{0xb0, 1, 1})
		}
	}
}

// refuse tells firmware that there is nothing for it, so that it goes on at once. UEFI
// that boots from URLs takes an offer without one for none, and asks for a minute: it is
// given a URL that is nowhere.
func (t *turn) refuse(r *Message) {
	switch t.kind {
	case pxe:
		r.Options.setString(optClass, pxeClass)
		r.Options.Set(optVendor, localBoot)
	case http:
		root := t.p.Base.HTTP
		if root == "" {
			root = "http://" + hereMark
		}
		r.Options.setString(optClass, httpClass)
		r.Options.setString(optBootFile, t.url(root, "boot/"+t.client.MAC.Plain()+"/refused"))
	}
}

func (t *turn) url(root, path string) string {
	return strings.TrimSuffix(here(root, t.q.Local), "/") + "/" + (&url.URL{Path: path}).EscapedPath()
}

// server tells ingot-init where its server is (DESIGN S14), and where boot files are.
func (t *turn) server(r *Message) {
	var b []byte
	for _, u := range t.p.Base.Server {
		b = appendSub(b, netboot.InitServer, []byte(here(u, t.q.Local)))
	}
	if t.p.Base.HTTP != "" {
		b = appendSub(b, netboot.InitBoot, []byte(strings.TrimSuffix(here(t.p.Base.HTTP, t.q.Local), "/")))
	}
	if b != nil {
		r.Options.setString(optClass, netboot.InitClass)
		r.Options.Set(optVendor, append(b, optEnd))
	}
}
