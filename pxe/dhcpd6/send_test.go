package dhcpd6

import (
	"math/rand/v2"
	"net"
)

func sendTo(c net.PacketConn, to string, data []byte) error {
	a, err := net.ResolveUDPAddr("udp6", to)
	if err != nil {
		return err
	}
	_, err = c.WriteTo(data, a)
	return err
}

// flood sends 10,000 malformed messages made of a good one.
func flood(good []byte) error {
	c, err := net.Dial("udp6", "[fd00:77::1]:547")
	if err != nil {
		return err
	}
	defer c.Close()
	r := rand.New(rand.NewPCG(1, 2))
	for range 10000 {
		b := append([]byte(nil), good[:r.IntN(len(good))+1]...)
		for range 1 + r.IntN(4) {
			b[r.IntN(len(b))] = byte(r.Uint32())
		}
		_, _ = c.Write(b) // refused when the other side's buffer is full: that is part of it
	}
	return nil
}
