package dhcp

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"
)

// The options that are read or written here: RFC 2132 unless said otherwise.
const (
	optPad          = 0
	optMask         = 1
	optRouter       = 3
	optDNS          = 6
	optHostName     = 12
	optDomain       = 15
	optNTP          = 42
	optVendor       = 43
	optRequested    = 50
	optLeaseTime    = 51
	optOverload     = 52
	optType         = 53
	optServer       = 54
	optMessage      = 56
	optMaxSize      = 57
	optRenewal      = 58
	optRebinding    = 59
	optClass        = 60
	optClientID     = 61
	optTFTPName     = 66
	optBootFile     = 67
	optUserClass    = 77 // RFC 3004
	optRelayInfo    = 82 // RFC 3046
	optArch         = 93 // RFC 4578 section 2.1
	optUUID         = 97 // RFC 4578 section 2.3
	optSubnetSelect = 118
	optIPXE         = 175
	optEnd          = 255
)

// Sub-options of option 82.
const (
	relayCircuit = 1 // RFC 3046
	relayRemote  = 2
	relayLink    = 5 // RFC 3527
)

// Option is one option. One that came in several parts is one here (RFC 3396).
type Option struct {
	Code byte
	Data []byte
}

// Options are the options of a message, in its order. Each code is there once.
type Options []Option

// Get returns the data of an option, nil when it is not there. An option without data is
// not nil, but empty.
func (o Options) Get(code byte) []byte {
	for i := range o {
		if o[i].Code == code {
			return o[i].Data
		}
	}
	return nil
}

// Set adds an option, or replaces it at its place.
func (o *Options) Set(code byte, data []byte) {
	for i := range *o {
		if (*o)[i].Code == code {
			(*o)[i].Data = data
			return
		}
	}
	*o = append(*o, Option{code, data})
}

// join adds a part of an option: parts of one code are one option (RFC 3396 section 5).
func (o *Options) join(code byte, data []byte) {
	for i := range *o {
		if (*o)[i].Code == code {
			(*o)[i].Data = append((*o)[i].Data, data...)
			return
		}
	}
	*o = append(*o, Option{code, append([]byte{}, data...)})
}

func (o *Options) setString(code byte, s string) {
	if s != "" {
		o.Set(code, []byte(s))
	}
}

func (o *Options) setAddrs(code byte, list ...netip.Addr) {
	var b []byte
	for _, a := range list {
		if a.Is4() {
			b = append(b, a.AsSlice()...)
		}
	}
	if b != nil {
		o.Set(code, b)
	}
}

// setSeconds writes a time; RFC 2131 section 3.3 has all ones for "for ever", which is
// never meant here.
func (o *Options) setSeconds(code byte, d time.Duration) {
	s := min(max(int64(d/time.Second), 0), 1<<32-2)
	o.Set(code, binary.BigEndian.AppendUint32(nil, uint32(s)))
}

// sub is a part of an option that holds codes, lengths and values: 43 and 175 by RFC 2132
// section 8.4, 82 by RFC 3046, which has neither padding nor an end. It returns nil when
// the part is not there, or what comes before it is cut off.
func sub(data []byte, code byte, padded bool) []byte {
	for len(data) >= 2 {
		switch {
		case padded && data[0] == optEnd:
			return nil
		case padded && data[0] == optPad:
			data = data[1:]
			continue
		}
		size := int(data[1])
		if len(data) < 2+size {
			return nil
		}
		if data[0] == code {
			return data[2 : 2+size]
		}
		data = data[2+size:]
	}
	return nil
}

// appendSub adds such a part; what is longer than 255 bytes is not added.
func appendSub(data []byte, code byte, value []byte) []byte {
	if len(value) > 255 {
		return data
	}
	return append(append(data, code, byte(len(value))), value...)
}

// relayLast puts option 82 at the end, where RFC 3046 section 2.1 wants it.
func (o Options) relayLast() Options {
	i := slices.IndexFunc(o, func(x Option) bool { return x.Code == optRelayInfo })
	if i < 0 || i == len(o)-1 {
		return o
	}
	return append(slices.Delete(slices.Clone(o), i, i+1), o[i])
}
