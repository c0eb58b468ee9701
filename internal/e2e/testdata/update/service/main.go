// Command tally is what the tests of updates look at: it says its version, and
// keeps a line for each of its starts on the data partition. -mode makes it a
// release that should never be blessed.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	starts = "/data/tally/starts"
	filler = "/data/tally/filler"
)

func main() {
	version := flag.String("version", "", "what GET / answers")
	mode := flag.String("mode", "fine", "fine, unhealthy, fill or clock")
	flag.Parse()
	var sick atomic.Bool
	switch *mode {
	case "fill":
		sick.Store(true)
		go fill()
	case "unhealthy":
		sick.Store(true)
		log.Print("the ledger cannot be read")
	case "clock":
		// Linux refuses a time that lies before its own start.
		err := syscall.Settimeofday(&syscall.Timeval{Sec: 24 * 60 * 60})
		log.Printf("the clock is set to %s: %v", time.Now().UTC(), err)
	}
	if *mode != "fill" {
		_ = os.Remove(filler)
		if err := note(*version); err != nil {
			log.Fatal(err)
		}
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "version %s\n", *version) })
	http.HandleFunc("/starts", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, starts) })
	http.HandleFunc("/health", func(w http.ResponseWriter, r *http.Request) {
		if sick.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	log.Fatal(http.ListenAndServe(":8080", nil))
}

// note writes a line that survives whatever comes next.
func note(version string) error {
	f, err := os.OpenFile(starts, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, version)
	return errors.Join(err, f.Sync(), f.Close())
}

// fill leaves no room on the data partition, and keeps it so.
func fill() {
	f, err := os.Create(filler)
	if err != nil {
		log.Print(err)
		return
	}
	for size := 1 << 20; ; {
		_, err := f.Write(make([]byte, size))
		switch {
		case err != nil && size > 512:
			size /= 2
		case err != nil:
			log.Printf("the data partition is full: %v", f.Sync())
			time.Sleep(time.Second)
		}
	}
}
