package measure

import (
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/predict"
)

// PCRLock is a prediction as systemd-pcrlock(8) reads it: one .pcrlock file.
// What is lost on the way: types and names of events, and what was not
// predicted.
type PCRLock struct {
	Records []PCRLockRecord `json:"records"`
}

// PCRLockRecord is one measurement.
type PCRLockRecord struct {
	PCR     int             `json:"pcr"`
	Digests []PCRLockDigest `json:"digests"`
}

// PCRLockDigest is its digest in one bank.
type PCRLockDigest struct {
	HashAlg pcr.Bank   `json:"hashAlg"`
	Digest  pcr.Digest `json:"digest"`
}

// NewPCRLock lists the events in order, with the banks in the order given.
func NewPCRLock(p *predict.Prediction, banks []pcr.Bank) PCRLock {
	l := PCRLock{Records: make([]PCRLockRecord, 0, len(p.Events))}
	for _, e := range p.Events {
		r := PCRLockRecord{PCR: e.PCR}
		for _, bank := range banks {
			r.Digests = append(r.Digests, PCRLockDigest{bank, e.Digests[bank]})
		}
		l.Records = append(l.Records, r)
	}
	return l
}
