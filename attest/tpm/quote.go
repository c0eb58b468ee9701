package tpm

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/ingot-os/ingot/attest/pcr"
)

// attempts bounds how often registers are read and quoted again because one
// was extended in between.
const attempts = 5

// ErrChanging is the error of Quote when registers were extended between each
// reading and quote.
var ErrChanging = errors.New("registers are extended all the time")

// Want is the registers of one bank to be quoted.
type Want struct {
	Bank pcr.Bank
	PCRs []int
}

// Quoted is a quote with the register values that it is about.
type Quoted struct {
	Attest    []byte // TPMS_ATTEST
	Signature []byte // TPMT_SIGNATURE
	PCRs      map[pcr.Bank]map[int]pcr.Digest
}

// Quote reads registers and quotes them with extra data of at most 64 bytes.
// When a register changes in between, both are done again.
func (t *TPM) Quote(ak *Key, extra []byte, wants ...Want) (Quoted, error) {
	selection := tpm2.TPMLPCRSelection{}
	for _, w := range wants {
		selection.PCRSelections = append(selection.PCRSelections, selectPCRs(w.Bank, w.PCRs))
	}
	for range attempts {
		q := Quoted{PCRs: map[pcr.Bank]map[int]pcr.Digest{}}
		for _, w := range wants {
			values, err := t.PCRs(w.Bank, w.PCRs...)
			if err != nil {
				return Quoted{}, err
			}
			q.PCRs[w.Bank] = values
		}
		r, err := tpm2.Quote{
			SignHandle:     tpm2.AuthHandle{Handle: ak.handle, Name: ak.name, Auth: tpm2.PasswordAuth(nil)},
			QualifyingData: tpm2.TPM2BData{Buffer: extra}, PCRSelect: selection,
			InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
		}.Execute(t.t)
		if err != nil {
			return Quoted{}, fmt.Errorf("quote: %w", err)
		}
		q.Attest, q.Signature = r.Quoted.Bytes(), tpm2.Marshal(r.Signature)
		same, err := matches(r, wants, q.PCRs)
		if err != nil || same {
			return q, err
		}
	}
	return Quoted{}, fmt.Errorf("quote: %w", ErrChanging)
}

// matches reports whether a quote is over these values.
func matches(r *tpm2.QuoteResponse, wants []Want, values map[pcr.Bank]map[int]pcr.Digest) (bool, error) {
	attest, err := r.Quoted.Contents()
	if err != nil {
		return false, fmt.Errorf("quote: %w", err)
	}
	info, err := attest.Attested.Quote()
	if err != nil {
		return false, fmt.Errorf("quote: %w", err)
	}
	h := pcr.SHA256.New() // both attestation keys sign by SHA-256
	for _, w := range wants {
		for i := range pcr.Count {
			h.Write(values[w.Bank][i]) // nothing for a register that was not read
		}
	}
	return bytes.Equal(h.Sum(nil), info.PCRDigest.Buffer), nil
}

func selectPCRs(bank pcr.Bank, registers []int) tpm2.TPMSPCRSelection {
	mask := make([]byte, pcr.Count/8)
	for _, i := range registers {
		mask[i/8] |= 1 << (i % 8)
	}
	return tpm2.TPMSPCRSelection{Hash: tpm2.TPMAlgID(bank), PCRSelect: mask}
}

// PCRs reads registers of a bank. A TPM gives at most eight at once, so they
// are not of one moment; Quote makes sure that they are.
func (t *TPM) PCRs(bank pcr.Bank, registers ...int) (map[int]pcr.Digest, error) {
	for _, i := range registers {
		if i < 0 || i >= pcr.Count {
			return nil, fmt.Errorf("read PCR %d: there are %d", i, pcr.Count)
		}
	}
	out, left := map[int]pcr.Digest{}, bytes.Clone(selectPCRs(bank, registers).PCRSelect)
	for !bytes.Equal(left, make([]byte, len(left))) {
		r, err := tpm2.PCRRead{PCRSelectionIn: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
			{Hash: tpm2.TPMAlgID(bank), PCRSelect: left}}}}.Execute(t.t)
		if err != nil {
			return nil, fmt.Errorf("read PCRs of %s: %w", bank, err)
		}
		n := 0
		for _, s := range r.PCRSelectionOut.PCRSelections {
			for i := range 8 * min(len(s.PCRSelect), len(left)) {
				if s.PCRSelect[i/8]>>(i%8)&1 == 1 && n < len(r.PCRValues.Digests) {
					out[i] = r.PCRValues.Digests[n].Buffer
					left[i/8] &^= 1 << (i % 8)
					n++
				}
			}
		}
		if n == 0 {
			return nil, fmt.Errorf("read PCRs: the TPM has no active bank %s", bank)
		}
	}
	return out, nil
}
