package ui

import "testing"

func TestInstallSentence(t *testing.T) {
	for phase, want := range map[string]string{
		"writing": "web-1 installs itself on /dev/vda",
		"done":    "web-1 is installed on /dev/vda, and starts from there",
		"refused": "web-1 does not install itself: it holds an installed system",
		"failed":  "web-1: the install has failed, and begins again: it holds an installed system",
	} {
		if got := sentence("install", map[string]string{"host": "web-1", "phase": phase, "disk": "/dev/vda", "detail": "it holds an installed system"}, nil); got != want {
			t.Errorf("%s: %q", phase, got)
		}
	}
}
