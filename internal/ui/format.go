package ui

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ingot-os/ingot/internal/visible"
)

// Size writes a number of bytes for people: "512 B", "17.5 MiB", "2 GiB".
// Units are powers of 1024; one decimal below 100, none where it would be zero.
func Size(n int64) string {
	if n < 0 {
		return "-" + Size(-n)
	}
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	v, i := float64(n), 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	number := fmt.Sprintf("%.1f", v)
	if v >= 100 || strings.HasSuffix(number, ".0") {
		number = fmt.Sprintf("%.0f", v)
	}
	return number + " " + units[i]
}

// Duration writes a duration for people: "41 ms", "0.31 s", "12.4 s", "2 min 5 s".
func Duration(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + Duration(-d)
	case d < 100*time.Millisecond:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	s := int(d.Round(time.Second).Seconds())
	if s < 3600 {
		return fmt.Sprintf("%d min %d s", s/60, s%60)
	}
	return fmt.Sprintf("%d h %d min", s/3600, s/60%60)
}

// Plural writes a count with its noun: Plural(1, "file") is "1 file",
// Plural(3, "entry", "entries") is "3 entries".
func Plural(n int, one string, many ...string) string {
	switch {
	case n == 1:
		return "1 " + one
	case len(many) > 0:
		return fmt.Sprintf("%d %s", n, many[0])
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// Table writes rows as columns to Out; the header may be nil. A column whose
// cells all start with a digit is aligned to the right, other than digests.
func (u *UI) Table(header []string, rows [][]string) error {
	u.clear()
	return WriteTable(u.Out, header, rows)
}

// WriteTable is Table for any writer.
func WriteTable(w io.Writer, header []string, rows [][]string) error {
	all := make([][]string, len(rows))
	for i, r := range rows {
		for _, c := range r {
			all[i] = append(all[i], printable(c))
		}
	}
	rows = all
	if header != nil {
		all = append([][]string{header}, rows...)
	}
	var widths []int
	for _, r := range all {
		for i, c := range r {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	var b strings.Builder
	for _, r := range all {
		var line strings.Builder
		for i, c := range r {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c))
			if numeric(rows, i) {
				line.WriteString(pad + c + "  ")
			} else {
				line.WriteString(c + pad + "  ")
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	return nil
}

// printable is for all that may come from files which anybody made: it must not
// paint over what is said about it.
func printable(s string) string { return visible.Line(s) }

// digestDigits is the length of the shortest digest in hexadecimal digits,
// SHA-1; no number is as long.
const digestDigits = 40

func numeric(rows [][]string, column int) bool {
	for _, r := range rows {
		if column >= len(r) {
			continue
		}
		if c := r[column]; c == "" || c[0] < '0' || c[0] > '9' || len(c) >= digestDigits || strings.Contains(c, ":") { // a hardware address
			return false
		}
	}
	return len(rows) > 0
}
