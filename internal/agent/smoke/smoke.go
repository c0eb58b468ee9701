// Package smoke runs a recipe's smoke commands for `ingot test`. The host asks
// over a virtio serial port named ingot.smoke, one JSON object a line:
//
//	{"name": "writes data"}
//
// and gets one line back:
//
//	{"name": "writes data", "exit": 0, "output": "...", "error": ""}
//
// Only the names that the image declares can be asked for. The port exists
// only in a test machine; on metal nothing listens.
package smoke

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ingot-os/ingot/internal/appliance"
)

// Port is the name that the host gives to the serial port.
const Port = "ingot.smoke"

// Timeout is the default limit of one command.
const Timeout = 30 * time.Second

// maxRequest bounds one line of the host, in bytes.
const maxRequest = 4096

// Request is one line of the host.
type Request struct {
	Name string `json:"name"`
}

// Answer is one line of the machine.
type Answer struct {
	Name   string `json:"name"`
	Exit   int    `json:"exit"`
	Output string `json:"output"` // stdout and stderr, bounded
	Error  string `json:"error"`  // why the command could not be run or did not end
}

// Find returns the device node of the port, or "" when there is none.
func Find(sysfs string) string {
	names, _ := filepath.Glob(filepath.Join(sysfs, "class/virtio-ports/*/name"))
	for _, f := range names {
		b, err := os.ReadFile(f)
		if err == nil && strings.TrimSpace(string(b)) == Port {
			return "/dev/" + filepath.Base(filepath.Dir(f))
		}
	}
	return ""
}

// Server answers requests.
type Server struct {
	Declared []appliance.Smoke
	Run      func(command []string, limit time.Duration) (exit int, output string, err error)
}

// Serve answers until the port fails. An end of file is no failure: it is what
// a virtio port reads while no host is connected, so the caller opens again.
func (s *Server) Serve(port io.ReadWriter) error {
	sc := bufio.NewScanner(port)
	sc.Buffer(make([]byte, maxRequest), maxRequest)
	for sc.Scan() {
		b, err := json.Marshal(s.answer(sc.Bytes()))
		if err != nil {
			return err
		}
		if _, err := port.Write(append(b, '\n')); err != nil {
			return fmt.Errorf("write smoke answer: %w", err)
		}
	}
	return sc.Err()
}

func (s *Server) answer(line []byte) Answer {
	var r Request
	if err := json.Unmarshal(line, &r); err != nil {
		return Answer{Exit: -1, Error: fmt.Sprintf("parse request: %v", err)}
	}
	for _, d := range s.Declared {
		if d.Name == r.Name && len(d.Command) > 0 {
			return s.execute(d)
		}
	}
	return Answer{Name: r.Name, Exit: -1, Error: fmt.Sprintf("find smoke command %.80q: not declared in this image", r.Name)}
}

func (s *Server) execute(d appliance.Smoke) Answer {
	exit, output, err := s.Run(d.Command, d.Timeout.Or(Timeout))
	a := Answer{Name: d.Name, Exit: exit, Output: strings.ToValidUTF8(output, "?")}
	if err != nil {
		a.Exit, a.Error = -1, err.Error()
	}
	return a
}
