package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/ingot-os/ingot/internal/powercut/plug"
	"github.com/ingot-os/ingot/internal/release"
)

// tallyRecipe is what the tests of updates boot: a service that tells its version
// and keeps a line for each of its starts.
const tallyRecipe = "internal/e2e/testdata/update"

// site is where power is cut: two signed releases, and a disk with the first that
// has booted.
type site struct {
	dir, ingot, keys string
	pair             *plug.Pair
}

// cutPower runs -powercut and -kill.
func cutPower(ctx context.Context, o options) error {
	s, err := newSite(ctx, o)
	if err != nil {
		return err
	}
	defer s.close()
	if o.powercut > 0 {
		err = powerCuts(ctx, s, o)
	}
	if o.kill > 0 && err == nil {
		err = killMachines(ctx, s, o)
	}
	if o.cycles > 0 && err == nil {
		err = s.flicker(ctx, o.seed, o.cycles)
	}
	return err
}

// newSite makes keys and two releases.
func newSite(ctx context.Context, o options) (*site, error) {
	var s site
	var err error
	if s.ingot, err = filepath.Abs(o.ingot); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp("", "ingot-power-"); err != nil {
		return nil, err
	}
	if err = s.prepare(ctx); err != nil {
		s.close()
		return nil, err
	}
	return &s, nil
}

func (s *site) close() { os.RemoveAll(s.dir) }

func (s *site) prepare(ctx context.Context) error {
	recipe := filepath.Join(s.dir, "recipe")
	if err := os.CopyFS(recipe, os.DirFS(tallyRecipe)); err != nil {
		return err
	}
	s.keys = filepath.Join(recipe, "own")
	for _, args := range [][]string{{"keys", "init", s.keys, "--test", "--name", "own"}, {"keys", "export", s.keys, filepath.Join(recipe, "trust")}} {
		if _, err := s.run(ctx, args...); err != nil {
			return err
		}
	}
	var sets [2]*release.Set
	for i, version := range []string{"1.0.0", "1.1.0"} {
		var err error
		if sets[i], err = s.build(ctx, recipe, version); err != nil {
			return err
		}
	}
	disk := filepath.Join(s.dir, "booted")
	err := os.Mkdir(disk, 0o755)
	if err == nil {
		s.pair, err = plug.NewPair(ctx, sets[0], sets[1], disk)
	}
	return err
}

// update is that key of the recipe.
var update = regexp.MustCompile(`(?m)^update: .*$`)

func (s *site) build(ctx context.Context, dir, version string) (*release.Set, error) {
	b, err := os.ReadFile(filepath.Join(dir, "appliance.yaml"))
	if err != nil {
		return nil, err
	}
	text := strings.ReplaceAll(string(b), "1.0.0", version)
	text = update.ReplaceAllString(text, plug.Times)
	file := filepath.Join(dir, version+".yaml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return nil, err
	}
	out := filepath.Join(dir, "out")
	for _, args := range [][]string{{"lock", "-f", file}, {"build", "-f", file, "-o", out, "--keys", s.keys}} {
		if _, err := s.run(ctx, args...); err != nil {
			return nil, err
		}
	}
	return release.Open(filepath.Join(out, "tally-"+version))
}

// run runs ingot.
func (s *site) run(ctx context.Context, args ...string) (cost, error) {
	return job{args: append([]string{s.ingot}, args...), dir: s.dir}.do(ctx)
}

// checkDisk looks at a disk that is switched off: its data partition has to be
// whole, after the replay of its journal when dirty is set, and ingot has to be
// able to explain it.
func (s *site) checkDisk(ctx context.Context, disk, version string, dirty bool) error {
	data := disk + ".data"
	defer os.Remove(data)
	if err := plug.ExtractData(disk, data); err != nil {
		return err
	}
	e2fsck, err := exec.LookPath("e2fsck")
	if err != nil {
		e2fsck = "/sbin/e2fsck"
	}
	if dirty { // what the kernel does when it mounts it; 1: the journal was replayed
		if _, err := (job{args: []string{e2fsck, "-p", data}, codes: []int{1}}).do(ctx); err != nil {
			return err
		}
	}
	if _, err := (job{args: []string{e2fsck, "-f", "-n", data}}).do(ctx); err != nil {
		return err
	}
	why, err := s.run(ctx, "why", disk)
	if lines := strings.Count(why.output, "\n"); err == nil && (lines == 0 || lines > 20 || !strings.Contains(why.output, version)) {
		err = fmt.Errorf("ingot why does not explain version %s in 20 lines:\n%s", version, why.output)
	}
	return err
}
