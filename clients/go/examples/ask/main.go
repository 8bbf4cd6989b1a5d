// Ask asks about a picture, and writes the answer as it comes: ask cat.png "What is on the sofa?"
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/idefics2-serving/idefics2-serving/clients/go/idefics2"
)

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := ask(ctx, idefics2.ImageFile(flag.Arg(0)), flag.Arg(1)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println()
}

func ask(ctx context.Context, image idefics2.Image, prompt string) error {
	// Where and with which key: IDEFICS2_CLIENT_TARGET and IDEFICS2_API_KEY, or the arguments of New.
	client, err := idefics2.New("", idefics2.WithTimeout(time.Minute))
	if err != nil {
		return err
	}
	defer client.Close()
	question := idefics2.Question{Images: []idefics2.Image{image}, Prompt: prompt, Temperature: idefics2.Ptr(0.0)}
	events := client.Stream(ctx, question)
	for events.Next() {
		fmt.Print(events.Value().GetTextDelta().GetText()) // empty for other events
	}
	return events.Err()
}
