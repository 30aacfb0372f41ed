// Command interop drives Go's Kafka libraries for the interop suites.
//
//	interop <client> write <bootstrap> <spec file> <topic>=<codec>...
//	interop <client> read <bootstrap> <records> <topic>...
//	interop <client> work <bootstrap> <group> <topic> <assignor>
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) < 5 {
		return fmt.Errorf("too few arguments: %q", arguments)
	}
	client, verb, bootstrap, rest := arguments[0], arguments[1], arguments[2], arguments[3:]
	defer output.Flush()
	switch client + " " + verb {
	case "franz-go write":
		return writeWithFranz(bootstrap, rest[0], rest[1:])
	case "franz-go read":
		wanted, err := strconv.Atoi(rest[0])
		if err != nil {
			return err
		}
		return readWithFranz(bootstrap, wanted, rest[1:])
	case "franz-go work":
		return workWithFranz(stopWhenStdinCloses(), bootstrap, rest[0], rest[1], rest[2])
	case "sarama work":
		return workWithSarama(stopWhenStdinCloses(), bootstrap, rest[0], rest[1], rest[2])
	case "kafka-go work":
		return workWithKafkaGo(stopWhenStdinCloses(), bootstrap, rest[0], rest[1], rest[2])
	}
	return fmt.Errorf("no program for %s %s", client, verb)
}

// stopWhenStdinCloses gives a context that ends when the test closes our stdin, or dies.
func stopWhenStdinCloses() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		scratch := make([]byte, 64)
		for {
			if _, err := os.Stdin.Read(scratch); err != nil {
				cancel()
				return
			}
		}
	}()
	return ctx
}
