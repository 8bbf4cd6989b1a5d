package idefics2

import (
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

// readDetails reads what the service itself wrote; an error that somebody else wrote has no reason. The details are those of
// google.rpc, and read and written by the numbers of their fields: their package has moved from one Go module to another, and
// a program whose modules ask for both does not build.
func readDetails(status *status.Status) *Error {
	failed := &Error{Code: status.Code(), Message: status.Message()}
	details := status.Proto().GetDetails()
	for _, detail := range details {
		if info := open(detail, "ErrorInfo"); info.text(2) == domain {
			failed.Reason, failed.Metadata = Reason(info.text(1)), info.texts(3)
		}
	}
	if failed.Reason == "" {
		return failed
	}
	for _, detail := range details {
		if violations := open(detail, "BadRequest")[1]; len(violations) > 0 {
			failed.Field = parse(violations[0]).text(1)
		}
		if delay := open(detail, "RetryInfo").last(1); delay != nil {
			duration := &durationpb.Duration{}
			_ = proto.Unmarshal(delay, duration) // 0 where it cannot be read
			failed.RetryAfter = duration.AsDuration()
		}
	}
	return failed
}

// writeDetails writes what readDetails reads; an error without a reason has none.
func writeDetails(failed *Error) []*anypb.Any {
	if failed.Reason == "" {
		return nil
	}
	info := append(field(1, []byte(failed.Reason)), field(2, []byte(domain))...)
	for name, value := range failed.Metadata {
		info = append(info, field(3, append(field(1, []byte(name)), field(2, []byte(value))...))...)
	}
	details := []*anypb.Any{pack("ErrorInfo", info)}
	if failed.Field != "" {
		details = append(details, pack("BadRequest", field(1, field(1, []byte(failed.Field)))))
	}
	if failed.RetryAfter > 0 {
		delay, _ := proto.Marshal(durationpb.New(failed.RetryAfter)) // it holds nothing that can fail
		details = append(details, pack("RetryInfo", field(1, delay)))
	}
	return details
}

// pack makes a detail of google.rpc, which open reads.
func pack(name string, message []byte) *anypb.Any {
	return &anypb.Any{TypeUrl: "type.googleapis.com/google.rpc." + name, Value: message}
}

// field writes a field that holds a text, or a message.
func field(number protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), value)
}

// fields are those of a message that hold texts and messages, by their numbers; nil holds none.
type fields map[protowire.Number][][]byte

// open reads a detail of google.rpc by its name; nil where it is another.
func open(detail *anypb.Any, name string) fields {
	if string(detail.MessageName()) != "google.rpc."+name {
		return nil
	}
	return parse(detail.GetValue())
}

// parse returns nil where message is none.
func parse(message []byte) fields {
	read := fields{}
	for len(message) > 0 {
		number, kind, numTagBytes := protowire.ConsumeTag(message)
		if numTagBytes < 0 {
			return nil
		}
		message = message[numTagBytes:]
		numBytes := protowire.ConsumeFieldValue(number, kind, message)
		if numBytes < 0 {
			return nil
		}
		if kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(message)
			read[number] = append(read[number], value)
		}
		message = message[numBytes:]
	}
	return read
}

func (f fields) last(number protowire.Number) []byte {
	values := f[number]
	if len(values) == 0 {
		return nil
	}
	return values[len(values)-1]
}

func (f fields) text(number protowire.Number) string {
	return string(f.last(number))
}

// texts reads a map of texts.
func (f fields) texts(number protowire.Number) map[string]string {
	read := map[string]string{}
	for _, entry := range f[number] {
		pair := parse(entry)
		read[pair.text(1)] = pair.text(2)
	}
	return read
}
