package vuln

import (
	"encoding/json"
	"fmt"
	"strings"

	cvss20 "github.com/pandatix/go-cvss/20"
	cvss30 "github.com/pandatix/go-cvss/30"
	cvss31 "github.com/pandatix/go-cvss/31"
	cvss40 "github.com/pandatix/go-cvss/40"
)

// Rating is how severe a vulnerability is, and who says so.
type Rating struct {
	Level  Level   `json:"level"`
	Score  float64 `json:"score,omitempty"`  // 0-10, of the vector
	Vector string  `json:"vector,omitempty"` // CVSS
	Source string  `json:"source,omitempty"` // "CVSS_V3", "Debian urgency low", ...
}

// maxVector bounds a CVSS vector; version 4.0 with all metrics has 190 bytes.
const maxVector = 512

// rate takes Debian's "unimportant" first: it says that the packages as built
// are not affected, which no score knows. Then come scores, those of the
// package before those of the record and the highest of several, then words.
func rate(r *record, a *affected) Rating {
	urgency := word(a.Ecosystem, "urgency")
	if urgency == "unimportant" {
		return Rating{Level: None, Source: "Debian urgency unimportant"}
	}
	for _, list := range [][]severity{a.Severity, r.Severity} {
		if best, ok := highest(list); ok {
			return best
		}
	}
	if l, err := ParseLevel(strings.TrimRight(urgency, "*")); err == nil {
		return Rating{Level: l, Source: "Debian urgency " + l.String()}
	}
	if l, err := ParseLevel(word(r.Database, "severity")); err == nil {
		return Rating{Level: l, Source: "database"}
	}
	return Rating{Level: Unrated}
}

// word reads one string of an object whose other content is not specified.
func word(data json.RawMessage, key string) string {
	var fields map[string]json.RawMessage
	var s string
	if json.Unmarshal(data, &fields) != nil || json.Unmarshal(fields[key], &s) != nil {
		return ""
	}
	return s
}

// highest prefers versions 3 and 4 of CVSS to version 2, which only old records have.
func highest(list []severity) (best Rating, ok bool) {
	for _, s := range list {
		score, err := cvssScore(s)
		if err != nil {
			continue
		}
		old := ok && s.Type == "CVSS_V2" && best.Source != "CVSS_V2"
		newer := ok && s.Type != "CVSS_V2" && best.Source == "CVSS_V2"
		if !ok || newer || !old && score > best.Score {
			best = Rating{Level: scoreLevel(score), Score: score, Vector: s.Score, Source: s.Type}
			ok = true
		}
	}
	return best, ok
}

// cvssScore computes the base score of a vector; with version 4.0 the threat
// and environmental metrics of the vector count too.
func cvssScore(s severity) (score float64, err error) {
	if len(s.Score) > maxVector {
		return 0, fmt.Errorf("vector of %d bytes", len(s.Score))
	}
	switch {
	case s.Type == "CVSS_V2":
		v, err := cvss20.ParseVector(s.Score)
		if err != nil {
			return 0, err
		}
		return v.BaseScore(), nil
	case s.Type == "CVSS_V3" && strings.HasPrefix(s.Score, "CVSS:3.0/"):
		v, err := cvss30.ParseVector(s.Score)
		if err != nil {
			return 0, err
		}
		return v.BaseScore(), nil
	case s.Type == "CVSS_V3":
		v, err := cvss31.ParseVector(s.Score)
		if err != nil {
			return 0, err
		}
		return v.BaseScore(), nil
	case s.Type == "CVSS_V4":
		v, err := cvss40.ParseVector(s.Score)
		if err != nil {
			return 0, err
		}
		return v.Score(), nil
	}
	return 0, fmt.Errorf("severity type %.40q", s.Type)
}

func scoreLevel(score float64) Level {
	switch {
	case score >= 9:
		return Critical
	case score >= 7:
		return High
	case score >= 4:
		return Medium
	case score > 0:
		return Low
	}
	return None
}
