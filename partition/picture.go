package partition

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"unicode/utf8"
)

// Picture draws the disk as boxes in plain Unicode text, at most width columns
// wide where the texts allow it (a disk with all partitions needs 60), with
// partition numbers, names, sizes and offsets, and the exact numbers below.
// Widths grow with the logarithm of the size, or nothing but data would show.
// No line has trailing spaces; the last one ends with a newline.
func Picture(l Layout, width int) string {
	boxes := boxesOf(l)
	stretch(boxes, width)
	var top, name, size, bottom, offset strings.Builder
	for i, b := range boxes {
		left, leftEnd := "┬", "┴"
		if i == 0 {
			left, leftEnd = "┌", "└"
		}
		top.WriteString(left + b.number + strings.Repeat("─", b.width-len(b.number)))
		name.WriteString("│" + center(b.name, b.width))
		size.WriteString("│" + center(short(b.size), b.width))
		bottom.WriteString(leftEnd + strings.Repeat("─", b.width))
		offset.WriteString(pad(short(b.start), b.width+1))
	}
	lines := []string{
		fmt.Sprintf("%s · %s · %d B sectors", cmp.Or(l.ID, "disk"), long(l.Size), l.SectorSize),
		fmt.Sprintf("disk %s", l.Disk),
		top.String() + "┐", name.String() + "│", size.String() + "│", bottom.String() + "┘", offset.String(),
	}
	lines = append(lines, legend(l)...)
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n") + "\n"
}

// legend lists the partitions with exact offsets and sizes in bytes.
func legend(l Layout) []string {
	lines := []string{fmt.Sprintf("%3s %-7s %15s %15s  %s", "#", "name", "start", "bytes", "guid")}
	for _, p := range l.Parts {
		lines = append(lines, fmt.Sprintf("%3d %-7s %15d %15d  %s", p.Index, p.Name, p.Start, p.Size, p.GUID))
	}
	return lines
}

// box is one rectangle of the picture; width is without its borders.
type box struct {
	number, name string
	start, size  int64
	width        int
}

// boxesOf returns the partitions and what lies before, between and behind them.
func boxesOf(l Layout) []box {
	var boxes []box
	at := int64(0)
	gap := func(end int64, name string) {
		if end > at {
			boxes = append(boxes, box{name: name, start: at, size: end - at})
			at = end
		}
	}
	parts := slices.Clone(l.Parts)
	slices.SortStableFunc(parts, func(a, b Part) int { return cmp.Compare(a.Start, b.Start) })
	for _, p := range parts {
		if at == 0 {
			gap(p.Start, "gpt")
		}
		gap(p.Start, "free")
		boxes = append(boxes, box{number: fmt.Sprintf("p%d", p.Index), name: cmp.Or(p.Name, p.Role), start: p.Start, size: p.Size})
		at = p.End()
	}
	// The backup copy is in the last MiB; more than two are room for growth.
	if tail := l.Size / mib * mib; l.Size-at > 2*mib {
		gap(tail-mib, "free")
	}
	gap(l.Size, "gpt")
	return boxes
}

// stretch gives each box what its texts need and shares the rest of width out
// by the logarithm of the sizes, left to right.
func stretch(boxes []box, width int) {
	rest, weights := width-len(boxes)-1, 0
	for i := range boxes {
		b := &boxes[i]
		b.width = max(utf8.RuneCountInString(b.name), len(short(b.size)), len(b.number))
		if i < len(boxes)-1 {
			b.width = max(b.width, len(short(b.start)))
		}
		rest -= b.width
		weights += weight(*b)
	}
	for i := range boxes {
		w := weight(boxes[i])
		if rest <= 0 || weights == 0 {
			return
		}
		share := rest * w / weights
		boxes[i].width += share
		rest, weights = rest-share, weights-w
	}
}

// weight is 0 for the table copies, which stay as small as they are.
func weight(b box) int {
	if b.name == "gpt" {
		return 0
	}
	return bits.Len64(uint64(b.size / mib))
}

// short writes a number of bytes in at most six characters: exact where a
// unit divides it or it is below 10000 MiB, else rounded down to tenths.
func short(n int64) string {
	for i, unit := range []string{"T", "G", "M"} {
		u := int64(1) << (40 - 10*i)
		switch {
		case n >= u && n%u == 0:
			return fmt.Sprintf("%d%s", n/u, unit)
		case n >= 10*u && unit != "M" || n >= u && n >= 10000*mib:
			return fmt.Sprintf("%d.%d%s", n/u, n%u*10/u, unit)
		case n >= u && unit == "M":
			return fmt.Sprintf("%d%s", n/u, unit)
		}
	}
	if n%1024 == 0 && n > 0 {
		return fmt.Sprintf("%dK", n/1024)
	}
	return fmt.Sprint(n)
}

// long writes a size for a sentence: "768 MiB", "1.8 TiB".
func long(n int64) string {
	s := short(n)
	if last := len(s) - 1; s[last] > '9' {
		return s[:last] + " " + s[last:] + "iB"
	}
	return s + " bytes"
}

func center(s string, width int) string {
	room := max(width-utf8.RuneCountInString(s), 0)
	return pad(strings.Repeat(" ", room/2)+s, width)
}

func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(width-utf8.RuneCountInString(s), 0))
}
