package recipe

import "net/url"

func (c *checker) netboot() {
	if n := c.r.Netboot; n != nil && n.Server != "" {
		u, err := url.Parse(n.Server)
		if err != nil || u.Scheme != "http" || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			c.add("netboot.server", "want an address such as http://192.0.2.1:8080; https is not needed, the digest is in the boot file",
				"netboot.server is %q: not an http address", n.Server)
		}
	}
}
