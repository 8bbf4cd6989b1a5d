// Microservice describes pictures: curl --data-binary @cat.png http://127.0.0.1:8000/describe
//
// It passes on what its own caller says of the call: how long it waits (x-timeout-ms), and which trace it belongs to
// (traceparent and tracestate, as W3C has them). When that caller leaves, the model is left, too.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/idefics2-serving/idefics2-serving/clients/go/idefics2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

const (
	maxTime  = time.Minute
	maxBytes = 20_000_000
)

var statuses = map[codes.Code]int{
	codes.InvalidArgument:   http.StatusBadRequest,
	codes.ResourceExhausted: http.StatusTooManyRequests,
	codes.Unavailable:       http.StatusServiceUnavailable,
	codes.DeadlineExceeded:  http.StatusGatewayTimeout,
}

func main() {
	client, err := idefics2.New("") // where, and with which key: IDEFICS2_CLIENT_TARGET and IDEFICS2_API_KEY
	if err != nil {
		log.Fatal(err)
	}
	port := os.Getenv("PORT")
	if port == "" {
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

// describe describes the picture that is the body. Its context ends when the caller leaves.
func describe(client *idefics2.Client, w http.ResponseWriter, r *http.Request) {
	picture, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBytes))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeLeft(r))
	defer cancel()
	for _, name := range []string{"traceparent", "tracestate"} {
		if value := r.Header.Get(name); value != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, name, value)
		}
	}
	question := idefics2.Question{Images: []idefics2.Image{idefics2.ImageData(picture)}, Prompt: "Describe the image."}
	answer, err := client.Generate(ctx, question)
	if err != nil {
		refuse(w, err)
		return
	}
	fmt.Fprintln(w, answer.GetOutput())
}

func timeLeft(r *http.Request) time.Duration {
	ms, err := strconv.Atoi(r.Header.Get("x-timeout-ms"))
	if left := time.Duration(ms) * time.Millisecond; err == nil && left < maxTime {
		return left
	}
	return maxTime
}

func refuse(w http.ResponseWriter, err error) {
	var failed *idefics2.Error
	status := http.StatusBadGateway
	if errors.As(err, &failed) {
		if known, ok := statuses[failed.Code]; ok {
			status = known
		}
		if failed.RetryAfter > 0 {
			w.Header().Set("retry-after", fmt.Sprint(math.Ceil(failed.RetryAfter.Seconds())))
		}
	}
	http.Error(w, err.Error(), status)
}
