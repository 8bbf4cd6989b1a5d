// Microservice describes pictures: curl --data-binary @cat.png http://127.0.0.1:8000/describe
//
// It passes on what its own caller says of the call: how long it waits (x-timeout-ms), and which trace it belongs to
// (traceparent and tracestate, as W3C has them). When that caller leaves, the model is left, too.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/idefics2-serving/idefics2-serving/clients/go/idefics2"
)

const (
	maxTime  = time.Minute
	maxBytes = 20_000_000
)

func main() {
	client, err := idefics2.New("") // where, and with which key: IDEFICS2_CLIENT_TARGET and IDEFICS2_API_KEY
	if err != nil {
		log.Fatal(err)
	}
	port, ok := os.LookupEnv("PORT")
	if !ok {
		port = "8000"
	}
	listener, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("listening on http://%s\n", listener.Addr())
	http.HandleFunc("/describe", func(w http.ResponseWriter, r *http.Request) { describe(client, w, r) })
	log.Fatal(http.Serve(listener, nil))
}

// describe describes the picture that is the body. The request's context ends when the caller leaves.
func describe(client *idefics2.Client, w http.ResponseWriter, r *http.Request) {
	picture, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBytes))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	left, err := time.ParseDuration(r.Header.Get("x-timeout-ms") + "ms")
	if err != nil || left > maxTime {
		left = maxTime
	}
	ctx, cancel := context.WithTimeout(idefics2.WithTrace(r.Context(), r.Header.Get), left)
	defer cancel()
	question := idefics2.Question{Images: []idefics2.Image{idefics2.ImageData(picture)}, Prompt: "Describe the image."}
	answer, err := client.Generate(ctx, question)
	if err != nil {
		idefics2.HTTPError(w, err)
		return
	}
	fmt.Fprintln(w, answer.GetOutput())
}
