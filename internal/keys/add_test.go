package keys

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestAdd: a set of an ingot that knew fewer keys gets the one it lacks.
func TestAdd(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "set")
	if err := os.CopyFS(dir, os.DirFS(testDir)); err != nil {
		t.Fatal(err)
	}
	var index Index
	path := filepath.Join(dir, "keys.json")
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &index)
	}
	if err != nil {
		t.Fatal(err)
	}
	index.Keys = slices.DeleteFunc(index.Keys, func(k Key) bool { return k.Purpose == Hosts })
	if b, err = json.Marshal(index); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{os.WriteFile(path, b, 0o644), os.Remove(filepath.Join(dir, "hosts.key")), os.Remove(filepath.Join(dir, "hosts.crt")),
		os.Chmod(filepath.Join(dir, "fleet.key"), 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	o := Options{Now: now, Rand: rand.Reader}
	s, err := Add(context.Background(), dir, Hosts, o)
	if err != nil {
		t.Fatal(err)
	}
	signs(t, s, Hosts)
	c := s.Certificate(Hosts)
	if err := c.CheckSignatureFrom(s.Certificate(Fleet)); err != nil || !IsTest(c) || len(s.Keys) != 10 {
		t.Errorf("%v, %s, %d keys", err, c.Subject, len(s.Keys))
	}
	if _, err := Add(context.Background(), dir, Hosts, o); !errors.Is(err, ErrExists) {
		t.Errorf("twice: %v", err)
	}
	if _, err := Add(context.Background(), dir, "root", o); err == nil {
		t.Error("an unknown purpose was added")
	}
}
