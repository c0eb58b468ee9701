package attest

import "time"

// Lifetime is how long a challenge may be answered, and a credential.
const Lifetime = time.Minute

// minNonce is the least length of a nonce in bytes.
const minNonce = 16

// maxOpen bounds the challenges, and the offers, that wait for an answer.
const maxOpen = 100_000

// Open are the challenges, or the offers of enrolment, that wait for an answer,
// in memory: a restart makes them void. There is one for each host and channel.
// So a flood of requests on a channel stays one, and nobody can make another
// channel's challenge void. The zero value is ready; it is for one goroutine.
type Open[T any] struct {
	open map[openKey]waiting[T]
}

type openKey struct{ host, channel string }

type waiting[T any] struct {
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
	if o.open == nil {
		o.open = map[openKey]waiting[T]{}
	}
	key := openKey{host, string(channelKey)}
	if _, known := o.open[key]; !known && len(o.open) >= maxOpen {
		if o.expire(now); len(o.open) >= maxOpen {
			return false
		}
	}
	o.open[key] = waiting[T]{value, expires}
	return true
}

// Take gives what a host was asked on a channel, and forgets it: each is
// answered once, rightly or not. One that is only too old is for Verify or
// Finish to refuse.
func (o *Open[T]) Take(host string, channelKey []byte) (T, bool) {
	key := openKey{host, string(channelKey)}
	w, ok := o.open[key]
	delete(o.open, key)
	return w.value, ok
}

func (o *Open[T]) expire(now time.Time) {
	for key, w := range o.open {
		if now.After(w.expires) {
			delete(o.open, key)
		}
	}
}
