package squashfs

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
)

// block is a data or fragment block on its way to the file.
type block struct {
	raw  []byte // what to store, at most one block
	out  []byte // compressed form
	word uint32 // size on disk as the format writes it
	done chan struct{}
	// placed is told where the block went; it runs on the writing goroutine.
	placed func(off uint64, word uint32)
}

// pipeline compresses blocks on many goroutines and writes them in the order
// they were submitted. Its pool of blocks bounds the memory.
type pipeline struct {
	w     io.WriterAt
	pos   uint64
	free  chan *block
	jobs  chan *block // to the workers
	queue chan *block // the same blocks, in order, to the writer
	wg    sync.WaitGroup
	fail  atomic.Bool
	err   error // of the writer; read after close
}

func newPipeline(w io.WriterAt, pos uint64, o Options) (*pipeline, error) {
	depth := 2*o.Workers + 2
	p := &pipeline{w: w, pos: pos, free: make(chan *block, depth), jobs: make(chan *block, depth), queue: make(chan *block, depth)}
	for range depth {
		p.free <- &block{done: make(chan struct{}, 1)}
	}
	encoders := make([]*zstd.Encoder, o.Workers)
	for i := range encoders {
		e, err := newEncoder(o.Level, o.BlockSize)
		if err != nil {
			return nil, err
		}
		encoders[i] = e
	}
	for _, e := range encoders {
		p.wg.Go(func() { p.work(e) })
	}
	p.wg.Go(p.write)
	return p, nil
}

// get returns an empty block with room for size bytes.
func (p *pipeline) get(size int) *block {
	b := <-p.free
	if cap(b.raw) < size {
		b.raw = make([]byte, 0, size)
		b.out = make([]byte, 0, size)
	}
	b.raw = b.raw[:0]
	return b
}

func (p *pipeline) put(b *block) { p.free <- b }

func (p *pipeline) submit(b *block, placed func(uint64, uint32)) {
	b.placed = placed
	p.queue <- b
	p.jobs <- b
}

// close waits until all blocks are written and returns the offset after them.
func (p *pipeline) close() (uint64, error) {
	close(p.jobs)
	close(p.queue)
	p.wg.Wait()
	return p.pos, p.err
}

func (p *pipeline) work(e *zstd.Encoder) {
	for b := range p.jobs {
		b.out = e.EncodeAll(b.raw, b.out[:0])
		b.word = uint32(len(b.out))
		if len(b.out) >= len(b.raw) {
			b.word = uint32(len(b.raw)) | dataPlain
		}
		b.done <- struct{}{}
	}
}

func (p *pipeline) write() {
	for b := range p.queue {
		<-b.done
		if p.err == nil {
			p.place(b)
		}
		p.free <- b
	}
}

func (p *pipeline) place(b *block) {
	data := b.out
	if b.word&dataPlain != 0 {
		data = b.raw
	}
	if _, err := p.w.WriteAt(data, int64(p.pos)); err != nil {
		p.err = fmt.Errorf("write squashfs: data at byte %d: %w", p.pos, err)
		p.fail.Store(true) // stops the reading side
		return
	}
	b.placed(p.pos, b.word)
	p.pos += uint64(len(data))
}
