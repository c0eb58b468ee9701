package dhcp

import "encoding/binary"

// Sizes of a datagram's payload: what RFC 2131 section 2 lets each client take, and
// what goes through Ethernet in one piece. Both are less the headers of IP and UDP.
const (
	defaultLimit = 576 - 28
	maximumLimit = 1500 - 28
)

// limit is how long an answer to m may be (option 57, RFC 2132 section 9.10).
func (m *Message) limit() int {
	v := m.Options.Get(optMaxSize)
	if len(v) != 2 {
		return defaultLimit
	}
	return min(max(int(binary.BigEndian.Uint16(v))-28, defaultLimit), maximumLimit)
}

// Append writes the message, with at most limit bytes. Options come in their order, 82
// last. When they do not fit, the fields file and sname take some of them where they are
// empty (option 52); those that fit nowhere are left out and named. So an option of more
// weight stands before one of less.
func (m *Message) Append(dst []byte, limit int) (out, left []byte) {
	b := make([]byte, fixedSize, max(limit, minimumSize))
	m.putHeader(b)
	opts := m.Options.relayLast()
	room := max(limit, minimumSize) - fixedSize - 1 // the end option
	if tail := opts.relaySize(); tail > 0 && tail <= room {
		room -= tail
	} else if tail > 0 {
		left, opts = append(left, optRelayInfo), opts[:len(opts)-1]
	}
	main, file, sname, missed := m.place(opts, room)
	left = append(left, missed...)
	b = append(b, main...)
	copy(b[fileAt:headerSize], file)
	copy(b[snameAt:fileAt], sname)
	if n := len(opts); n > 0 && opts[n-1].Code == optRelayInfo {
		b = appendOption(b, opts[n-1])
	}
	b = append(b, optEnd)
	for len(b) < minimumSize {
		b = append(b, 0)
	}
	return append(dst, b...), left
}

func (m *Message) putHeader(b []byte) {
	b[0], b[1], b[2], b[3] = m.Op, m.HType, m.HLen, m.Hops
	binary.BigEndian.PutUint32(b[4:], m.XID)
	binary.BigEndian.PutUint16(b[8:], m.Secs)
	binary.BigEndian.PutUint16(b[10:], m.Flags)
	putAddr(b[12:], m.Client)
	putAddr(b[16:], m.Your)
	putAddr(b[20:], m.Next)
	putAddr(b[24:], m.Relay)
	copy(b[28:44], m.Hardware[:])
	copy(b[snameAt:fileAt-1], m.SName)   // a NUL ends both
	copy(b[fileAt:headerSize-1], m.File) // (RFC 2131 section 2)
	copy(b[headerSize:], cookie[:])
}

// place distributes the options but 82 over the three fields.
func (m *Message) place(opts Options, room int) (main, file, sname, left []byte) {
	total := 0
	for _, o := range opts {
		if o.Code != optRelayInfo && o.Code != optOverload {
			total += size(o)
		}
	}
	overload, fileRoom, snameRoom := byte(0), 0, 0
	if total > room && room >= 3 { // option 52 itself takes 3, which option 82 may not leave; an end option 1 in each field
		room -= 3
		if m.File == "" {
			overload, fileRoom = overload|1, headerSize-fileAt-1
		}
		if m.SName == "" {
			overload, snameRoom = overload|2, fileAt-snameAt-1
		}
	}
	for _, o := range opts {
		switch n := size(o); {
		case o.Code == optRelayInfo || o.Code == optOverload || o.Code == optPad || o.Code == optEnd:
		case len(main)+n <= room:
			main = appendOption(main, o)
		case len(file)+n <= fileRoom:
			file = appendOption(file, o)
		case len(sname)+n <= snameRoom:
			sname = appendOption(sname, o)
		default:
			left = append(left, o.Code)
		}
	}
	return m.closed(main, file, sname, left, overload)
}

// closed ends the fields that have options now.
func (m *Message) closed(main, file, sname, left []byte, overload byte) (_, _, _, _ []byte) {
	if len(file) == 0 {
		overload &^= 1
	} else {
		file = append(file, optEnd)
	}
	if len(sname) == 0 {
		overload &^= 2
	} else {
		sname = append(sname, optEnd)
	}
	if overload != 0 {
		main = append(main, optOverload, 1, overload)
	}
	return main, file, sname, left
}

// size is what an option takes, in parts of at most 255 bytes.
func size(o Option) int { return len(o.Data) + 2*max(1, (len(o.Data)+254)/255) }

// relaySize is what option 82 takes when it is the last.
func (o Options) relaySize() int {
	if n := len(o); n > 0 && o[n-1].Code == optRelayInfo {
		return size(o[n-1])
	}
	return 0
}

func appendOption(b []byte, o Option) []byte {
	data := o.Data
	for {
		n := min(len(data), 255)
		b = append(append(b, o.Code, byte(n)), data[:n]...)
		if data = data[n:]; len(data) == 0 {
			return b
		}
	}
}
