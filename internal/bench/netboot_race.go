package main

import (
	"fmt"
	"strconv"
	"strings"
)

// race is one job done by all TFTP servers in turns.
type race struct {
	job  string
	unit unit // rate: the most wins; otherwise the least
	runs int
	by   map[string]*series
	lost map[string]int // clients of a server that failed; their run has no value
	note string
}

// tftpServers are the columns: ours, those of Debian that a boot server has today, and
// the library in Go, which is no server of its own and counts for no ratio.
var tftpServers = []string{tftpOurs, tftpDnsmasq, tftpHPA, tftpAtftpd, tftpPin}

func (r *report) race(c race) {
	r.races = append(r.races, c)
	said := ""
	for _, name := range tftpServers {
		if s := c.by[name]; s != nil {
			said += "; " + name + " " + c.unit.format(s.median())
		}
	}
	best, ratio := c.best()
	say("%s%s; best of the others is %s: %s", c.job, said, best, ratio)
}

// add takes a value of a server.
func (c *race) add(server string, v float64) {
	if c.by == nil {
		c.by = map[string]*series{}
	}
	if c.by[server] == nil {
		c.by[server] = &series{}
	}
	c.by[server].values = append(c.by[server].values, v)
}

// best is the best of the other servers by its median, and how many times better ours
// is.
func (c *race) best() (name, ratio string) {
	value := 0.0
	for _, n := range []string{tftpDnsmasq, tftpHPA, tftpAtftpd} {
		if s := c.by[n]; s != nil && (name == "" || c.better(s.median(), value)) {
			name, value = n, s.median()
		}
	}
	if name == "" {
		return "", ""
	}
	ours := c.by[tftpOurs].median()
	if c.unit == rate {
		ours, value = value, ours
	}
	return name, fmt.Sprintf("%.2f x", value/ours)
}

func (c *race) better(a, b float64) bool {
	if c.unit == rate {
		return a > b
	}
	return a < b
}

func (r *report) raceTable() string {
	var s strings.Builder
	s.WriteString(cells(append(append([]string{"job"}, tftpServers...), "ours to the best of Debian's", "runs of each")...))
	s.WriteString(strings.Repeat("|---", len(tftpServers)+3) + "|\n")
	for _, c := range r.races {
		row := []string{c.job + note(c.note)}
		for _, name := range tftpServers {
			cell := ""
			if v := c.by[name]; v != nil {
				cell = c.unit.format(v.median())
			}
			if n := c.lost[name]; n > 0 {
				cell = strings.TrimSpace(fmt.Sprintf("%s %d clients failed", cell, n))
			}
			row = append(row, cell)
		}
		name, ratio := c.best()
		if name != "" {
			ratio += " (" + name + ")"
		}
		s.WriteString(cells(append(row, ratio, strconv.Itoa(c.runs))...))
	}
	return s.String()
}
