package strictyaml

import (
	"fmt"
	"slices"
	"strings"
)

// Nearest returns the candidate closest to a word by edits (insert, delete,
// replace, swap neighbours), or "" when none is close enough to be a typing
// error: one edit in three letters, at least one.
func Nearest(word string, candidates []string) string {
	best, bestDist := "", max(1, min(len(word)/3, 3))+1
	for _, c := range candidates {
		if len(c) > 64 || len(word) > 64 {
			continue
		}
		if d := distance(strings.ToLower(word), strings.ToLower(c)); d < bestDist {
			best, bestDist = c, d
		}
	}
	return best
}

// distance is the optimal string alignment distance.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

// keyHint says what to write instead of an unknown key.
func keyHint(t *Table, parent, key string, known []string) string {
	if right := t.alias(parent, key); right != "" {
		return fmt.Sprintf("write %s: instead", right)
	}
	if near := Nearest(key, known); near != "" {
		return fmt.Sprintf("did you mean %s:?", near)
	}
	if homes := t.homes(key); len(homes) > 0 && len(homes) <= 3 {
		for i, h := range homes {
			if homes[i] = h; h == "" {
				homes[i] = "the top level"
			}
		}
		return fmt.Sprintf("%s: belongs under %s", key, strings.Join(homes, " or "))
	}
	known = slices.Sorted(slices.Values(known))
	return "known here: " + strings.Join(known, ", ")
}

// Choices is the hint for a value that must be one of a few words.
func Choices(word string, allowed []string) string {
	if near := Nearest(word, allowed); near != "" {
		return fmt.Sprintf("did you mean %s?", near)
	}
	for _, a := range allowed { // CAP_NET_ADMIN, net_bind
		w, a2 := strings.ToLower(word), strings.ToLower(a)
		if len(w) > 3 && len(a2) > 3 && (strings.HasPrefix(a2, w) || strings.HasSuffix(w, a2)) {
			return fmt.Sprintf("did you mean %s?", a)
		}
	}
	if len(allowed) > 16 {
		return fmt.Sprintf("one of %s and %d more: see the reference", strings.Join(allowed[:8], ", "), len(allowed)-8)
	}
	return "one of " + strings.Join(allowed, ", ")
}
