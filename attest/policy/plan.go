package policy

import "encoding/hex"

// Plan is the file of a release that leaves value in Register, without
// signatures: one policy for each floor from 0 to its security epoch.
func Plan(key []byte, value [32]byte, epoch int) File {
	digest := Digest{}.PCR(Values{Register: value})
	f := File{Format: Format, PCR: Register, Bank: "sha256", Key: key}
	for floor := range epoch + 1 {
		f.Policies = append(f.Policies, Signed{Digest: hex.EncodeToString(digest[:]), Floor: floor, Ref: Ref(floor)})
	}
	return f
}
