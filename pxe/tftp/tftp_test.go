package tftp

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/ingot-os/ingot/pxe/netboot"
)

func TestServe(t *testing.T) {
	r := newRig(t, &Server{}, "127.0.0.1:0")
	for _, size := range []int{0, 1, 511, 512, 513, 1427, 1428, 1429, 100_000, 65_536, 1428 * 16} {
		name := fmt.Sprint("boot/", size)
		r.put(name, noise(size))
		for _, options := range [][]string{
			nil, {"tsize", "0"}, {"blksize", "1428"}, {"blksize", "1428", "windowsize", "1"}, {"blksize", "1428", "windowsize", "16"}, {"windowsize", "3"},
			{"BLKSIZE", "8192", "WindowSize", "16"}, {"blksize", "65464", "windowsize", "65535"}, {"blksize", "8", "windowsize", "64"}, {"timeout", "1", "blksize", "20000"},
		} {
			c := dial(t, r.addr)
			got, err := c.get(name, options...)
			if err != nil || !bytes.Equal(got, r.shelf.files[name]) {
				t.Fatalf("%d bytes, %q: %d came, %v", size, options, len(got), err)
			}
			if options != nil && len(c.oack) != len(options)/2 {
				t.Errorf("%q: %q", options, c.oack)
			}
			stagesAre(t, r, c, netboot.First, netboot.Last)
			if _, last := r.log.of(c.addr()); last.Bytes != int64(size) || last.Size != int64(size) || last.Path != name || last.Method != netboot.TFTP {
				t.Errorf("%+v", last)
			}
		}
	}
	r.released(t)
}

func TestPacketByPacket(t *testing.T) {
	r := newRig(t, &Server{uncut: true}, "127.0.0.1:0")
	r.put("a", noise(300_000))
	got, err := dial(t, r.addr).get("a", "blksize", "1000", "windowsize", "16")
	if err != nil || !bytes.Equal(got, r.shelf.files["a"]) {
		t.Fatal(len(got), err)
	}
}

// weather is a network that loses, repeats and swaps packets.
type weather struct {
	*rand.Rand
	held []byte
}

func (w *weather) in(b []byte) (out [][]byte) {
	switch n := w.IntN(100); {
	case n < 10: // lost
	case n < 15:
		out = [][]byte{b, b}
	case n < 20 && w.held == nil: // overtaken by the next
		w.held = b
		return nil
	default:
		out = [][]byte{b}
	}
	if w.held != nil {
		out, w.held = append(out, w.held), nil
	}
	return out
}

func (w *weather) out([]byte) int {
	switch n := w.IntN(100); {
	case n < 10:
		return 0
	case n < 15:
		return 2
	}
	return 1
}

func TestBadNetwork(t *testing.T) {
	t.Parallel()
	r := newRig(t, &Server{Timeout: 100 * time.Millisecond, Retries: 50}, "127.0.0.1:0")
	r.put("a", noise(40_000))
	var wait sync.WaitGroup
	for _, options := range [][]string{{"tsize", "0"}, {"blksize", "1428"}, {"blksize", "1428", "windowsize", "4"}, {"blksize", "1428", "windowsize", "16"}, {"blksize", "512", "windowsize", "64"}} {
		for seed := range uint64(4) {
			wait.Go(func() {
				w := &weather{Rand: rand.New(rand.NewPCG(seed, 7))}
				c := dial(t, r.addr)
				c.in, c.out, c.wait = w.in, w.out, 300*time.Millisecond
				got, err := c.get("a", options...)
				if err != nil || !bytes.Equal(got, r.shelf.files["a"]) {
					t.Errorf("%q, seed %d: %d bytes, %v", options, seed, len(got), err)
				}
			})
		}
	}
	wait.Wait()
	r.released(t)
}

// stretch is a content of any size that takes no memory.
type stretch int64

func (s stretch) Open(context.Context, netboot.Request) (netboot.Content, error) { return s, nil }
func (s stretch) Size() int64                                                    { return int64(s) }
func (s stretch) Begin() error                                                   { return nil }
func (s stretch) Close() error                                                   { return nil }

func (s stretch) ReadAt(b []byte, at int64) (int, error) {
	n := min(int64(len(b)), int64(s)-at)
	for i := range n {
		b[i] = wave(at + i)
	}
	return int(n), nil
}

// wave has no period near that of block numbers.
func wave(i int64) byte { return byte(i ^ i>>9 ^ i>>17) }

func TestBlockNumbersWrap(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		size    int64
		options []string
	}{
		{120_000_000, []string{"blksize", "1468", "windowsize", "4"}}, // OVMF; more than 65,535 blocks
		{70_000 * 16, []string{"blksize", "16", "windowsize", "4"}},
	} {
		r := newRig(t, &Server{Source: stretch(c.size)}, "127.0.0.1:0")
		cl, at := dial(t, r.addr), int64(0)
		cl.sink = func(b []byte) {
			for i, x := range b {
				if x != wave(at+int64(i)) {
					t.Fatalf("wrong byte at %d", at+int64(i))
				}
			}
			at += int64(len(b))
		}
		if _, err := cl.get("a", c.options...); err != nil || at != c.size {
			t.Fatal(at, err)
		}
	}
}
