package verify

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/ingot-os/ingot/attest/predict"
	"github.com/ingot-os/ingot/internal/reference"
	"github.com/ingot-os/ingot/partition"
)

// checkReference makes reference.json again out of the boot file, the partition
// table and the ESP, and compares it byte for byte: a verifier that trusted
// another one would trust another boot.
func (v *verifier) checkReference(c *Check) error {
	data, why, err := v.document(reference.FileName)
	if err != nil {
		return err
	}
	esp := v.part(partition.ESP)
	switch {
	case data == nil:
		c.skip(why)
		return nil
	case v.uki == nil || esp == nil || esp.tree == nil:
		c.skip(v.nothing())
		return nil
	}
	got, err := reference.Parse(data)
	if err != nil {
		c.malformed(ReferenceMalformed, at(reference.FileName), err)
		return nil
	}
	want, err := reference.New(reference.Options{
		Name: v.m.Name, Version: v.m.Version, Epoch: v.m.SecurityEpoch,
		UKI: v.uki.r, UKISize: v.uki.size, Layout: &v.layout, ESP: esp.tree,
	})
	var unknown *predict.VersionError
	switch {
	case errors.As(err, &unknown): // made by a newer ingot
		c.note(reference.FileName, WhyNoRules, unknown.Stub)
		c.skip(WhyNoRules)
		return nil
	case err != nil:
		c.malformed(ReferenceDiffers, v.uki.place, err)
		return nil
	}
	c.Count = len(got.Paths)
	again, err := reference.Marshal(want)
	if err == nil && !bytes.Equal(again, data) {
		judgeReference(c, again, data)
	}
	return err
}

// judgeReference names the first thing that differs between two references.
func judgeReference(c *Check, want, got []byte) {
	path, w, g := firstValue(decoded(want), decoded(got))
	if path == nil { // the same values in another encoding
		c.refuse(ReferenceDiffers, at(reference.FileName).byte(firstDifference(want, got)), "the encoding that ingot writes", "another one")
		return
	}
	c.refuse(ReferenceDiffers, at(reference.FileName, path...), w, g)
}

// decoded is a document that has been parsed before.
func decoded(data []byte) (v any) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	dec.Decode(&v)
	return v
}

// firstValue is the place of the first value that differs; nil when none does.
func firstValue(want, got any) (path []string, w, g string) {
	switch want := want.(type) {
	case map[string]any:
		have, ok := got.(map[string]any)
		if !ok {
			break
		}
		keys := sorted(want)
		for _, k := range sorted(have) {
			if _, ok := want[k]; !ok {
				keys = append(keys, k)
			}
		}
		for _, k := range keys {
			if path, w, g := firstValue(want[k], have[k]); path != nil {
				return append([]string{k}, path...), w, g
			}
		}
		return nil, "", ""
	case []any:
		have, ok := got.([]any)
		if !ok {
			break
		}
		for i := range max(len(want), len(have)) {
			var x, y any
			if i < len(want) {
				x = want[i]
			}
			if i < len(have) {
				y = have[i]
			}
			if path, w, g := firstValue(x, y); path != nil {
				return append([]string{elementName(x, y, i)}, path...), w, g
			}
		}
		return nil, "", ""
	}
	if fmt.Sprint(want) == fmt.Sprint(got) {
		return nil, "", ""
	}
	return []string{}, text(want), text(got)
}

// elementName names an element of a list as a person would.
func elementName(want, got any, i int) string {
	for _, v := range []any{want, got} {
		e, _ := v.(map[string]any)
		switch {
		case e["boot"] != nil && e["secureBoot"] == true:
			return fmt.Sprint(e["boot"], " with Secure Boot")
		case e["boot"] != nil:
			return fmt.Sprint(e["boot"], " without Secure Boot")
		case e["pcr"] != nil:
			return fmt.Sprint("PCR ", e["pcr"], " ", e["name"])
		}
	}
	return fmt.Sprint(i)
}

// text is a value in at most a line; what is missing is "none".
func text(v any) string {
	switch v := v.(type) {
	case nil:
		return "none"
	case map[string]any:
		return "{" + strings.Join(sorted(v), ", ") + "}"
	case []any:
		return fmt.Sprintf("a list of %d", len(v))
	}
	return fmt.Sprintf("%.100v", v)
}
