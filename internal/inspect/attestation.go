package inspect

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/eventlog"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/quote"
)

// Nothing is verified here, only shown: ingot attest verify judges.

// readEvidence shows the logs first, because what differs in them is why
// registers and quote do.
func readEvidence(n *Node, r io.ReaderAt, size int64) error {
	data, err := readAll(r, size)
	if err != nil {
		return err
	}
	e, err := attest.ParseEvidence(data)
	if err != nil {
		return err
	}
	n.add("format", e.Format)
	n.add("nonce", hex.EncodeToString(e.Nonce))
	n.add("firmware", e.Firmware)
	addLog(n, "firmware", e.EventLog)
	if len(e.InitLog) > 0 {
		addLog(n, "ingot-init", e.InitLog)
	}
	for _, bank := range []pcr.Bank{pcr.SHA1, pcr.SHA256, pcr.SHA384, pcr.SHA512} {
		if registers, ok := e.PCRs[bank]; ok {
			c := n.child("bank", bank.String())
			for i := range pcr.Count {
				if v, ok := registers[i]; ok {
					c.add("PCR "+strconv.Itoa(i), v)
				}
			}
		}
	}
	addQuote(n, e)
	if e.Floor != nil {
		addFloor(n, e.Floor)
	}
	addPublic(n, "attestation", e.AK)
	if len(e.EK) > 0 {
		addPublic(n, "endorsement", e.EK)
	}
	if len(e.EKCertificate) > 0 {
		c, err := Reader(bytes.NewReader(e.EKCertificate), int64(len(e.EKCertificate)), "endorsement")
		if err != nil {
			return err
		}
		n.Children = append(n.Children, c)
	}
	return nil
}

func addPublic(n *Node, name string, area []byte) {
	c := n.child("key", name)
	p, err := quote.ParsePublic(area)
	if err != nil {
		c.add("problem", err)
		return
	}
	c.add("name", hex.EncodeToString(p.Name()))
	c.add("attributes", fmt.Sprintf("%#x", uint32(p.Attributes)))
	addKey(c, p.Key)
}

// addQuote shows what the TPM says to have signed.
func addQuote(n *Node, e *attest.Evidence) {
	c := n.child("quote", "TPMS_ATTEST")
	q, err := quote.Parse(e.Quote)
	if err != nil {
		c.add("problem", err)
		return
	}
	c.add("extra data", hex.EncodeToString(q.ExtraData))
	for _, s := range q.Selections {
		var registers []string
		for i := range pcr.Count {
			if s.Has(i) {
				registers = append(registers, strconv.Itoa(i))
			}
		}
		c.add("registers of "+s.Bank.String(), strings.Join(registers, " "))
	}
	c.add("digest", hex.EncodeToString(q.Digest))
	c.add("clock", fmt.Sprintf("%d ms", q.Clock.Millis))
	c.add("resets", q.Clock.ResetCount)
	c.add("restarts", q.Clock.RestartCount)
	c.add("safe", q.Clock.Safe)
	c.add("firmware of the TPM", fmt.Sprintf("%#x", q.FirmwareVersion))
	c.add("signature", hex.EncodeToString(e.Signature))
}

// addFloor shows what the TPM says to have signed of the version floor's counter.
func addFloor(n *Node, p *attest.FloorProof) {
	c := n.child("version floor", "TPMS_ATTEST")
	if p.Epoch != nil {
		c.add("floor", *p.Epoch)
	}
	v, err := quote.ParseNV(p.Attest)
	if err != nil {
		c.add("problem", err)
		return
	}
	c.add("index", hex.EncodeToString(v.Index))
	if len(v.Contents) == 8 {
		c.add("counter", binary.BigEndian.Uint64(v.Contents))
	} else {
		c.add("contents", hex.EncodeToString(v.Contents))
	}
	c.add("extra data", hex.EncodeToString(v.ExtraData))
	c.add("signature", hex.EncodeToString(p.Signature))
}

// isLog knows a log by its first event, which says what the log is: nothing
// else begins with an EV_NO_ACTION of PCR 0 whose digest is zero.
func isLog(head []byte) bool {
	return len(head) > 48 && bytes.Equal(head[:8], []byte{0, 0, 0, 0, 3, 0, 0, 0}) &&
		bytes.Equal(head[8:28], make([]byte, 20)) && bytes.HasPrefix(head[32:], []byte("Spec ID Event0"))
}

func readLog(n *Node, r io.ReaderAt, size int64) error {
	data, err := readAll(r, size)
	if err != nil {
		return err
	}
	return fillLog(n, data)
}

func addLog(n *Node, name string, log []byte) {
	c := n.child("log", name)
	c.add("size", len(log))
	if err := fillLog(c, log); err != nil {
		c.add("problem", err)
	}
}

func fillLog(n *Node, data []byte) error {
	l, err := eventlog.Parse(data)
	if err != nil {
		return err
	}
	n.add("format", map[bool]string{true: "crypto-agile", false: "SHA-1"}[l.Agile])
	n.add("banks", strings.Trim(fmt.Sprint(l.Banks), "[]"))
	n.add("startup locality", l.Locality)
	if l.Padding > 0 {
		n.add("padding", l.Padding)
	}
	seen := map[string]int{}
	for i := range l.Events {
		e := &l.Events[i]
		name := eventName(e)
		if seen[name]++; seen[name] > 1 {
			name += fmt.Sprintf(" (%d)", seen[name])
		}
		c := n.child("event", name)
		c.add("offset", fmt.Sprintf("%#x", e.Off))
		if !e.Extends() {
			c.add("text", printableText(e.Data))
			continue
		}
		bank := shownBank(l)
		c.add(bank.String(), e.Digest(bank))
		if e.Covered(bank) == eventlog.Altered {
			c.add("problem", "the digest is not of the data")
		}
	}
	return nil
}

// shownBank is the bank whose digests are shown: SHA-256, if there is one.
func shownBank(l *eventlog.Log) pcr.Bank {
	for _, b := range l.Banks {
		if b == pcr.SHA256 {
			return b
		}
	}
	return l.Banks[0]
}

// eventName says what an event is about, in the same words for the same thing
// in two logs, so that Diff pairs them wherever they stand.
func eventName(e *eventlog.Event) string {
	register := strconv.Itoa(int(int32(e.PCR)))
	return strings.TrimSpace("PCR " + register + " " + e.Type.String() + " " + subject(e))
}

// maxSubject bounds what is shown of an event's data, in bytes.
const maxSubject = 200

func subject(e *eventlog.Event) (s string) {
	switch e.Type {
	case eventlog.VariableDriver, eventlog.VariableBoot, eventlog.VariableBoot2, eventlog.VariableAuthority:
		if v, err := e.Variable(); err == nil {
			s = v.Name
		}
	case eventlog.BootServicesApp, eventlog.BootServicesDrv, eventlog.RuntimeDriver:
		if image, err := e.Image(); err == nil {
			s = image.Path.String()
		}
	case eventlog.EventTag:
		if tag, err := e.Tag(); err == nil {
			s = fmt.Sprintf("%#x", tag.ID)
		}
	case eventlog.IPL, eventlog.EFIAction, eventlog.Action, eventlog.OmitBootDevices, eventlog.PostCode:
		s = e.Text()
	}
	if len(s) > maxSubject {
		s = strings.ToValidUTF8(s[:maxSubject], "") + "…"
	}
	return s
}

// printableText is data that is a text, cut at its first NUL; nothing else.
func printableText(data []byte) string {
	b, _, _ := bytes.Cut(data[:min(len(data), maxSubject)], []byte{0})
	for _, c := range b {
		if c < ' ' || c > '~' {
			return ""
		}
	}
	return string(b)
}
