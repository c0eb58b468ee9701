package vuln

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
)

// Bounds of a database. All of Debian has 60,000 records in 600 MB, Go 6,000.
const (
	maxRecords  = 4 << 20
	maxDatabase = 64 << 30 // bytes, unpacked
	maxDirs     = 10_000
)

var errTooLarge = errors.New("the database is larger than any known one")

// reader walks a database and counts what it has read.
type reader struct {
	records int
	dirs    []fs.FileInfo // that were entered
	bytes   int64
	yield   func(name string, data []byte)
}

// walk gives every record of a directory to yield, in the order of the paths.
// One record is in memory at a time. Files of other kinds are skipped: osv.dev
// puts lists of its contents beside the archives. Links to directories are
// followed, as databases often lie elsewhere; each directory is read once.
func (r *reader) walk(ctx context.Context, dir fs.FS) error { return r.below(ctx, dir, ".") }

func (r *reader) below(ctx context.Context, dir fs.FS, root string) error {
	return fs.WalkDir(dir, root, func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if d.IsDir() {
			return r.enter(d.Info)
		}
		if d.Type()&fs.ModeSymlink != 0 {
			info, err := fs.Stat(dir, name)
			if err != nil {
				return fmt.Errorf("follow link: %w", err)
			}
			if info.IsDir() {
				return r.below(ctx, dir, name)
			}
		}
		switch path.Ext(name) {
		case ".json":
			return r.file(dir, name)
		case ".zip":
			if err := r.archive(ctx, dir, name); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		return nil
	})
}

// enter notes a directory; SkipDir for one that was read under another name.
func (r *reader) enter(stat func() (fs.FileInfo, error)) error {
	info, err := stat()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(r.dirs, func(known fs.FileInfo) bool { return os.SameFile(known, info) }) {
		return fs.SkipDir
	}
	if r.dirs = append(r.dirs, info); len(r.dirs) > maxDirs {
		return errTooLarge
	}
	return nil
}

func (r *reader) file(dir fs.FS, name string) error {
	f, err := dir.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return r.record(name, f)
}

// record reads one byte more than is allowed, so that parseRecord refuses it.
func (r *reader) record(name string, in io.Reader) error {
	data, err := io.ReadAll(io.LimitReader(in, maxRecord+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	r.records++
	r.bytes += int64(len(data))
	if r.records > maxRecords || r.bytes > maxDatabase {
		return errTooLarge
	}
	r.yield(name, data)
	return nil
}

func (r *reader) archive(ctx context.Context, dir fs.FS, name string) error {
	f, err := dir.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	at, ok := f.(io.ReaderAt)
	if !ok {
		return errors.New("an archive that cannot be read at an offset")
	}
	z, err := zip.NewReader(at, info.Size())
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) { // nothing is unpacked to disk
		return err
	}
	for _, e := range z.File {
		if err := ctx.Err(); err != nil {
			return err
		}
		if path.Ext(e.Name) != ".json" {
			continue
		}
		if err := r.entry(name, e); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) entry(archive string, e *zip.File) error {
	in, err := e.Open()
	if err != nil {
		return fmt.Errorf("read %s: %w", e.Name, err)
	}
	defer in.Close()
	return r.record(archive+"/"+e.Name, in)
}
