package dhcpd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/ingot-os/ingot/pxe/dhcp"
)

// keeper has the file of leases. Who waits while it is written shares the next write: a
// storm of clients makes as many writes as the disk can do, and no more.
type keeper struct {
	path    string
	mu      sync.Mutex
	idle    *sync.Cond
	writing bool
	written uint64
}

// openKeeper reads the leases. A file that is not whole is an error: to begin anew would
// give addresses twice.
func openKeeper(path string, into *dhcp.Leases) (*keeper, error) {
	k := &keeper{path: path}
	k.idle = sync.NewCond(&k.mu)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return k, k.try()
	}
	if err != nil {
		return nil, fmt.Errorf("open leases: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, dhcp.MaxLeaseFile+1))
	if err != nil {
		return nil, fmt.Errorf("read leases: %w", err)
	}
	leases, err := dhcp.ParseLeases(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	*into = leases
	return k, k.try()
}

// try finds out at the start whether the file can be replaced.
func (k *keeper) try() error {
	f, err := os.CreateTemp(filepath.Dir(k.path), ".leases-*")
	if err != nil {
		return fmt.Errorf("keep leases in %s: %w", k.path, err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// keep returns when what was changed up to a generation is on the disk.
func (k *keeper) keep(generation uint64, snapshot func() ([]byte, uint64)) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for k.written < generation {
		if k.writing {
			k.idle.Wait()
			continue
		}
		k.writing = true
		k.mu.Unlock()
		b, has := snapshot()
		err := replace(k.path, b)
		k.mu.Lock()
		k.writing = false
		k.idle.Broadcast()
		if err != nil {
			return fmt.Errorf("keep leases: %w", err)
		}
		k.written = has
	}
	return nil
}

// replace puts a file into the place of another, so that after a power cut one of the two is
// there, whole.
func replace(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".leases-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes a rename last.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
