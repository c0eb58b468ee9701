// Package phase names the words by which ingot-init says in PCR 11 how far a
// boot has come. The machine extends them, the reference of a release lists
// them, and the policy of a sealed data key (S3) holds until the first one.
//
// A word is measured as its bytes without a NUL, in every active bank, as an
// event of type EV_IPL whose data is the word. It says that something is over:
// what was possible before it, as unsealing the data key, is not any more.
package phase

// Services ends the time in which the data key can be unsealed. It is extended
// when machine.yaml has been measured and the data partition is open, before
// any service is started.
const Services = "services"

// All are the words of a boot, in their order.
func All() []string { return []string{Services} }
