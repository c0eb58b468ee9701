package ui

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// The exit codes of ingot; docs and scripts rely on them.
const (
	CodeOK      = 0 // done
	CodeError   = 1 // something went wrong
	CodeUsage   = 2 // the command line makes no sense
	CodeRefused = 3 // a verification or a smoke test says no
	CodeDiffers = 4 // two artifacts are not the same
)

// Error is an error with an exit code and advice. Only Err is required.
type Error struct {
	Code int // 0 counts as CodeError
	Err  error
	Hint string
}

// Error implements error.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// exit is an exit code whose reason has already been printed as a result.
type exit int

// Error implements error.
func (e exit) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// Exit returns an error that ends the program with code and says nothing: the
// printed result says it all.
func Exit(code int) error { return exit(code) }

// Fail says what err means, with its hint, and returns the exit code. A nil
// error is CodeOK and silence.
//
// An error brings its hint along as an *Error or as any error in its chain
// with a method Hint() string.
func (u *UI) Fail(err error) int {
	u.clear()
	var code exit
	switch {
	case err == nil:
		return CodeOK
	case errors.As(err, &code):
		return int(code)
	case errors.Is(err, context.Canceled):
		u.Say("interrupted")
		return CodeError
	}
	u.words("ingot: error: ", err.Error())
	if hint := hintOf(err); hint != "" && !strings.Contains(err.Error(), "hint: "+hint) {
		u.Hint("%s", hint)
	}
	return codeOf(err)
}

func hintOf(err error) string {
	var own *Error
	if errors.As(err, &own) && own.Hint != "" {
		return own.Hint
	}
	var other interface{ Hint() string }
	if errors.As(err, &other) {
		return other.Hint()
	}
	return ""
}

func codeOf(err error) int {
	var own *Error
	if errors.As(err, &own) && own.Code != 0 {
		return own.Code
	}
	return CodeError
}
