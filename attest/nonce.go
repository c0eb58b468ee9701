package attest

import "time"

// Lifetime is how long a challenge may be answered, and a credential.
const Lifetime = time.Minute

// minNonce is the least length of a nonce in bytes.
const minNonce = 16

// maxOpen bounds challenges and offers that wait for an answer.
const maxOpen = 100_000

// Nonces are the challenges that wait for an answer. Each is answered once, and
// a host has one at a time, so a flood of requests for one host stays one.
type Nonces struct {
	open map[string]Challenge // by host
}

// Issue makes a challenge for a host out of a nonce of at least 16 bytes that
// nobody can guess. An earlier one of the host is void. It reports false for a shorter one
// and when too many hosts are asked at once.
func (n *Nonces) Issue(host string, nonce, serverID, channelKey []byte, now time.Time) (Challenge, bool) {
	if n.open == nil {
		n.open = map[string]Challenge{}
	}
	if _, known := n.open[host]; !known && len(n.open) >= maxOpen {
		if n.expire(now); len(n.open) >= maxOpen {
			return Challenge{}, false
		}
	}
	if len(nonce) < minNonce {
		return Challenge{}, false
	}
	c := Challenge{Nonce: nonce, ServerID: serverID, ChannelKey: channelKey, Expires: now.Add(Lifetime)}
	n.open[host] = c
	return c, true
}

// Take gives the challenge that a host answers with this nonce, and forgets it.
// It reports false for a nonce that was never issued to the host, was used or is
// void; one that is only too old is for Verify to refuse.
func (n *Nonces) Take(host string, nonce []byte) (Challenge, bool) {
	o, ok := n.open[host]
	if !ok || string(o.Nonce) != string(nonce) {
		return Challenge{}, false
	}
	delete(n.open, host)
	return o, true
}

func (n *Nonces) expire(now time.Time) {
	for host, o := range n.open {
		if now.After(o.Expires) {
			delete(n.open, host)
		}
	}
}
