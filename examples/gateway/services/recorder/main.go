// Command recorder subscribes to all sensor topics of the local MQTT broker
// and appends each reading, one JSON line each, to a file on the data
// partition. A restart or an update of the appliance keeps the readings.
package main

import (
	"encoding/json"
	"flag"
	"log"
	"net/http"
	"os"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

type reading struct {
	Time  time.Time `json:"time"`
	Topic string    `json:"topic"`
	Value string    `json:"value"`
}

func main() {
	broker := flag.String("broker", "tcp://127.0.0.1:1883", "MQTT broker")
	path := flag.String("file", "/data/recorder/readings.jsonl", "file that readings are appended to")
	health := flag.String("health", "127.0.0.1:8081", "address of the health answer")
	flag.Parse()

	f, err := os.OpenFile(*path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		log.Fatal(err)
	}
	readings := make(chan reading, 64)
	o := mqtt.NewClientOptions().AddBroker(*broker).SetClientID("recorder").SetAutoReconnect(true)
	o.SetOnConnectHandler(func(c mqtt.Client) {
		c.Subscribe("sensors/#", 1, func(_ mqtt.Client, m mqtt.Message) {
			readings <- reading{time.Now().UTC(), m.Topic(), string(m.Payload())}
		})
	})
	client := mqtt.NewClient(o)
	if t := client.Connect(); t.Wait() && t.Error() != nil {
		log.Fatal(t.Error())
	}
	go serveHealth(*health, client)
	log.Printf("recording sensors/# to %s", *path)
	for r := range readings {
		if err := json.NewEncoder(f).Encode(r); err != nil {
			log.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			log.Fatal(err)
		}
		log.Printf("recorded %s", r.Topic) // from here on a power cut does not lose it
	}
}

func serveHealth(addr string, c mqtt.Client) {
	log.Fatal(http.ListenAndServe(addr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !c.IsConnectionOpen() {
			http.Error(w, "no broker", http.StatusServiceUnavailable)
			return
		}
		w.Write([]byte("recording\n"))
	})))
}
