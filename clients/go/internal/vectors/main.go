// Vectors makes the calls of contract vectors: a line of JSON in, one out; see clients/vectors/README.md.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/idefics2-serving/idefics2-serving/clients/go/idefics2"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

var wordEnd = regexp.MustCompile(`([a-z])([A-Z])`)

type outcome struct {
	Response json.RawMessage    `json:"response,omitempty"`
	Events   *[]json.RawMessage `json:"events,omitempty"`
	Requests *[]json.RawMessage `json:"requests,omitempty"`
	Error    *failure           `json:"error,omitempty"`
}

type failure struct {
	Code              string            `json:"code"`
	Reason            string            `json:"reason"`
	Field             string            `json:"field"`
	Message           string            `json:"message"`
	RequestID         string            `json:"request_id"`
	Metadata          map[string]string `json:"metadata"`
	RetryAfterSeconds *float64          `json:"retry_after_seconds"`
}

func main() {
	in, out := bufio.NewReader(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		line, err := in.ReadBytes('\n')
		if err == io.EOF {
			return
		}
		must(err)
		call := &call{}
		must(json.Unmarshal(line, call))
		must(out.Encode(call.make()))
	}
}

// make makes the call with a client of its own.
func (c *call) make() *outcome {
	result := &outcome{}
	client, err := idefics2.New(c.Target, idefics2.WithKey(c.APIKey))
	if err == nil {
		defer client.Close()
		ctx, end := c.bound()
		defer end()
		err = c.perform(ctx, client, result)
	}
	if err != nil {
		result.Error = writeError(err)
	}
	return result
}

func (c *call) bound() (context.Context, context.CancelFunc) {
	if c.DeadlineMs == 0 {
		return context.WithCancel(context.Background())
	}
	return context.WithTimeout(context.Background(), time.Duration(c.DeadlineMs)*time.Millisecond)
}

func (o *outcome) answer(message proto.Message, err error) error {
	if err == nil {
		o.Response = write(message)
	}
	return err
}

// collect writes what is yielded to one of the outcome's lists, and leaves after as many as it is told, if not 0.
func collect[T proto.Message](list **[]json.RawMessage, items *idefics2.Iterator[T], atMost int) error {
	defer items.Close()
	came := []json.RawMessage{}
	*list = &came
	for items.Next() {
		came = append(came, write(items.Value()))
		if len(came) == atMost {
			return nil
		}
	}
	return items.Err()
}

func write(message proto.Message) json.RawMessage {
	written, err := protojson.Marshal(message)
	must(err)
	return written
}

func writeError(err error) *failure {
	var failed *idefics2.Error
	if !errors.As(err, &failed) {
		return &failure{Code: "NONE", Message: err.Error()}
	}
	told := &failure{
		Code: nameCode(failed.Code), Reason: string(failed.Reason), Field: failed.Field,
		Message: failed.Message, RequestID: failed.RequestID, Metadata: failed.Metadata,
	}
	if told.Metadata == nil {
		told.Metadata = map[string]string{}
	}
	if failed.RetryAfter > 0 {
		told.RetryAfterSeconds = idefics2.Ptr(failed.RetryAfter.Seconds())
	}
	return told
}

// nameCode names a code as google.rpc does: INVALID_ARGUMENT, which codes calls InvalidArgument.
func nameCode(code codes.Code) string {
	if code == codes.Canceled {
		return "CANCELLED"
	}
	return strings.ToUpper(wordEnd.ReplaceAllString(code.String(), "${1}_$2"))
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
