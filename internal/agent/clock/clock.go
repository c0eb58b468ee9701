// Package clock sets the machine's time: never below a floor, by NTP when it
// is configured (S16). A machine without a battery starts in 1970; the floor,
// the epoch of its image or a later one it has kept, is the best that is known
// before a server has answered.
package clock

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/beevik/ntp"
	"golang.org/x/sys/unix"
)

// Floor returns the later of the image's epoch and the kept floor, in seconds
// since 1970.
func Floor(epoch, stored int64) time.Time { return time.Unix(max(epoch, stored), 0).UTC() }

// Raise sets the clock to the floor when it is below, and reports whether it
// was.
func Raise(floor time.Time) (bool, error) {
	if !time.Now().Before(floor) {
		return false, nil
	}
	return true, Set(floor)
}

// Set sets the clock.
func Set(t time.Time) error {
	ts := unix.NsecToTimespec(t.UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return fmt.Errorf("set clock to %s: %w", t.Format(time.RFC3339), err)
	}
	return nil
}

// Answer is one usable answer of a server.
type Answer struct {
	Server  string
	Offset  time.Duration // to be added to the clock
	Stratum int
}

// Client keeps the clock by NTP. Fill the fields, then Run.
type Client struct {
	Servers []string
	Floor   time.Time
	// Signed is the time by a server whose certificate was checked, when there is
	// one: NTP has no signature, so an answer that is far from it is not
	// believed (S16). nil: there never is.
	Signed func() (time.Time, bool)
	// Report is called after each round with an answer or an error.
	Report func(Answer, error)
	// Query asks one server; nil = the network.
	Query func(server string) (Answer, error)
	// Adjust moves the clock; nil = the kernel's.
	Adjust func(offset time.Duration) error
}

// The rhythm of queries. A wrong clock is tried often, a good one is left alone.
const (
	firstRetry = 2 * time.Second
	lastRetry  = 5 * time.Minute
	interval   = 17 * time.Minute // about 2^10 s, as NTP clients do
)

// Run asks until the context ends.
func (c *Client) Run(ctx context.Context) {
	retry := firstRetry
	for {
		wait := interval
		a, err := c.Once()
		c.Report(a, err)
		if err != nil {
			wait = retry
			retry = min(retry*2, lastRetry)
		} else {
			retry = firstRetry
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

// Once asks the servers in order until one gives a usable time, and sets the
// clock. A time below the floor is not usable: it is wrong or a lie.
func (c *Client) Once() (Answer, error) {
	query, adjust := c.Query, c.Adjust
	if query == nil {
		query = ask
	}
	if adjust == nil {
		adjust = move
	}
	var errs []error
	for _, server := range c.Servers {
		a, err := query(server)
		if err == nil && time.Now().Add(a.Offset).Before(c.Floor) {
			err = fmt.Errorf("ask %s: its time %s is before the floor %s", server,
				time.Now().Add(a.Offset).UTC().Format(time.RFC3339), c.Floor.Format(time.RFC3339))
		}
		if err == nil {
			err = c.near(a)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		return a, adjust(a.Offset)
	}
	if len(errs) == 0 {
		return Answer{}, errors.New("ask for time: no servers")
	}
	return Answer{}, errors.Join(errs...)
}

// Far is how much an answer may differ from the signed time.
const Far = 10 * time.Minute

func (c *Client) near(a Answer) error {
	if c.Signed == nil {
		return nil
	}
	signed, ok := c.Signed()
	now := time.Now().Add(a.Offset)
	if !ok || now.Sub(signed).Abs() <= Far {
		return nil
	}
	return fmt.Errorf("ask %s: its time %s is far from %s, which the attestation server has told", a.Server,
		now.UTC().Format(time.RFC3339), signed.UTC().Format(time.RFC3339))
}

func ask(server string) (Answer, error) {
	r, err := ntp.QueryWithOptions(server, ntp.QueryOptions{Timeout: 3 * time.Second})
	if err == nil {
		err = r.Validate()
	}
	if err != nil {
		return Answer{}, fmt.Errorf("ask %s: %w", server, err)
	}
	return Answer{server, r.ClockOffset, int(r.Stratum)}, nil
}

// stepAbove is RFC 5905's STEPT: a smaller error is slewed, so that time does
// not jump under running services.
const stepAbove = 128 * time.Millisecond

func move(offset time.Duration) error {
	if offset.Abs() > stepAbove {
		return Set(time.Now().Add(offset))
	}
	tx := unix.Timex{Modes: unix.ADJ_OFFSET_SINGLESHOT, Offset: offset.Microseconds()}
	if _, err := unix.Adjtimex(&tx); err != nil {
		return fmt.Errorf("slew clock by %s: %w", offset, err)
	}
	return nil
}
