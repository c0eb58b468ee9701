package qemu

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// openDisk gives the disk of the machine, open for reading and writing: the
// persistent file, or a throwaway copy that has no name any more.
func (m *Machine) openDisk(dir string) (*os.File, error) {
	f, err := m.copyDisk(dir)
	if err != nil {
		return nil, err
	}
	if err := m.prepareDisk(f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (m *Machine) copyDisk(dir string) (*os.File, error) {
	if m.Disk == "" {
		f, err := unnamed(dir)
		if err != nil {
			return nil, err
		}
		if err := copySparse(f, m.Image); err != nil {
			f.Close()
			return nil, err
		}
		return f, nil
	}
	f, err := os.OpenFile(m.Disk, os.O_RDWR, 0)
	if !errors.Is(err, os.ErrNotExist) {
		return f, err
	}
	return createDisk(m.Disk, m.Image)
}

// createDisk copies under another name first, so that an interrupted copy is
// never taken for a disk.
func createDisk(path, image string) (*os.File, error) {
	f, err := os.CreateTemp(dirOf(path), ".ingot-disk-")
	if err != nil {
		return nil, fmt.Errorf("create disk: %w", err)
	}
	err = copySparse(f, image)
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		f.Close()
		return nil, err
	}
	return f, nil
}

func (m *Machine) prepareDisk(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("prepare disk: %w", err)
	}
	size := max(info.Size(), m.DiskSize)
	size = (size + int64(m.SectorSize) - 1) / int64(m.SectorSize) * int64(m.SectorSize)
	if err := f.Truncate(size); err != nil {
		return fmt.Errorf("grow disk: %w", err)
	}
	if m.State == nil {
		return nil
	}
	if err := m.State(f); err != nil {
		return fmt.Errorf("prepare disk: %w", err)
	}
	return nil
}

// unnamed creates a file in dir and takes its name away, so that nothing is
// left of it when the last process that holds it ends.
func unnamed(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "anonymous-")
	if err != nil {
		return nil, fmt.Errorf("create temporary file: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// copySparse copies the file at path into the empty dst and keeps its holes.
func copySparse(dst *os.File, path string) error {
	src, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("copy image: %w", err)
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return fmt.Errorf("copy image: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("copy image: %s is not a file", path)
	}
	// A reflink, where the filesystem has them, costs nothing.
	if unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())) == nil {
		return nil
	}
	if err := dst.Truncate(info.Size()); err != nil {
		return fmt.Errorf("copy image: %w", err)
	}
	return copyData(dst, src, info.Size())
}

// copyData copies the data ranges that lseek(2) SEEK_DATA reports. io.Copy
// between files is copy_file_range(2), so the kernel does the work.
func copyData(dst, src *os.File, size int64) error {
	for at := int64(0); at < size; {
		data, err := unix.Seek(int(src.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // only a hole until the end
		}
		if err != nil {
			return fmt.Errorf("copy image: seek data at %d: %w", at, err)
		}
		hole, err := unix.Seek(int(src.Fd()), data, unix.SEEK_HOLE)
		if err != nil {
			return fmt.Errorf("copy image: seek hole at %d: %w", data, err)
		}
		if err := copyRange(dst, src, data, min(hole, size)-data); err != nil {
			return fmt.Errorf("copy image: at %d: %w", data, err)
		}
		at = hole
	}
	return nil
}

func copyRange(dst, src *os.File, at, n int64) error {
	if _, err := src.Seek(at, io.SeekStart); err != nil {
		return err
	}
	if _, err := dst.Seek(at, io.SeekStart); err != nil {
		return err
	}
	_, err := io.CopyN(dst, src, n)
	return err
}
