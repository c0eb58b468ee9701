package blocks

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
)

// Packer turns a block into its stored form, appended to dst.
type Packer func(dst, block []byte) ([]byte, error)

// parcel is a block on its way through Pack.
type parcel struct {
	index    int64
	raw, out []byte
	err      error
	done     chan struct{}
}

// Pack is Each with a transformation of every block on several workers; 0
// stands for one per processor. Each worker has a Packer of its own. The last
// block is as short as the disk leaves it. At most two blocks per worker and
// two more are in memory, each once as it is and once packed.
func (d Disk) Pack(size, workers int, packer func() (Packer, error), emit func(index int64, packed []byte) error) error {
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	packers := make([]Packer, workers)
	for i := range packers {
		var err error
		if packers[i], err = packer(); err != nil {
			return err
		}
	}
	depth := 2*workers + 2
	free, jobs, queue := make(chan *parcel, depth), make(chan *parcel, depth), make(chan *parcel, depth)
	for range depth {
		free <- &parcel{raw: make([]byte, size), done: make(chan struct{}, 1)}
	}
	var wg sync.WaitGroup
	for _, pack := range packers {
		wg.Go(func() {
			for p := range jobs {
				p.out, p.err = pack(p.out[:0], p.raw[:min(int64(size), d.Size-p.index*int64(size))])
				p.done <- struct{}{}
			}
		})
	}
	var stop atomic.Bool
	var readErr error
	wg.Go(func() {
		readErr = d.feed(int64(size), free, jobs, queue, &stop)
		close(jobs)
		close(queue)
	})
	var err error
	for p := range queue {
		<-p.done
		if err == nil {
			err = p.err
		}
		if err == nil {
			err = emit(p.index, p.out)
		}
		stop.Store(err != nil)
		free <- p
	}
	wg.Wait()
	if err == nil {
		err = readErr
	}
	return err
}

// errStopped ends the reading when there is an error already.
var errStopped = errors.New("stopped")

// feed reads blocks until the disk or the patience of the receiver ends.
func (d Disk) feed(size int64, free, jobs, queue chan *parcel, stop *atomic.Bool) error {
	return d.indexes(size, func(i int64) error {
		if stop.Load() {
			return errStopped
		}
		p := <-free
		if err := d.read(p.raw, i); err != nil {
			free <- p
			return err
		}
		if IsZero(p.raw) {
			free <- p
			return nil
		}
		p.index = i
		queue <- p
		jobs <- p
		return nil
	})
}
