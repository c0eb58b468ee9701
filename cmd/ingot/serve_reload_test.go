package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/iana"
	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/internal/oracle"
)

// TestServeReload: SIGHUP, as systemctl reload sends it, while a machine loads by TFTP and
// another by HTTP. The addresses, rules and certificates that are new count for who asks next;
// transfers, connections and leases go on. What has a mistake stays as it was, and the log says
// where. After a restart the leases are there.
func TestServeReload(t *testing.T) {
	f := warm(t)
	_, set := f.built(t, "plain")
	lab := serveLab(t, f.exe, set, usualPorts(labConfig), &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: nobodyID, Gid: nobodyID}, AmbientCaps: []uintptr{unix.CAP_NET_BIND_SERVICE, unix.CAP_NET_RAW},
	})
	lab.dhcp, lab.tftpPort = 67, 69
	lab.server.Stop()
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(lab.dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	certify := func(name string) {
		t.Helper()
		cert, key := selfSigned(t, name)
		put("https.crt", cert)
		put("https.key", key)
	}
	config := usualPorts(labConfig) + "rules: rules.yaml\nhttps: {on: true, cert: https.crt, key: https.key}\n"
	put("serve.yaml", config)
	put("rules.yaml", "format: 1\ndefault: hello\n")
	certify("first")
	lab.again()
	lab.server.Await("https: firmware may not take the certificate", 10*time.Second) // it has no address in it

	before := lab.lease(t)
	if strings.Contains(before, "domain=new.test") {
		t.Fatalf("it was told %s", before)
	}
	file := bootFile(lab.discover(t, iana.EFI_X86_64, "PXEClient:Arch:00007:UNDI:003000"))
	open, name := lab.secure(t)
	if name != "first" {
		t.Errorf("HTTPS with the certificate of %s", name)
	}
	reload := func(await string) {
		t.Helper()
		put("serve.yaml", strings.Replace(config, "      router: 10.88.0.1\n", "      router: 10.88.0.1\n      domain: new.test\n", 1))
		put("rules.yaml", "format: 1\ndefault: local\n")
		certify("second")
		lab.server.Signal(syscall.SIGHUP)
		lab.server.Await(await, 10*time.Second)
	}
	want := digestOf(t, filepath.Join(set, filepath.Base(file)))
	var tftp string
	http := lab.http(t, "http://10.88.0.1/"+file, func() {
		tftp = lab.tftp(t, file, func() { reload("releases: loaded 1") })
	})
	if http != want || tftp != want {
		t.Errorf("across the reload: HTTP %s, TFTP %s, want %s", http, tftp, want)
	}
	if _, err := open.Write([]byte("HEAD /x HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		t.Error(err)
	}
	if n, err := open.Read(make([]byte, 64)); n == 0 {
		t.Errorf("the connection of before the reload: %v", err)
	}
	changed := func(when string) {
		t.Helper()
		if after := lab.lease(t); after != before+" domain=new.test" {
			t.Errorf("%s: it was told %q, before %q", when, after, before)
		}
		if file := bootFile(lab.discover(t, iana.EFI_X86_64, "PXEClient:Arch:00007:UNDI:003000")); file != "" {
			t.Errorf("%s: it boots %s, and is to boot from its disk", when, file)
		}
		if _, name := lab.secure(t); name != "second" {
			t.Errorf("%s: HTTPS with the certificate of %s", when, name)
		}
	}
	changed("reload")
	if missing := lacks(lab.scrape(t), []string{
		`ingot_dhcp_leases{family="4",state="bound"} 1`, `ingot_dhcp_pool_addresses{family="4"} 51`, `ingot_dhcp_messages_total{family="4",outcome="answered",type="request"} 2`,
		`ingot_dhcp_answers_total{family="4",type="ack"} 2`, `ingot_http_accepted_connections_total `, `ingot_tftp_blocks_total `, `ingot_transfers_total{method="http",result="done"} 1`,
	}); len(missing) > 0 {
		t.Errorf("no %s in\n%s", missing, lab.scrape(t))
	}

	// Mistakes: each stays as it was.
	put("serve.yaml", strings.Replace(config, "pools:", "pool:", 1))
	put("https.key", "no key")
	put("rules.yaml", "format: 1\ndefalt: hello\n")
	lab.server.Signal(syscall.SIGHUP)
	lab.server.Await("rules: not taken over", 10*time.Second)
	for _, want := range []string{`configuration: not taken over: error .*serve.yaml:9:\d+: unknown key "pool"`, `certificates: not taken over: error https: .*https.crt and .*https.key: `, `rules: not taken over: error .*rules.yaml:2:1: unknown key "defalt"`} {
		if said := lab.server.Said(); !regexp.MustCompile(want).MatchString(said) {
			t.Errorf("the log has no %s:\n%s", want, said)
		}
	}
	changed("mistakes")

	reload("releases: loaded 1")
	if err := lab.server.Stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	lab.again()
	changed("restart")
}

var toldLease = regexp.MustCompile(`(?m)^bound ip=(\S+) mask=(\S*) router=(\S*) dns=\S*( domain=\S+)?`)

// lease asks for an address as busybox does, and gives what it was told.
func (l *bootLab) lease(t *testing.T) string {
	t.Helper()
	hook := filepath.Join(t.TempDir(), "hook")
	if err := os.WriteFile(hook, []byte("#!/bin/sh\necho \"$1 ip=$ip mask=$subnet router=$router dns=$dns${domain:+ domain=$domain}\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	m := toldLease.FindStringSubmatch(l.client.Run(oracle.Need(t, "udhcpc", "udhcpc"), "-f", "-q", "-n", "-i", "down0", "-s", hook))
	if m == nil {
		t.Fatal("udhcpc has no address")
	}
	return m[1] + " " + m[2] + " " + m[3] + m[4]
}

// secure opens a connection of HTTPS, and names the certificate there.
func (l *bootLab) secure(t *testing.T) (*tls.Conn, string) {
	t.Helper()
	raw, err := l.client.Dial(t.Context(), "tcp", "10.88.0.1:443")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	conn := tls.Client(raw, &tls.Config{InsecureSkipVerify: true}) // who it is, is what is asked
	if err := conn.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	return conn, conn.ConnectionState().PeerCertificates[0].Subject.CommonName
}

// selfSigned is a certificate of an operator's own, and its key.
func selfSigned(t *testing.T, name string) (cert, key string) {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"boot.test"}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}
