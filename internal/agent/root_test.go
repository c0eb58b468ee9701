package agent

import (
	"slices"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/appliance"
)

// Arguments of a service take the place of the image's, as those of docker run
// and of a Kubernetes pod do.
func TestImageCommand(t *testing.T) {
	for _, c := range []struct{ entrypoint, cmd, args, want string }{
		{"/bin/app serve", "", "", "/bin/app serve"},
		{"/bin/app", "-v", "", "/bin/app -v"},
		{"/bin/app", "-v", "-q", "/bin/app -q"},
		{"", "/bin/app -v", "", "/bin/app -v"},
		{"", "", "", ""},
	} {
		image := appliance.Root{Entrypoint: strings.Fields(c.entrypoint), Cmd: strings.Fields(c.cmd)}
		if got := imageCommand(image, strings.Fields(c.args)); !slices.Equal(got, strings.Fields(c.want)) {
			t.Errorf("entrypoint %q, cmd %q, args %q: got %q", c.entrypoint, c.cmd, c.args, got)
		}
	}
}

func TestServiceOfAnImageWithoutItsRoot(t *testing.T) {
	_, err := new(Machine).resolveLocal(appliance.Service{Name: "web"})
	if err == nil || !strings.Contains(err.Error(), "start service web") || !strings.Contains(err.Error(), "there is no root") {
		t.Errorf("got %v", err)
	}
}
