// Command portal shows what the gateway has recorded: GET / lists the last
// readings, POST /publish/TOPIC sends one through the broker.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

func main() {
	broker := flag.String("broker", "tcp://127.0.0.1:1883", "MQTT broker")
	path := flag.String("file", "/data/recorder/readings.jsonl", "file that the recorder appends to")
	listen := flag.String("listen", ":80", "address of the portal")
	flag.Parse()

	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(*broker).SetClientID("portal").SetAutoReconnect(true))
	if t := client.Connect(); t.Wait() && t.Error() != nil {
		log.Fatal(t.Error())
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { list(w, *path) })
	mux.HandleFunc("POST /publish/{topic...}", func(w http.ResponseWriter, r *http.Request) { publish(w, r, client) })
	log.Printf("portal on %s", *listen)
	log.Fatal(http.ListenAndServe(*listen, mux))
}

func list(w http.ResponseWriter, path string) {
	f, err := os.Open(path)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer f.Close()
	var last []string
	n := 0
	for s := bufio.NewScanner(f); s.Scan(); n++ {
		last = append(last, s.Text())
		last = last[max(0, len(last)-20):]
	}
	fmt.Fprintf(w, "gateway: %d readings recorded\n", n)
	for _, l := range last {
		fmt.Fprintln(w, l)
	}
}

func publish(w http.ResponseWriter, r *http.Request, c mqtt.Client) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 4096))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	t := c.Publish(r.PathValue("topic"), 1, false, body)
	if !t.WaitTimeout(5*time.Second) || t.Error() != nil {
		http.Error(w, fmt.Sprintf("publish: %v", t.Error()), http.StatusBadGateway)
		return
	}
	fmt.Fprintln(w, "published")
}
