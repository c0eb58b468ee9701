// Package serve is the boot server: DHCP, TFTP, HTTP Boot and the attestation
// API of one configuration, in one process.
package serve
