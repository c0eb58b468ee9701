package qemu

import (
	"fmt"
	"os"
	"path/filepath"
)

// plug opens the cable of the machine's network card and hands it over.
func (m *Machine) plug(w *wiring) (int, error) {
	if m.Net == nil {
		return 0, nil
	}
	f, err := m.Net.Open()
	if err != nil {
		return 0, fmt.Errorf("start machine: network: %w", err)
	}
	return w.child(f), nil
}

// writeOptions writes the values of Options to files, in the order of optionNames.
func (m *Machine) writeOptions(dir string) ([]string, error) {
	var paths []string
	for i, name := range m.optionNames() {
		path := filepath.Join(dir, fmt.Sprintf("option-%d", i))
		if err := os.WriteFile(path, m.Options[name], 0o600); err != nil {
			return nil, fmt.Errorf("start machine: option %s: %w", name, err)
		}
		paths = append(paths, path)
	}
	return paths, nil
}
