package agent

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ingot-os/ingot/internal/agent/network"
	"github.com/ingot-os/ingot/internal/agent/proof"
)

// hardware is what the machine says of itself to its server: hints, no proof. The
// links that have an address come first.
func (m *Machine) hardware(sysfs string) proof.Hardware {
	m.mu.Lock()
	net := m.network
	m.mu.Unlock()
	var rows []network.Status
	if net != nil {
		rows = net.Status()
	}
	h := proof.Hardware{Appliance: m.spec.Name, Serial: own(dmi(sysfs, "product_serial")), Asset: own(dmi(sysfs, "chassis_asset_tag"))}
	if id := strings.ToLower(dmi(sysfs, "product_uuid")); strings.Trim(id, "0-") != "" && strings.Trim(id, "f-") != "" {
		h.UUID = id // all zeros and all ones are no machine's own (SMBIOS 7.2.1)
	}
	add := func(link string) {
		kind, _ := os.ReadFile(filepath.Join(sysfs, "class/net", link, "type"))
		mac, _ := os.ReadFile(filepath.Join(sysfs, "class/net", link, "address"))
		text := strings.ToLower(strings.TrimSpace(string(mac)))
		if strings.TrimSpace(string(kind)) == "1" && len(text) == len("52:54:00:12:34:56") && len(h.MACs) < maxMACs && !slices.Contains(h.MACs, text) {
			h.MACs = append(h.MACs, text)
		}
	}
	for _, row := range rows {
		if len(row.Addresses) > 0 {
			for _, link := range row.Links {
				add(link)
			}
		}
	}
	devices, _ := filepath.Glob(filepath.Join(sysfs, "class/net/*/device")) // bonds and the like have none
	for _, d := range devices {
		add(filepath.Base(filepath.Dir(d)))
	}
	return h
}

// own leaves out what makers write where there is nothing to write.
func own(text string) string {
	switch strings.ToLower(strings.Trim(text, ". 0")) {
	case "", "none", "not specified", "default string", "to be filled by o.e.m", "system serial number", "chassis serial number", "no asset tag", "asset-1234567890", "123456789":
		return ""
	}
	return text
}

// maxMACs bounds what is said; a server looks at no more.
const maxMACs = 64

// dmi is one text of the machine's tables, of printable ASCII and at most 64 bytes.
func dmi(sysfs, name string) string {
	b, err := os.ReadFile(filepath.Join(sysfs, "class/dmi/id", name))
	text := strings.TrimSpace(string(b))
	if err != nil || len(text) > 64 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
		return ""
	}
	return text
}
