package initramfs

// Digests of sample() by TestGolden. The zstd one may change with the
// compressor's version; the other one never.
const (
	goldenNone = "6cbc23f550b35b99144296c06cc52ed6cb3a1548010c17e11dbaca97196bdbec"
	goldenZstd = "3e62bf3b0e3ccbc0c0d423c33caccad83061c5e706a3fd6bc9fb1186b32430d6"
)
