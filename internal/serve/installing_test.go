package serve

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/updateapi"
)

// TestInstalls: each step of an install is said once, however often it is reported.
func TestInstalls(t *testing.T) {
	var out bytes.Buffer
	i := installs{log: slog.New(slog.NewTextHandler(&out, nil))}
	for _, step := range []*updateapi.Installing{
		nil,
		{Ticket: "1", Phase: updateapi.InstallWriting},
		{Ticket: "1", Phase: updateapi.InstallWriting, Disk: "/dev/vda", Detail: "esp"},
		{Ticket: "1", Phase: updateapi.InstallWriting, Disk: "/dev/vda", Detail: "slot-a"},
		{Ticket: "1", Phase: updateapi.InstallFailed, Disk: "/dev/vda", Detail: "cut"},
		{Ticket: "1", Phase: updateapi.InstallFailed, Disk: "/dev/vda", Detail: "cut"},
		{Ticket: "1", Phase: updateapi.InstallDone, Disk: "/dev/vda"},
		{Ticket: "2", Phase: updateapi.InstallDone, Disk: "/dev/vda", Detail: "no boot entries"},
	} {
		i.saw(t.Context(), "web-1", step)
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		_, line, _ = strings.Cut(line, "level=")
		got = append(got, strings.TrimSpace(line))
	}
	want := []string{
		`INFO msg=install host=web-1 phase=writing disk=/dev/vda detail=""`,
		`WARN msg=install host=web-1 phase=failed disk=/dev/vda detail=cut`,
		`INFO msg=install host=web-1 phase=done disk=/dev/vda detail=""`,
		`WARN msg=install host=web-1 phase=done disk=/dev/vda detail="no boot entries"`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
