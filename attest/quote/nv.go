package quote

// maxNV is more than a TPM certifies at once: MAX_NV_BUFFER_SIZE is 2048 at most
// in the PC Client Platform TPM Profile.
const maxNV = 2048

// NV is a TPMS_ATTEST of the type TPM_ST_ATTEST_NV (section 10.12.8): contents of
// an NV index. Slices share memory with the input.
type NV struct {
	Head
	Index    []byte // its name: the hash of its public area
	Offset   uint16 // of Contents in the index, in bytes
	Contents []byte
}

// ParseNV reads the TPMS_ATTEST that TPM2_NV_Certify makes. Its errors are those
// of Parse.
func ParseNV(b []byte) (*NV, error) {
	r := &reader{what: "TPMS_ATTEST", b: b}
	v := &NV{Head: r.head(typeNV)}
	v.Index, v.Offset = r.sized("indexName", 2+maxDigest), r.u16("offset")
	v.Contents = r.sized("nvContents", maxNV)
	if err := r.end(); err != nil {
		return nil, err
	}
	return v, nil
}
