package ui

import "testing"

func TestInstallSentence(t *testing.T) {
	const why = "it holds an installed system"
	for _, c := range []struct{ phase, detail, want string }{
		{"writing", "", "web-1 installs itself on /dev/vda"},
		{"done", "", "web-1 is installed on /dev/vda, and starts from there"},
		{"done", "no room", "web-1 is installed on /dev/vda, but boot entries could not be written: no room; it starts from there if its firmware finds the disk without one"},
		{"refused", why, "web-1 does not install itself: it holds an installed system"},
		{"failed", why, "web-1: the install has failed, and begins again: it holds an installed system"},
	} {
		if got := sentence("install", map[string]string{"host": "web-1", "phase": c.phase, "disk": "/dev/vda", "detail": c.detail}, nil); got != c.want {
			t.Errorf("%s: %q", c.phase, got)
		}
	}
}
