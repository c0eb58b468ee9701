package keys

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Add makes a key that a set does not have, because the ingot that made the
// set did not know its purpose. Of the options Now, Rand, URIs and Algorithms
// count. What the set has already stays as it is; the error wraps ErrExists
// when it has such a key.
func Add(ctx context.Context, dir string, p Purpose, o Options) (*Set, error) {
	s, err := Open(dir)
	if err != nil {
		return nil, err
	}
	o.Name, o.Test = s.Name, s.Test
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("add key: %w", err)
	}
	if err := s.add(ctx, p, o); err != nil {
		return nil, fmt.Errorf("add %s key: %w", p, err)
	}
	return Open(dir)
}

func (s *Set) add(ctx context.Context, p Purpose, o Options) error {
	i := slices.IndexFunc(roles, func(r role) bool { return r.purpose == p })
	if i < 0 {
		return fmt.Errorf("no key has the purpose %q", p)
	}
	if s.Public(p) != nil {
		return fmt.Errorf("the set %s: %w", s.dir, ErrExists)
	}
	m := maker{ctx: ctx, o: o, made: map[Purpose]authority{}, index: s.Index}
	if by := roles[i].issuer; by != "" {
		key, err := s.signer(ctx, by)
		if err != nil {
			return err
		}
		m.made[by] = authority{key, s.Certificate(by)}
	}
	m.index.Keys = slices.Clone(s.Keys)
	if err := m.add(roles[i]); err != nil {
		return err
	}
	return s.write(m)
}

// write adds the files, and then the index that names them; without it they are
// not part of the set.
func (s *Set) write(m maker) error {
	index, err := json.MarshalIndent(m.index, "", "  ")
	if err != nil {
		return err
	}
	for _, f := range m.files {
		if err := writeFile(filepath.Join(s.dir, f.name), f); err != nil {
			return err
		}
	}
	tmp := filepath.Join(s.dir, fmt.Sprintf(".%s.%d", indexName, time.Now().UnixNano()))
	err = writeFile(tmp, file{indexName, append(index, '\n'), 0o644})
	if err == nil {
		err = os.Rename(tmp, filepath.Join(s.dir, indexName))
	}
	if err != nil {
		os.Remove(tmp)
		return err
	}
	return syncDir(s.dir)
}
