package idefics2

import (
	"context"
	"fmt"
	"strings"
	"time"

	pb "github.com/idefics2-serving/idefics2-serving/clients/go/idefics2v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	domain         = "idefics2"
	deadlinePassed = "the deadline passed before the answer was complete"
	// clockSlack is how much sooner than here a deadline may pass for others.
	clockSlack = time.Second
)

// mismatches are what the channel says of connections that will not come about at the next try either.
var mismatches = []struct{ words, meaning string }{
	{"first record does not look like a TLS handshake", "does not speak TLS: leave TLS out, or use the port that has it"},
	{"certificate signed by unknown authority", "shows a certificate that nobody vouches for: set RootCAs of WithTLS"},
	{"certificate is valid for", "shows a certificate of another name: use a target that it names"},
	{"x509:", "shows a certificate that cannot be trusted"},
}

// absences are what the channel says where there is no connection yet.
var absences = []string{"while dialing", "name resolver error", "zero addresses", "lookup error"}

// readFailure says by one error why a submitted request has no answer.
func readFailure(failure *pb.Failure, requestID string) *Error {
	reason, ok := pb.ErrorReason_name[int32(failure.GetReason())]
	if !ok {
		reason = fmt.Sprint(int32(failure.GetReason()))
	}
	return &Error{
		Code: codes.Code(failure.GetCode()), Reason: Reason(reason), Message: failure.GetMessage(),
		Field: failure.GetField(), RequestID: requestID,
		RetryAfter: failure.GetRetryDelay().AsDuration(), Metadata: failure.GetMetadata(),
	}
}

// readError says by one error what went wrong with a call. It is named before the first message, or, where there was none,
// behind the refusal.
func (o *operation) readError(err error, header, trailer metadata.MD) *Error {
	requestID := ""
	if names := metadata.Join(header, trailer).Get("x-request-id"); len(names) > 0 {
		requestID = names[0]
	}
	failed := readDetails(status.Convert(err))
	failed.RequestID, failed.cause = requestID, err
	if failed.Reason == "" {
		return o.explain(failed)
	}
	_, isOfAll := failed.Metadata["bound"] // longer than any request may take
	isOwn := failed.Reason == ReasonRequestDeadlineExceeded && !isOfAll && !o.asksForAnother
	if isOwn && isOver(o.ctx) {
		failed.cause = context.DeadlineExceeded // the service was faster
	}
	return failed
}

// isOver tells whether the context's deadline has passed, or is so near that the clock of another machine may say so.
func isOver(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ok && time.Until(deadline) < clockSlack
}

// explain says what is behind a status that the service did not write itself.
func (o *operation) explain(failed *Error) *Error {
	if o.ctx.Err() != nil {
		return endOf(o.ctx, failed.RequestID)
	}
	switch failed.Code {
	case codes.DeadlineExceeded:
		failed.Message = deadlinePassed
		if isOver(o.ctx) {
			failed.cause = context.DeadlineExceeded
		}
	case codes.Unimplemented:
		failed.Message = o.target + " does not know this call: " +
			"it is another service, or older than this client: update the service"
	case codes.Unavailable:
		return explainAbsence(failed, o.target)
	}
	if failed.Message == "" {
		failed.Message = fmt.Sprintf("the call failed with %s", failed.Code)
	}
	return failed
}

func explainAbsence(failed *Error, target string) *Error {
	words := failed.Message
	for _, mismatch := range mismatches {
		if strings.Contains(words, mismatch.words) {
			failed.kind, failed.Field, failed.Message = ErrSettingInvalid, "tls", target+" "+mismatch.meaning
			return failed
		}
	}
	for _, absence := range absences {
		if strings.Contains(words, absence) {
			failed.Message = "no service answers at " + target + ": start one with `idefics2-service serve`, " +
				"or set IDEFICS2_CLIENT_TARGET to the address of one that runs"
			return failed
		}
	}
	failed.Message = "the connection to " + target + " was lost before the answer was complete"
	if failed.RequestID == "" {
		failed.Message += "; if it never comes about, look whether the port is gRPC's, and both sides speak TLS, or neither"
	}
	return failed
}
