package qemu

import (
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// activeBanks asks the TPM in dir for its PCR allocation: TPM2_GetCapability
// (TPM 2.0 Library part 3, section 30.2) of TPM_CAP_PCRS.
func activeBanks(t *testing.T, dir string) (active []uint16) {
	t.Helper()
	program, err := findTPM()
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs, err := socketPair("tpm")
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	p, err := start(program, []string{"socket", "--tpm2", "--tpmstate", "dir=" + dir,
		"--fd", "3", "--flags", "not-need-init,startup-clear"}, theirs)
	if err != nil {
		t.Fatal(err)
	}
	defer p.kill()
	conn, err := net.FileConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body, err := execute(conn, []byte{0x80, 0x01, 0, 0, 0, 22, 0, 0, 0x01, 0x7a, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 16})
	if err != nil {
		t.Fatal(err)
	}
	list := body[9:] // moreData, capability, count
	for range binary.BigEndian.Uint32(body[5:9]) {
		if slices.Contains(list[3:6], 0xff) {
			active = append(active, binary.BigEndian.Uint16(list))
		}
		list = list[6:]
	}
	if _, err := execute(conn, shutdownClear); err != nil {
		t.Fatal(err)
	}
	return active
}

// TestManufacture: a new TPM has the banks that were asked for, and an old one
// keeps its own.
func TestManufacture(t *testing.T) {
	needMachine(t, AMD64)
	program, err := findTPM()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range [][]uint16{{SHA256}, {SHA1, SHA256}, {SHA256, SHA384}, banks} {
		dir := t.TempDir()
		for _, ask := range [][]uint16{want, {SHA512}} {
			if err := manufacture(program, dir, ask); err != nil {
				t.Fatal(err)
			}
			if got := activeBanks(t, dir); !slices.Equal(got, want) {
				t.Errorf("active banks %#x, want %#x", got, want)
			}
		}
	}
	dir := filepath.Join(t.TempDir(), "tpm")
	if err := manufacture(program, dir, []uint16{0x0012}); err == nil {
		t.Error("a TPM without any bank was made")
	}
	// What was not made to its end is not taken for a TPM that is there.
	os.MkdirAll(dir+".new", 0o700)
	os.WriteFile(filepath.Join(dir+".new", "tpm2-00.permall"), []byte("half"), 0o600)
	if err := manufacture(program, dir, []uint16{SHA256}); err != nil {
		t.Fatal(err)
	}
	if got := activeBanks(t, dir); !slices.Equal(got, []uint16{SHA256}) {
		t.Errorf("after a failure: active banks %#x, want SHA-256", got)
	}
	if _, err := os.Stat(dir + ".new"); err == nil {
		t.Error("the other name is left")
	}
}
