package recipe

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/golden"
)

// findings is what ingot check would print, with paths as in the corpus.
func findings(t testing.TB, file string) Errors {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, rep, err := CheckFile(file, func(*Recipe) Facts { return factsOf(t, data) })
	if err != nil {
		t.Fatal(err)
	}
	return rep.Errors
}

// TestBadRecipes holds every file in testdata/bad against the text beside it:
// each finding with its place, cause and hint.
func TestBadRecipes(t *testing.T) {
	files := corpus(t, "bad")
	if len(files) < 45 {
		t.Fatalf("%d bad recipes, want at least 45", len(files))
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			errs := findings(t, file)
			if len(errs) == 0 {
				t.Fatal("nothing is wrong with it")
			}
			text := strings.ReplaceAll(errs.Error(), "testdata/bad/", "") + "\n"
			golden.Equal(t, strings.TrimSuffix(file, ".yaml")+".txt", text)
			for _, e := range errs {
				if e.Line == 0 || e.Col == 0 {
					t.Errorf("no place: %v", e)
				}
				if e.Hint == "" && !strings.HasPrefix(filepath.Base(file), "yaml-") {
					t.Errorf("no hint: %v", e)
				}
			}
		})
	}
}

// TestGoodRecipes wants no finding at all, also with the facts of a real kernel.
func TestGoodRecipes(t *testing.T) {
	for _, file := range append(corpus(t, "good"), "../../examples/hello/appliance.yaml", "../../examples/gateway/appliance.yaml", "../../examples/container/appliance.yaml", "../../examples/hello/arm64.yaml") {
		r, err := Load(file)
		if err != nil {
			t.Errorf("%s:\n%v", file, err)
			continue
		}
		for _, facts := range []string{"", "metal"} {
			if rep := Examine(r, factsNamed(t, facts)); len(rep.Errors) > 0 {
				t.Errorf("%s with facts %q:\n%v", file, facts, rep.Errors)
			}
		}
	}
}

// TestCheckIsFast is the promise of 100 ms for a recipe and everything it names.
func TestCheckIsFast(t *testing.T) {
	facts := factsNamed(t, "metal")
	start := time.Now()
	r, err := Load("testdata/good/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	Check(r, facts)
	if d := time.Since(start); d > 100*time.Millisecond {
		t.Errorf("check took %v, want at most 100ms", d)
	}
}

func BenchmarkCheck(b *testing.B) {
	facts := factsNamed(b, "metal")
	for b.Loop() {
		r, err := Load("testdata/good/full.yaml")
		if err != nil {
			b.Fatal(err)
		}
		Check(r, facts)
	}
}
