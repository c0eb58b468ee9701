package ui

import "testing"

func TestBootSentence(t *testing.T) {
	for _, tt := range []struct {
		v    map[string]string
		want string
	}{
		{map[string]string{"stage": "offered", "mac": "52:54:00:12:34:56", "release": "hello-1.0.0", "method": "tftp", "reason": "default"}, "52:54:00:12:34:56 is offered hello-1.0.0 by TFTP: default"},
		{map[string]string{"stage": "refused", "mac": "52:54:00:12:34:56", "host": "edge-1", "reason": "deny 1"}, "edge-1 (52:54:00:12:34:56) is told no: deny 1"},
		{map[string]string{"stage": "probed", "address": "192.0.2.7", "path": "boot/525400123456/hello-1.0.0.efi", "method": "http"}, "192.0.2.7 looks at hello-1.0.0.efi by HTTP"},
		{map[string]string{"stage": "first", "mac": "52:54:00:12:34:56", "path": "root/ab", "method": "http", "size": "2097152"}, "52:54:00:12:34:56 loads ab by HTTP, 2 MiB"},
		{map[string]string{"stage": "broken", "host": "edge-1", "release": "hello-1.0.0", "method": "tftp", "bytes": "1024", "size": "2048", "reason": "no answer"}, "edge-1 broke off hello-1.0.0 by TFTP after 1 KiB of 2 KiB: no answer"},
		{map[string]string{"stage": "broken"}, "somebody broke off  after 0 B of 0 B"},
	} {
		if got := bootSentence(tt.v); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}
