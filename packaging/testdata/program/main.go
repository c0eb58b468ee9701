// Command program stands in for ingot in a package that is only looked at.
package main

import (
	"fmt"
	"os"
)

func main() { fmt.Println("program", os.Args[1]) }
