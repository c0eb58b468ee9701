package attest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/attest/pcr"
)

func encode(t testing.TB, e *Evidence) []byte {
	t.Helper()
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestEvidenceText: a document gives the verdict of what it was made of.
func TestEvidenceText(t *testing.T) {
	f := genuine(t)
	f.init = []event{measured(15, 0xd, string(Statement{Slot: "a", Boot: "disk"}.Data()))}
	c := f.build()
	b := encode(t, c.Evidence)
	e, err := ParseEvidence(b)
	if err != nil {
		t.Fatal(err)
	}
	c.Evidence = e
	if v := Verify(c); !v.Trusted || v.Slot != "a" {
		t.Errorf("%+v", v)
	}
	if !bytes.Equal(encode(t, e), b) {
		t.Error("another text the second time")
	}
}

// TestCaseReplays: a stored case gives the same verdict again.
func TestCaseReplays(t *testing.T) {
	c := genuine(t).build()
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var again Case
	if err := json.Unmarshal(b, &again); err != nil {
		t.Fatal(err)
	}
	first, _ := json.Marshal(Verify(c))
	second, _ := json.Marshal(Verify(again))
	if !bytes.Equal(first, second) || !strings.Contains(string(first), `"trusted":true`) {
		t.Errorf("%s\n%s", first, second)
	}
}

func TestParseEvidenceRefuses(t *testing.T) {
	good := string(encode(t, genuine(t).build().Evidence))
	for name, text := range map[string]string{
		"empty":          "",
		"cut":            good[:len(good)-1],
		"trailing":       good + "{}",
		"format":         strings.Replace(good, Format, "ingot-evidence/2", 1),
		"unknown field":  `{"more":1,` + good[1:],
		"in capitals":    strings.Replace(good, `"nonce"`, `"Nonce"`, 1),
		"twice":          `{"firmware":"x",` + good[1:len(good)-1] + `,"firmware":"y"}`,
		"twice, escaped": `{"\u0066irmware":"x",` + good[1:len(good)-1] + `,"firmware":"y"}`,
		"no comma":       strings.Replace(good, `","ak"`, `" "ak"`, 1),
		"two commas":     strings.Replace(good, `","ak"`, `",,"ak"`, 1),
		"comma at last":  good[:len(good)-1] + ",}",
		"no colon":       strings.Replace(good, `"ak":`, `"ak"`, 1),
		"no value":       strings.Replace(good, `"ak":`, `"ak":,"x":`, 1),
		"line end":       strings.Replace(good, `"ak":"`, "\"ak\":\"\n", 1),
		"not base64":     strings.Replace(good, `"ak":"`, `"ak":"*`, 1),
		"number":         strings.Replace(good, `"ak":"`, `"ak":1,"x":"`, 1),
		"brackets":       strings.Replace(good, `"pcrs":{`, `"pcrs":[{`, 1),
		"array":          "[" + good + "]",
		"clock's field":  strings.Replace(good, `"clock":{`, `"clock":{"x":1,`, 1),
		"unknown bank":   strings.Replace(good, `"sha256":`, `"md5":`, 1),
		"register 24":    strings.Replace(good, `"sha256":{`, `"sha256":{"24":"00",`, 1),
		"register 00":    strings.Replace(good, `"sha256":{`, `"sha256":{"00":"00",`, 1),
		"firmware":       strings.Replace(good, `"nonce"`, `"firmware":"`+strings.Repeat("x", 1025)+`","nonce"`, 1),
		"certificate":    strings.Replace(good, `"nonce"`, `"ekCertificate":"`+strings.Repeat("AAAA", 2731)+`","nonce"`, 1),
		"counter":        strings.Replace(good, `"nonce"`, `"floor":{"attest":"`+strings.Repeat("AAAA", 342)+`","signature":"AA=="},"nonce"`, 1),
		"counter signed": strings.Replace(good, `"nonce"`, `"floor":{"attest":"AA==","signature":"`+strings.Repeat("AAAA", 342)+`"},"nonce"`, 1),
		"too large":      good + strings.Repeat(" ", MaxEvidence),
	} {
		if _, err := ParseEvidence([]byte(text)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestParseEvidenceMemory: registers that no bank has cost nothing.
func TestParseEvidenceMemory(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"format":"ingot-evidence/1","pcrs":{"sha256":{"0":""`)
	for i := 1; b.Len() < MaxEvidence-100; i++ {
		fmt.Fprintf(&b, `,"%d":""`, i)
	}
	text := []byte(b.String() + "}}}")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := ParseEvidence(text); err == nil {
		t.Error("read")
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("%d bytes of memory", n)
	}
}

// FuzzParseEvidence: what is read is written and read again as the same text.
func FuzzParseEvidence(f *testing.F) {
	f.Add(encode(f, genuine(f).build().Evidence))
	f.Add([]byte(`{"format":"ingot-evidence/1","pcrs":{"sha256":{"0":"00"}},"clock":{"clock":1,"safe":true}}`))
	f.Add([]byte(`{"format":"ingot-evidence/1","nonce":"AA==\\n","quote":null,"firmware":"a\\"}"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := ParseEvidence(text)
		if err != nil {
			return
		}
		var theirs Evidence
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		if err := d.Decode(&theirs); err != nil || !bytes.Equal(encode(t, &theirs), encode(t, e)) {
			t.Errorf("encoding/json reads %+v (%v), we %+v", theirs, err, e)
		}
		b := encode(t, e)
		again, err := ParseEvidence(b)
		if err != nil || !bytes.Equal(encode(t, again), b) {
			t.Errorf("%v: %s", err, b)
		}
	})
}

// FuzzVerify: whatever a host sends, there is a verdict, and it is a refusal
// unless the signed parts are those that were signed.
func FuzzVerify(f *testing.F) {
	c := genuine(f).build()
	good := *c.Evidence
	f.Add(encode(f, &good), []byte(nil), []byte(nil))
	f.Add(encode(f, &good), good.EventLog, good.Quote)
	for _, r := range logCases[:12] {
		x := genuine(f)
		r.edit(x)
		if e := x.build().Evidence; e != nil {
			f.Add(encode(f, e), e.EventLog, e.AK)
		}
	}
	f.Fuzz(func(t *testing.T, text, log, public []byte) {
		c := c
		if e, err := ParseEvidence(text); err == nil {
			c.Evidence = e
			judge(t, c, good)
		}
		e := good
		if len(log) > 0 {
			e.EventLog = log
		}
		c.Evidence = &e
		judge(t, c, good)
		e.InitLog = log
		judge(t, c, good)
		e.AK, e.Quote, e.Signature = public, public, public
		judge(t, c, good)
	})
}

// judge: a trusted verdict needs the very registers of the good evidence.
func judge(t *testing.T, c Case, good Evidence) {
	t.Helper()
	v := Verify(c)
	if v.Trusted && (v.Compared == 0 || !bytes.Equal(c.Evidence.PCRs[pcr.SHA256][4], good.PCRs[pcr.SHA256][4])) {
		t.Errorf("trusted: %+v", v)
	}
	if !v.Trusted && v.Reason() == "" {
		t.Error("refused without a reason")
	}
}
