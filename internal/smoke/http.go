package smoke

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/ingot-os/ingot/internal/appliance"
)

const (
	// attemptLimit bounds one request. A connection that QEMU's user network
	// has taken while the guest was not listening yet never answers: better
	// to give it up soon and try again.
	attemptLimit = 2 * time.Second
	retryPause   = 100 * time.Millisecond
	maxBody      = 64 << 10 // bytes of an answer that are looked at
)

// client makes a new connection each time and follows no redirect: the
// expectation is about this answer.
var client = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// expectHTTP asks until the answer is as expected or ctx ends; the error says
// what was wrong with the last answer.
func expectHTTP(ctx context.Context, address string, want appliance.HTTPCheck) (observed string, err error) {
	if address == "" {
		return "", fmt.Errorf("port %d is not forwarded", want.Port)
	}
	var last error
	for {
		status, body, err := get(ctx, address, want.Path)
		if err == nil {
			observed = cut(fmt.Sprintf("status %d, %q", status, strings.TrimSpace(body)))
			if last = compare(status, body, want); last == nil {
				return observed, nil
			}
		} else if ctx.Err() == nil {
			last = err
		}
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
			if last == nil {
				return observed, context.Cause(ctx)
			}
			return observed, fmt.Errorf("%w: %w", context.Cause(ctx), last)
		}
	}
}

func compare(status int, body string, want appliance.HTTPCheck) error {
	expected := want.Status
	if expected == 0 {
		expected = http.StatusOK
	}
	switch {
	case status != expected:
		return fmt.Errorf("got status %d, want %d", status, expected)
	case !strings.Contains(body, want.Body):
		return fmt.Errorf("the answer does not contain %q", want.Body)
	}
	return nil
}

func get(ctx context.Context, address, path string) (status int, body string, err error) {
	ctx, cancel := context.WithTimeout(ctx, attemptLimit)
	defer cancel()
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	return resp.StatusCode, string(b), err
}

// firstAnswer measures when the port of the first HTTP test answers at all, in
// seconds since start. The channel gives 0 when ctx ends first or no test uses HTTP.
func firstAnswer(ctx context.Context, g guest, start time.Time, tests []appliance.Smoke) <-chan float64 {
	out := make(chan float64, 1)
	for _, t := range tests {
		if t.HTTP == nil || g.Forward(t.HTTP.Port) == "" {
			continue
		}
		go func() {
			defer close(out)
			for ctx.Err() == nil {
				if _, _, err := get(ctx, g.Forward(t.HTTP.Port), t.HTTP.Path); err == nil {
					out <- seconds(time.Since(start))
					return
				}
				time.Sleep(retryPause)
			}
		}()
		return out
	}
	close(out)
	return out
}
