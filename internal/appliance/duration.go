package appliance

import (
	"encoding/json"
	"fmt"
	"time"
)

// Duration is a time.Duration written as Go writes it: "1s", "250ms".
type Duration time.Duration

// Or returns d, or def when d is zero.
func (d Duration) Or(def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return time.Duration(d)
}

// String implements fmt.Stringer.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalJSON implements json.Marshaler.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// UnmarshalJSON implements json.Unmarshaler.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("parse duration: %w", err)
	}
	v, err := time.ParseDuration(s)
	*d = Duration(v)
	return err
}

// UnmarshalText reads what people write. Unlike JSON, which only carries what
// String printed, it takes no bare number, nothing negative and no zero.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	switch {
	case err != nil || v < 0 || string(b) == "0" || b[0] == '+' || b[0] == '-':
		return durationError("not a duration")
	case v == 0:
		return durationError("zero, which would mean the default")
	}
	*d = Duration(v)
	return nil
}

// YAMLName names the type in the messages of package strictyaml.
func (*Duration) YAMLName() string { return "a duration such as 5s" }

// YAMLPattern is the text form for JSON Schemas; bare numbers are not taken.
func (*Duration) YAMLPattern() (pattern string, numbers bool) {
	const one = `([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)`
	return "^(" + one + ")+$", false
}

type durationError string

func (e durationError) Error() string { return string(e) }

// Hint says what to write instead.
func (durationError) Hint() string {
	return "write a number with a unit: 500ms, 5s, 2m or 1h"
}
