package main

import (
	"strconv"
	"strings"
)

type table struct{ name, text string }

// tables are those that this run has something for: a run with -only leaves
// the others of the page as they are.
func (r *report) tables() []table {
	var out []table
	add := func(name string, n int, text func() string) {
		if n > 0 {
			out = append(out, table{name, "\n" + r.host.line() + "\n\n" + text() + "\n"})
		}
	}
	ours, judged := split(r.measures, measure.attests)
	ours, updates := split(ours, measure.updates)
	ours, boots := split(ours, measure.netboots)
	builders, libraries := split(r.peers, peer.attests)
	tools, servers := split(r.contests, contest.netboots)
	add("ours", len(ours), func() string { return measureTable(ours) })
	add("tools", len(tools), func() string { return contestTable(tools) })
	add("peers", len(builders), func() string { return peerTable("builder", builders) })
	add("attest", len(judged), func() string { return measureTable(judged) })
	add("forgeries", len(libraries), func() string { return peerTable("library", libraries) })
	add("reproduce", len(r.proofs), r.proofTable)
	add("updates", len(updates), func() string { return measureTable(updates) })
	add("netboot", len(boots), func() string { return measureTable(boots) })
	add("http", len(servers), func() string { return contestTable(servers) })
	add("tftp", len(r.races), r.raceTable)
	return out
}

// attests tells the rows of the tables about attestation.
func (m measure) attests() bool { return m.attest }

func (m measure) updates() bool { return m.update }

func (m measure) netboots() bool { return m.netboot }

func (c contest) netboots() bool { return c.netboot }

func (p peer) attests() bool { return p.builder == attestation }

func split[T any](all []T, is func(T) bool) (no, yes []T) {
	for _, x := range all {
		if is(x) {
			yes = append(yes, x)
		} else {
			no = append(no, x)
		}
	}
	return no, yes
}

func measureTable(measures []measure) string {
	var s strings.Builder
	s.WriteString(cells("what", "median", "lowest to highest", "peak memory", "runs", "target: at most", "met"))
	s.WriteString("|---|---|---|---|---|---|---|\n")
	for _, m := range measures {
		s.WriteString(cells(m.what+note(m.note), m.unit.format(m.median()), m.spread(m.unit), mebibytes(m.memory), strconv.Itoa(len(m.values)), m.target(), m.met()))
	}
	return s.String()
}

func contestTable(contests []contest) string {
	var s strings.Builder
	s.WriteString(cells("job", "ingot", "beside", "its median", "ratio", "runs of each"))
	s.WriteString("|---|---|---|---|---|---|\n")
	for _, c := range contests {
		theirs, ratio := "", ""
		if c.theirs.values != nil {
			theirs, ratio = seconds.format(c.theirs.median()), times(c.ours.median(), c.theirs.median())
		}
		s.WriteString(cells(c.job+note(c.note), seconds.format(c.ours.median()), c.other, theirs, ratio, strconv.Itoa(len(c.ours.values))))
	}
	return s.String()
}

func peerTable(head string, peers []peer) string {
	var s strings.Builder
	s.WriteString(cells(head, "what", "median", "lowest to highest", "runs", "ingot, same run", "ratio"))
	s.WriteString("|---|---|---|---|---|---|---|\n")
	for _, p := range peers {
		if p.values == nil {
			s.WriteString(cells(p.builder, p.what, "not measured: "+p.note, "", "", "", ""))
			continue
		}
		ours, ratio := "", ""
		if p.ours != nil {
			ours, ratio = p.unit.format(p.ours.median()), times(p.ours.median(), p.median())
		}
		s.WriteString(cells(p.builder, p.what+note(p.note), p.unit.format(p.median()), p.spread(p.unit), strconv.Itoa(len(p.values)), ours, ratio))
	}
	return s.String()
}

func note(s string) string {
	if s == "" {
		return ""
	}
	return ": " + s
}
