package idefics2

import (
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	pb "github.com/idefics2-serving/idefics2-serving/clients/go/idefics2v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Question is what is asked. What is nil stays unset on the wire and the service's default holds: that is not 0. Ptr
// makes the pointers: Temperature: idefics2.Ptr(0.0).
type Question struct {
	// Images to ask about, in this order: 1 to 8.
	Images []Image
	// Prompt is the question or instruction.
	Prompt string
	// MaxNewTokens may be generated at most, 1 to 4,096. Default 512.
	MaxNewTokens *int
	// MinNewTokens must be generated before the model may end its turn. Default 0.
	MinNewTokens *int
	// RepetitionPenalty: 1 changes nothing, higher repeats less. 0.01 to 10. Default 1.2.
	RepetitionPenalty *float64
	// Temperature: higher is more random; 0 always takes the most likely token. 0, or 0.001 to 10. Default 0.4.
	Temperature *float64
	// TopP samples among the likeliest tokens that add up to this. Above 0, up to 1. Default 0.8.
	TopP *float64
	// TopK samples among this many likeliest tokens, 1 to 1,000. Default: no such limit.
	TopK *int
	// Seed: the same request with the same seed gives the same answer, but for rounding. Default: drawn anew.
	Seed *uint64
	// Stop: the answer ends before the first of these texts; at most 8, each of 1 to 128 bytes.
	Stop []string
	// SplitImages: true reads each image in five pieces, more detail for five times the tokens. Default: the model's.
	SplitImages *bool
	// MaxImageBytes refuses images that are larger, 1 to 20,000,000. Default 20,000,000.
	MaxImageBytes *int64
}

// Submission is a question that outlives the call, and what may be said of it beside.
type Submission struct {
	Question
	// RequestID names the request, and makes sending it again safe: 1 to 128 of `A-Z a-z 0-9 . _ -`. Default: made.
	RequestID string
	// Priority may be low: behind all others, but not for ever.
	Priority pb.Priority
	// StartTimeout: the request fails if it is not begun so long after it was taken. Above 0, up to a day. Default: as
	// TimeBudget.
	StartTimeout *time.Duration
	// TimeBudget: the request fails if it has not ended so long after it was taken. Above 0. Default and most: a day.
	TimeBudget *time.Duration
	// WebhookURL is a public http(s) address that is told of the end by a signed POST. Default: none.
	WebhookURL string
	// MaxQueueLength refuses the request if more than so many are before it, 0 or more. Default: as the service is set.
	MaxQueueLength *int
	// Keep is how long the request is kept after its end. Above 0, up to a day. Default and most: as the service is set.
	Keep *time.Duration
}

// Ptr returns a pointer to value, for what may be left out.
func Ptr[T any](value T) *T {
	return &value
}

// write writes the question as it goes over the wire; it reads the files of its images.
func (q Question) write() (*pb.GenerateRequest, error) {
	request := &pb.GenerateRequest{
		Prompt: q.Prompt, RepetitionPenalty: q.RepetitionPenalty, Temperature: q.Temperature, TopP: q.TopP,
		Seed: q.Seed, Stop: q.Stop, SplitImages: q.SplitImages, MaxImageBytes: q.MaxImageBytes,
	}
	numbers := []number{
		{"max_new_tokens", q.MaxNewTokens, &request.MaxNewTokens},
		{"min_new_tokens", q.MinNewTokens, &request.MinNewTokens},
		{"top_k", q.TopK, &request.TopK},
	}
	if err := writeAll(numbers); err != nil {
		return nil, err
	}
	if err := writeImages(q.Images, request); err != nil {
		return nil, err
	}
	return request, checkTexts(request) // before it is in a submission, where its fields have longer names
}

// write writes the submission as it goes over the wire; it reads the files of its images.
func (s Submission) write() (*pb.SubmitRequest, error) {
	input, err := s.Question.write()
	if err != nil {
		return nil, err
	}
	request := &pb.SubmitRequest{
		RequestId: s.RequestID, Input: input, Priority: s.Priority, WebhookUrl: s.WebhookURL,
		StartTimeout: writeDuration(s.StartTimeout), TimeBudget: writeDuration(s.TimeBudget), Keep: writeDuration(s.Keep),
	}
	return request, writeAll([]number{{"max_queue_length", s.MaxQueueLength, &request.MaxQueueLength}})
}

// number is one that the wire holds in 32 bits.
type number struct {
	field string
	from  *int
	to    **int32
}

func writeAll(numbers []number) error {
	for _, number := range numbers {
		if number.from == nil {
			continue
		}
		value := *number.from
		if value < math.MinInt32 || value > math.MaxInt32 {
			return refuseValue(number.field, fmt.Sprintf("%d to %d", math.MinInt32, math.MaxInt32), fmt.Sprint(value))
		}
		*number.to = proto.Int32(int32(value))
	}
	return nil
}

func writeDuration(duration *time.Duration) *durationpb.Duration {
	if duration == nil {
		return nil
	}
	return durationpb.New(*duration)
}

// checkTexts fails for a text that the wire cannot hold, wherever the message holds it.
func checkTexts(message proto.Message) error {
	return protorange.Range(message.ProtoReflect(), func(at protopath.Values) error {
		text, isText := at.Index(-1).Value.Interface().(string)
		if !isText || utf8.ValidString(text) {
			return nil
		}
		field := nameField(at.Path)
		return refuse(ReasonTextNotUnicode, field, field+" must be valid UTF-8")
	})
}

// nameField names a field as the service does: without the places in lists.
func nameField(path protopath.Path) string {
	var names []string
	for _, step := range path {
		if step.Kind() == protopath.FieldAccessStep {
			names = append(names, string(step.FieldDescriptor().Name()))
		}
	}
	return strings.Join(names, ".")
}

// refuseValue says that field must be bound, in the words and with the metadata that the service has for it.
func refuseValue(field, bound, value string) *Error {
	failed := refuse(ReasonValueOutOfRange, field, fmt.Sprintf("%s must be %s, not %s", field, bound, value))
	failed.Metadata = map[string]string{"field": field, "bound": bound, "value": value}
	return failed
}

func refuse(reason Reason, field, message string) *Error {
	return &Error{Code: codes.InvalidArgument, Reason: reason, Field: field, Message: message}
}
