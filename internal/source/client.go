package source

import (
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// client is Client, or one that asks the proxy of the environment, else apt's.
func (f *Fetcher) client() *http.Client {
	f.once.Do(f.setup)
	return f.http
}

func newClient(aptProxy string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		Proxy:                 proxyFunc(aptProxy),
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
		IdleConnTimeout:       30 * time.Second,
		MaxIdleConnsPerHost:   4,
		ForceAttemptHTTP2:     true,
		DisableCompression:    true, // digests are of the bytes as they lie on the server
	}}
}

// proxyFunc follows the environment; where that names no proxy, plain http
// goes through the proxy that apt uses, because it is there that the mirrors
// are allowed.
func proxyFunc(aptProxy string) func(*http.Request) (*url.URL, error) {
	return func(r *http.Request) (*url.URL, error) {
		u, err := http.ProxyFromEnvironment(r)
		if u != nil || err != nil || aptProxy == "" || r.URL.Scheme != "http" || isLoopback(r.URL.Hostname()) {
			return u, err
		}
		return url.Parse(aptProxy)
	}
}

func isLoopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
