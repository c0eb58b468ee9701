package attest

import (
	"slices"
	"sync"
	"time"
)

// Lifetime is how long a challenge may be answered, and a credential.
const Lifetime = time.Minute

// minNonce is the least length of a nonce in bytes.
const minNonce = 16

// maxOpen bounds the challenges, and the offers, that wait for an answer, and
// maxChannels those of one host: nobody fills the table with one name.
const (
	maxOpen     = 100_000
	maxChannels = 16
)

// Open are the challenges, or the offers of enrolment, that wait for an answer,
// in memory: a restart makes them void. There is one for each host and channel,
// so a flood of requests on a channel stays one. Of a host with more channels
// the one that ends soonest is void: a channel that has proven itself is asked
// long before it answers, and stays. The zero value is ready, for any number of goroutines.
type Open[T any] struct {
	mu      sync.Mutex
	hosts   map[string][]waiting[T] // of each host in the order of asking
	n       int
	expired time.Time // when all were last looked at
}

type waiting[T any] struct {
	channel string
	value   T
	expires time.Time
}

// NewChallenge makes a challenge out of a nonce of at least 16 bytes that
// nobody can guess. It reports false for a shorter one.
func NewChallenge(nonce, serverID, channelKey []byte, now time.Time) (Challenge, bool) {
	return Challenge{Nonce: nonce, ServerID: serverID, ChannelKey: channelKey, Expires: now.Add(Lifetime)}, len(nonce) >= minNonce
}

// Put keeps what a host was asked on a channel; an earlier one there is void.
// It reports false when too many wait.
func (o *Open[T]) Put(host string, channelKey []byte, value T, expires, now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.remove(host, string(channelKey))
	if list := o.hosts[host]; len(list) >= maxChannels {
		o.remove(host, soonest(list))
	}
	if o.n >= maxOpen {
		if o.expire(now); o.n >= maxOpen {
			return false
		}
	}
	if o.hosts == nil {
		o.hosts = map[string][]waiting[T]{}
	}
	o.hosts[host] = append(o.hosts[host], waiting[T]{string(channelKey), value, expires})
	o.n++
	return true
}

// Take gives what a host was asked on a channel, and forgets it: each is
// answered once, rightly or not. One that is only too old is for Verify or
// Finish to refuse.
func (o *Open[T]) Take(host string, channelKey []byte) (T, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.remove(host, string(channelKey))
}

func (o *Open[T]) remove(host, channel string) (value T, ok bool) {
	list := o.hosts[host]
	i := slices.IndexFunc(list, func(w waiting[T]) bool { return w.channel == channel })
	if i < 0 {
		return value, false
	}
	value = list[i].value
	o.keep(host, slices.Delete(list, i, i+1), 1)
	return value, true
}

func soonest[T any](list []waiting[T]) string {
	return slices.MinFunc(list, func(a, b waiting[T]) int { return a.expires.Compare(b.expires) }).channel
}

// keep writes what is left of a host after n were removed.
func (o *Open[T]) keep(host string, list []waiting[T], n int) {
	if o.n -= n; len(list) == 0 {
		delete(o.hosts, host)
	} else {
		o.hosts[host] = list
	}
}

// expire forgets what is too old. It looks at all, so once in a second at most.
func (o *Open[T]) expire(now time.Time) {
	if since := now.Sub(o.expired); since >= 0 && since < time.Second {
		return
	}
	o.expired = now
	for host, list := range o.hosts {
		left := slices.DeleteFunc(list, func(w waiting[T]) bool { return now.After(w.expires) })
		o.keep(host, left, len(list)-len(left))
	}
}
