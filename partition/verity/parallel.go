package verity

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// parallel runs do for 0 to n-1 and returns the error of the lowest number that
// has one. Numbers are handed out in order, so all below a failing one are done.
func parallel(n uint64, workers int, salt []byte, do func(*hasher, uint64) error) error {
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	var (
		next   atomic.Uint64
		failed atomic.Bool
		mu     sync.Mutex
		first  error
		at     uint64
		wg     sync.WaitGroup
	)
	for range min(uint64(workers), n) {
		wg.Go(func() {
			h := newHasher(salt)
			for !failed.Load() {
				i := next.Add(1) - 1
				if i >= n {
					return
				}
				if err := do(h, i); err != nil {
					mu.Lock()
					if first == nil || i < at {
						first, at = err, i
					}
					mu.Unlock()
					failed.Store(true)
				}
			}
		})
	}
	wg.Wait()
	return first
}
