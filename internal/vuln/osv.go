package vuln

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Bounds of one record.
const (
	maxRecord  = 16 << 20 // bytes; the longest of Debian's have 200 kB
	maxNames   = 1000     // aliases and upstream
	maxID      = 200      // bytes of an id
	maxSummary = 200      // bytes kept of a summary
)

// record is an OSV record as far as it is needed; other fields are skipped.
type record struct {
	SchemaVersion string          `json:"schema_version"`
	ID            string          `json:"id"`
	Modified      string          `json:"modified"`
	Withdrawn     string          `json:"withdrawn"`
	Summary       string          `json:"summary"`
	Aliases       []string        `json:"aliases"`
	Upstream      []string        `json:"upstream"`
	Severity      []severity      `json:"severity"`
	Affected      []affected      `json:"affected"`
	Database      json.RawMessage `json:"database_specific"`
}

type severity struct {
	Type  string `json:"type"`
	Score string `json:"score"`
}

type affected struct {
	Package struct {
		Ecosystem string `json:"ecosystem"`
		Name      string `json:"name"`
	} `json:"package"`
	Severity  []severity      `json:"severity"`
	Ranges    []versionRange  `json:"ranges"`
	Versions  []string        `json:"versions"`
	Ecosystem json.RawMessage `json:"ecosystem_specific"`
}

type versionRange struct {
	Type   string  `json:"type"`
	Events []event `json:"events"`
}

// event has exactly one of its fields.
type event struct {
	Introduced   string `json:"introduced"`
	Fixed        string `json:"fixed"`
	LastAffected string `json:"last_affected"`
	Limit        string `json:"limit"`
}

func parseRecord(data []byte) (*record, error) {
	if len(data) > maxRecord {
		return nil, fmt.Errorf("larger than %d bytes", maxRecord)
	}
	r := new(record)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	return r, r.check()
}

func (r *record) check() error {
	if major, _, _ := strings.Cut(r.SchemaVersion, "."); major != "" && major != "1" {
		return fmt.Errorf("schema_version %.20q, this ingot reads 1", r.SchemaVersion)
	}
	if r.ID == "" || len(r.ID) > maxID {
		return fmt.Errorf("id %.60q", r.ID)
	}
	if _, err := time.Parse(time.RFC3339, r.Modified); err != nil {
		return fmt.Errorf("%s: modified %.60q is no time", r.ID, r.Modified)
	}
	if len(r.Aliases)+len(r.Upstream) > maxNames {
		return fmt.Errorf("%s: more than %d names", r.ID, maxNames)
	}
	for _, n := range slices.Concat(r.Aliases, r.Upstream) {
		if n == "" || len(n) > maxID {
			return fmt.Errorf("%s: alias %.60q", r.ID, n)
		}
	}
	return nil
}

func (r *record) modified() time.Time {
	t, _ := time.Parse(time.RFC3339, r.Modified) // checked
	return t
}

// names are those under which the same vulnerability goes. Upstream is about
// it when it has one element; an advisory that collects several is another thing.
func (r *record) names() []string {
	list := slices.Clone(r.Aliases)
	if len(r.Upstream) == 1 {
		list = append(list, r.Upstream[0])
	}
	slices.Sort(list)
	list = slices.Compact(list)
	return slices.DeleteFunc(list, func(n string) bool { return n == r.ID })
}

// parts are the vulnerabilities of an advisory that collects several.
func (r *record) parts() []string {
	if len(r.Upstream) < 2 {
		return nil
	}
	return r.Upstream
}

func (r *record) summary() string {
	s := strings.Join(strings.Fields(r.Summary), " ")
	if len(s) <= maxSummary {
		return s
	}
	s = s[:maxSummary]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + "..."
}

// covers tells whether an entry speaks of an ecosystem: "Debian" means all
// releases of Debian.
func (a *affected) covers(ecosystem string) bool {
	return a.Package.Ecosystem == ecosystem || a.Package.Ecosystem == "Debian" && strings.HasPrefix(ecosystem, "Debian:")
}
