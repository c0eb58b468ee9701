package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/ingot-os/ingot/internal/lock"
	"github.com/ingot-os/ingot/internal/recipe"
	"github.com/ingot-os/ingot/internal/source"
	"github.com/ingot-os/ingot/internal/ui"
)

// recipeFlag names the recipe; the lock lies beside it under the same stem.
type recipeFlag struct {
	File string `short:"f" name:"file" default:"appliance.yaml" help:"Recipe (default ${default}); a directory means its appliance.yaml." type:"path"`
}

func (f recipeFlag) path() string {
	if info, err := os.Stat(f.File); err == nil && info.IsDir() {
		return filepath.Join(f.File, "appliance.yaml")
	}
	return f.File
}

func (f recipeFlag) lockPath() string {
	return strings.TrimSuffix(f.path(), filepath.Ext(f.path())) + ".lock"
}

func (f recipeFlag) load() (*recipe.Recipe, error) {
	r, err := recipe.Load(f.path())
	if os.IsNotExist(err) {
		return nil, &ui.Error{Err: err, Hint: "ingot init DIR writes a recipe to start from; -f names another file"}
	}
	return r, err
}

// loadLock reads the lock beside the recipe.
func (f recipeFlag) loadLock() (*lock.Lock, error) {
	l, err := lock.Read(f.lockPath())
	if os.IsNotExist(err) {
		return nil, &ui.Error{Err: err, Hint: "ingot lock" + f.arg()}
	}
	return l, f.explain(err)
}

// arg is the -f to repeat in a hint, empty for the default.
func (f recipeFlag) arg() string {
	if f.path() == filepath.Join(mustCwd(), "appliance.yaml") {
		return ""
	}
	return " -f " + f.File
}

func mustCwd() string {
	dir, err := os.Getwd()
	if err != nil {
		return "."
	}
	return dir
}

// fetchFlags are shared by the verbs that may use the network.
type fetchFlags struct {
	Offline bool   `help:"Use the cache only, never the network." env:"INGOT_OFFLINE"`
	Vendor  string `help:"Directory written by lock --vendor-to, asked before the network." type:"path"`
	Mirror  string `help:"Debian mirror instead of the recipe's or the host's." env:"INGOT_MIRROR"`
}

func (f fetchFlags) fetcher(ctx context.Context, v *verb, r *recipe.Recipe) (*source.Fetcher, error) {
	store, err := source.Default()
	if err != nil {
		return nil, err
	}
	o := source.Options{Store: store, Offline: f.Offline, Vendor: f.Vendor, Mirror: f.Mirror, Snapshot: r.Snapshot, Progress: v.ui.Transfer}
	if o.Mirror == "" {
		o.Mirror = r.Mirror
	}
	return source.New(o)
}
