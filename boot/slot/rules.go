package slot

import "time"

// Rules are the limits of the machine. The zero value is the default.
type Rules struct {
	Tries   int           // evidenced failures until a version is rejected; 0 = 3
	Crashes int           // evidenced failures of a blessed slot until the other becomes good; 0 = 3
	Bounces int           // resets towards a good slot that does not come up; 0 = 2
	Heals   int           // repairs of the firmware's variables between two updates until they are no longer relied on; 0 = 10
	Health  time.Duration // for which checks must hold without a gap; 0 = 1 minute
	Limit   time.Duration // after which a trial that is not healthy and attested has failed; 0 = 10 minutes
	Soak    time.Duration // uptime after which a blessed version raises the floor; 0 = 1 hour

	Attested bool // bless: attested — a trial needs the server's verdict too
}

func (r Rules) withDefaults() Rules {
	set := func(n *int, value int) {
		if *n == 0 {
			*n = value
		}
	}
	wait := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	set(&r.Tries, 3)
	r.Tries = min(r.Tries, 100) // twice this has to fit the journal's byte
	r.Crashes = min(r.Crashes, 100)
	set(&r.Crashes, 3)
	set(&r.Bounces, 2)
	set(&r.Heals, 10)
	wait(&r.Health, time.Minute)
	wait(&r.Limit, 10*time.Minute)
	wait(&r.Soak, time.Hour)
	return r
}
