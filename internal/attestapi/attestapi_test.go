package attestapi

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/pcr"
)

// TestParseEvidence: what a machine writes is read again, and by the other
// reader in the same way.
func TestParseEvidence(t *testing.T) {
	want := Evidence{"host", attest.Evidence{Format: attest.Format, Nonce: []byte{1}, AK: []byte{2}, Quote: []byte{3}, Signature: []byte{4},
		PCRs: map[pcr.Bank]map[int]pcr.Digest{pcr.SHA256: {4: pcr.SHA256.Sum(nil)}}, EventLog: []byte{5}, Firmware: "a \"quoted\" one"}}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseEvidence(b)
	if err != nil || !reflect.DeepEqual(*got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	var theirs Evidence
	if err := json.Unmarshal(b, &theirs); err != nil || !reflect.DeepEqual(theirs, want) {
		t.Errorf("encoding/json: %+v, %v", theirs, err)
	}
	for _, text := range []string{"", "{}", `{"name":"x","name":"y"}`, string(b) + "x"} {
		if _, err := ParseEvidence([]byte(text)); err == nil {
			t.Errorf("%q is evidence", text)
		}
	}
}
