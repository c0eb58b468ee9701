package tftp

import (
	"encoding/binary"
	"strconv"
	"strings"
	"time"
)

// Bounds of options.
const (
	plainBlock  = 512   // RFC 1350: without blksize
	minBlock    = 8     // RFC 2348
	maxBlock    = 65464 // RFC 2348: a datagram of 65,535 less the headers of IPv4 and UDP, and some options
	maxWindow   = 65535 // RFC 7440
	maxTimeout  = 255   // RFC 2349, seconds
	windowBytes = 256 << 10
)

// terms are what a transfer is bound to after its options are settled.
type terms struct {
	size    int64
	block   int
	window  int
	timeout time.Duration // of the client; 0: it did not ask
	oack    []byte        // nil: nothing to acknowledge, the first block goes out at once
}

// negotiate settles options: RFC 2347. fit is the block that fits the path to the client
// without fragments, window the most blocks in flight. What is wrong or unknown is left
// out of the answer, which the RFC wants instead of an error; what is named twice
// counts once. The answer lists the accepted ones in the order and the spelling of the
// request.
func negotiate(options []option, size int64, fit, window int) terms {
	t := terms{size: size, block: plainBlock, window: 1}
	asked := accepted(options)
	if v, ok := asked["blksize"]; ok {
		t.block = min(int(v), fit)
	}
	if v, ok := asked["windowsize"]; ok {
		t.window = min(int(v), window, max(1, windowBytes/t.block))
	}
	t.timeout = time.Duration(asked["timeout"]) * time.Second
	values := map[string]int64{"blksize": int64(t.block), "windowsize": int64(t.window), "timeout": asked["timeout"], "tsize": size}
	for _, o := range options {
		key := strings.ToLower(o.name)
		if _, ok := asked[key]; !ok {
			continue
		}
		delete(asked, key)
		if t.oack == nil {
			t.oack = binary.BigEndian.AppendUint16(nil, opOACK)
		}
		t.oack = append(append(t.oack, o.name...), 0)
		t.oack = append(strconv.AppendInt(t.oack, values[key], 10), 0)
	}
	return t
}

// accepted are the options with a meaning and a value within bounds, by their name in
// lower case: RFC 2347 compares names without case, and clients do send BLKSIZE.
func accepted(options []option) map[string]int64 {
	bounds := map[string][2]int64{"blksize": {minBlock, maxBlock}, "timeout": {1, maxTimeout}, "windowsize": {1, maxWindow}, "tsize": {0, 1<<63 - 1}}
	out := map[string]int64{}
	for _, o := range options {
		key := strings.ToLower(o.name)
		b, known := bounds[key]
		v, ok := number(o.value)
		if _, twice := out[key]; known && ok && !twice && v >= b[0] && v <= b[1] {
			out[key] = v
		}
	}
	return out
}
