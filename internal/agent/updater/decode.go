package updater

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/klauspost/compress/zstd"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/accept"
	"github.com/ingot-os/ingot/internal/delta"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// maxWindow is the largest window of a zstd stream that is taken, in bytes: what
// RFC 8878 section 3.1.1.1.2 asks of every decoder.
const maxWindow = 8 << 20

// decode gives the rest of a part: what body holds, and zeros up to the
// partition's size.
func (u *Updater) decode(p *update, from int64, coding string, body io.Reader) (image io.Reader, stop func(), err error) {
	left := p.parts[0].Size - from
	switch coding {
	case updateapi.CodingIdentity, "":
		return &padded{r: body, left: left}, func() {}, nil
	case updateapi.CodingZstd:
		z, err := zstd.NewReader(body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, nil, refuse(updateapi.Failed, "", "%v", err)
		}
		return &padded{r: z, left: left}, z.Close, nil
	case updateapi.CodingDelta:
		if from != 0 {
			return nil, nil, refuse(updateapi.NotAllowed, "a patch is sent from 0", "a patch from %d", from)
		}
		return u.patch(p, body)
	}
	return nil, nil, refuse(updateapi.Malformed, "codings are identity, zstd and delta", "coding %.40q", coding)
}

// patch opens a patch against the slot that runs.
func (u *Updater) patch(p *update, body io.Reader) (image io.Reader, stop func(), err error) {
	part := p.parts[0]
	br := bufio.NewReaderSize(body, 64<<10)
	info, err := peek(br)
	if err != nil {
		return nil, nil, refuse(updateapi.Malformed, "", "%v", err)
	}
	if slot.Digest(info.New) != part.SHA256 {
		return nil, nil, refuse(updateapi.WrongBase, "send the whole part", "the patch makes %s, the release has %s", short(info.New[:]), short(part.SHA256[:]))
	}
	if need, have := info.OldUsed+info.NewUsed, available(); need > have {
		return nil, nil, refuse(updateapi.WrongBase, "send the whole part", "the patch needs %d MiB of memory, %d are to spare", need>>20, have>>20)
	}
	role := accept.Role(part.Name, p.target.Other())
	node, _, err := u.m.Partition(role)
	if err != nil {
		return nil, nil, refuse(updateapi.WrongBase, "send the whole part", "find %s: %v", role, err)
	}
	base, err := os.Open(node)
	if err != nil {
		return nil, nil, refuse(updateapi.WrongBase, "send the whole part", "%v", err)
	}
	defer base.Close() // Open has read all that it needs
	r, err := delta.Open(base, br, delta.Limits{Size: part.Size})
	switch {
	case errors.Is(err, delta.ErrBase):
		return nil, nil, refuse(updateapi.WrongBase, "send the whole part", "%s: %v", role, err)
	case err != nil:
		return nil, nil, refuse(updateapi.Malformed, "", "%v", err)
	}
	return r, r.Close, nil
}

// peek reads a patch's header and leaves it there.
func peek(br *bufio.Reader) (delta.Info, error) {
	head, err := br.Peek(delta.HeaderSize)
	if err != nil {
		return delta.Info{}, fmt.Errorf("read patch header: %w", err)
	}
	return delta.ParseHeader(head)
}

func short(sum []byte) string { return hex.EncodeToString(sum[:6]) }

// available is the memory that a patch may take, in bytes: half of what the
// kernel calls available.
func available() int64 {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 64 << 20
	}
	_, rest, _ := bytes.Cut(b, []byte("MemAvailable:"))
	f := bytes.Fields(rest)
	if len(f) == 0 {
		return 64 << 20
	}
	n, _ := strconv.ParseInt(string(f[0]), 10, 64)
	return n << 10 / 2
}

// padded gives what r holds, then zeros up to a size. What comes after that is
// not read.
type padded struct {
	r     io.Reader
	left  int64
	ended bool
}

// Read implements io.Reader.
func (p *padded) Read(b []byte) (n int, err error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	b = b[:min(int64(len(b)), p.left)]
	if !p.ended {
		n, err = p.r.Read(b)
		p.ended = err == io.EOF
	}
	if p.ended {
		clear(b[n:])
		n, err = len(b), nil
	}
	p.left -= int64(n)
	return n, err
}
