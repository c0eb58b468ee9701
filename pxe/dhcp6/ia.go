package dhcp6

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// Status is a status code (RFC 8415 section 21.13).
type Status uint16

// The status codes that are sent.
const (
	Success      Status = 0
	NoAddrsAvail Status = 2
	NoBinding    Status = 3
	NotOnLink    Status = 4
	UseMulticast Status = 5
	NoPrefix     Status = 6 // NoPrefixAvail
)

func (s Status) option(text string) Option {
	return Option{OptStatus, append(binary.BigEndian.AppendUint16(nil, uint16(s)), text...)}
}

// Address is one address of an IA_NA (RFC 8415 section 21.6).
type Address struct {
	Addr             netip.Addr
	Preferred, Valid time.Duration // whole seconds
}

// IANA is an association for addresses that are not temporary (RFC 8415 section 21.4).
type IANA struct {
	ID        uint32
	T1, T2    time.Duration // whole seconds
	Addresses []Address
	Status    *Status // nil: not said, which means Success
}

const ianaHeader = 12

// ParseIANA reads the data of option 3.
func ParseIANA(b []byte) (IANA, error) {
	if len(b) < ianaHeader {
		return IANA{}, &FormatError{0, "IA_NA", "cut off"}
	}
	ia := IANA{ID: binary.BigEndian.Uint32(b), T1: seconds(b[4:]), T2: seconds(b[8:])}
	opts, err := parseOptions(b[ianaHeader:], ianaHeader)
	if err != nil {
		return ia, err
	}
	for _, o := range opts {
		switch {
		case o.Code == OptIAAddr && len(o.Data) < 24:
			return ia, &FormatError{ianaHeader, "IA address", "cut off"}
		case o.Code == OptIAAddr:
			ia.Addresses = append(ia.Addresses, Address{netip.AddrFrom16([16]byte(o.Data[:16])), seconds(o.Data[16:]), seconds(o.Data[20:])})
		case o.Code == OptStatus && len(o.Data) >= 2:
			s := Status(binary.BigEndian.Uint16(o.Data))
			ia.Status = &s
		}
	}
	return ia, nil
}

// Option is the association as option 3.
func (ia IANA) Option() Option {
	b := binary.BigEndian.AppendUint32(nil, ia.ID)
	b = appendSeconds(appendSeconds(b, ia.T1), ia.T2)
	var opts Options
	for _, a := range ia.Addresses {
		addr := as16(a.Addr)
		opts = append(opts, Option{OptIAAddr, appendSeconds(appendSeconds(addr[:], a.Preferred), a.Valid)})
	}
	if ia.Status != nil {
		opts = append(opts, ia.Status.option(""))
	}
	return Option{OptIANA, opts.AppendBinary(b)}
}

func seconds(b []byte) time.Duration {
	return time.Duration(binary.BigEndian.Uint32(b)) * time.Second
}

func appendSeconds(b []byte, d time.Duration) []byte {
	return binary.BigEndian.AppendUint32(b, uint32(min(max(d/time.Second, 0), 1<<32-1)))
}
