package serve

import (
	"net"
	"os"
	"strings"
)

// notify tells the service manager how the server is (sd_notify(3)): "READY=1",
// "STOPPING=1". Without one nothing is told.
func notify(state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	if abstract, ok := strings.CutPrefix(path, "@"); ok {
		path = "\x00" + abstract
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return // the manager gives up on us by itself, and says so
	}
	defer conn.Close()
	conn.Write([]byte(state))
}
