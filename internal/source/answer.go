package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// transientError marks what may be different in a second.
type transientError struct{ error }

func (e transientError) Unwrap() error { return e.error }

func transient(err error) bool {
	var t transientError
	return errors.As(err, &t)
}

// get makes one request.
func (f *Fetcher) get(ctx context.Context, w want, u string, use func(string, io.Reader) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "ingot")
	resp, err := f.client().Do(req)
	if err != nil {
		return transientError{err}
	}
	defer resp.Body.Close()
	if err := status(u, resp); err != nil {
		return err
	}
	if resp.ContentLength > w.max() {
		return fmt.Errorf("%s: %d bytes, the limit is %d", u, resp.ContentLength, w.max())
	}
	stall := time.AfterFunc(stallAfter, func() { cancel(errStalled) })
	defer stall.Stop()
	return use(u, &body{f: f, w: w, url: u, r: resp.Body, total: resp.ContentLength, stall: stall, ctx: ctx})
}

func status(u string, resp *http.Response) error {
	err := fmt.Errorf("%s: %s", u, resp.Status)
	switch {
	case resp.StatusCode == http.StatusOK:
		return nil
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone:
		return fmt.Errorf("%s: %w", u, errMissing)
	case resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests:
		return transientError{err}
	}
	return err
}

// body reads an answer within its bounds and reports progress.
type body struct {
	f     *Fetcher
	w     want
	url   string
	r     io.Reader
	total int64 // as the server says; 0 or less = it does not
	stall *time.Timer
	ctx   context.Context
	done  int64
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.done += int64(n)
	if n > 0 {
		b.stall.Reset(stallAfter)
	}
	if b.done > b.w.max() {
		return n, fmt.Errorf("%s: more than the limit of %d bytes", b.url, b.w.max())
	}
	b.report(n, err)
	switch {
	case err == io.EOF && b.w.size > 0 && b.done < b.w.size:
		// The length was signed or locked, so this is a cut connection or a
		// wrong file; the former is likely enough to ask again.
		return n, transientError{fmt.Errorf("%s: %d bytes, expected %d", b.url, b.done, b.w.size)}
	case err != nil && err != io.EOF:
		return n, transientError{fmt.Errorf("%s: %w", b.url, cause(b.ctx, err))}
	}
	return n, err
}

func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil {
		return c
	}
	return err
}

func (b *body) report(n int, err error) {
	if b.f.Progress == nil || n == 0 && err == nil {
		return
	}
	total := b.w.size
	if total == 0 {
		total = max(0, b.total)
	}
	b.f.Progress(Progress{Name: b.w.what, URL: b.url, Done: b.done, Total: total, End: err == io.EOF})
}
