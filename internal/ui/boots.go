package ui

import (
	"fmt"
	"path"
	"strconv"
	"strings"
)

// bootSentence words a step of a boot (netboot.Event as internal/serve writes it).
func bootSentence(v map[string]string) string {
	who := firstOf(v["host"], v["mac"], v["address"], "somebody")
	if v["host"] != "" && v["mac"] != "" {
		who += " (" + v["mac"] + ")"
	}
	what := firstOf(v["release"], path.Base(v["path"]))
	why := ""
	if v["reason"] != "" {
		why = ": " + v["reason"]
	}
	by := ""
	if v["method"] != "" {
		by = " by " + strings.ToUpper(v["method"])
	}
	switch v["stage"] {
	case "asked":
		return who + " asks" + why
	case "offered":
		return who + " is offered " + firstOf(v["release"], "a boot") + by + why
	case "refused":
		return who + " is told no" + by + why
	case "probed":
		return who + " looks at " + what + by + why
	case "first":
		return fmt.Sprintf("%s loads %s%s, %s", who, what, by, sizeWords(v["size"]))
	case "last":
		return fmt.Sprintf("%s has loaded %s%s%s", who, what, by, why)
	case "broken":
		return fmt.Sprintf("%s broke off %s%s after %s of %s%s", who, what, by, sizeWords(v["bytes"]), sizeWords(v["size"]), why)
	case "init":
		return who + " runs ingot-init, which asks for an address"
	case "untrusted":
		return who + " is not trusted" + why
	case "released":
		return who + " has a good release: " + what + why
	case "attested":
		return who + " has attested" + why
	case "healthy":
		return who + " is healthy" + why
	}
	return who + ": " + v["stage"] + why
}

func firstOf(list ...string) string {
	for _, s := range list {
		if s != "" && s != "." {
			return s
		}
	}
	return ""
}

func sizeWords(digits string) string {
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return "0 B"
	}
	return Size(n)
}
