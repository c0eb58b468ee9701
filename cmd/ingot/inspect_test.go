package main

import (
	"context"
	"errors"
	"testing"
)

// Ctrl-C ends what knows no context; a result that is there is given.
func TestAbandon(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	reads := make(chan int)
	got, err := abandon(ctx, func() (int, error) {
		cancel()
		return <-reads, nil
	})
	if got != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("abandon = %d, %v", got, err)
	}
	close(reads)
	want := errors.New("bad disk")
	got, err = abandon(context.Background(), func() (int, error) { return 7, want })
	if got != 7 || !errors.Is(err, want) {
		t.Errorf("abandon = %d, %v", got, err)
	}
}
