package boot

import (
	"fmt"
	"strings"
)

// checkOSRelease demands what a boot menu needs of os-release(5) to show an
// entry: a name. Each line must be an assignment.
func checkOSRelease(s string) error {
	fields, err := parseOSRelease(s)
	if err != nil {
		return err
	}
	if fields["ID"] == "" || fields["PRETTY_NAME"] == "" {
		return fmt.Errorf("ID and PRETTY_NAME are required")
	}
	return nil
}

// parseOSRelease reads os-release(5): KEY=VALUE lines, values in single or
// double quotes when they hold other than letters and digits; "#" comments.
// With an error it returns the fields before the wrong line.
func parseOSRelease(s string) (map[string]string, error) {
	fields := map[string]string{}
	for i, line := range strings.Split(s, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || key == "" || strings.ContainsAny(key, " \t\"'") {
			return fields, fmt.Errorf("line %d: %q is not KEY=VALUE", i+1, line)
		}
		v, err := unquote(value)
		if err != nil {
			return fields, fmt.Errorf("line %d: %s: %w", i+1, key, err)
		}
		fields[key] = v
	}
	return fields, nil
}

// unquote removes one pair of quotes and, inside double quotes, the backslash
// before a character that the shell would treat specially.
func unquote(v string) (string, error) {
	if v == "" || v[0] != '"' && v[0] != '\'' {
		if strings.ContainsAny(v, " \t\"'`$\\") {
			return "", fmt.Errorf("value %q needs quotes", v)
		}
		return v, nil
	}
	quote := v[0]
	if len(v) < 2 || v[len(v)-1] != quote {
		return "", fmt.Errorf("value %q has no closing quote", v)
	}
	v = v[1 : len(v)-1]
	if quote == '\'' {
		return v, nil
	}
	var out strings.Builder
	for i := 0; i < len(v); i++ {
		if v[i] == '\\' && i+1 < len(v) && strings.IndexByte("\"$`\\", v[i+1]) >= 0 {
			i++
		}
		out.WriteByte(v[i])
	}
	return out.String(), nil
}
