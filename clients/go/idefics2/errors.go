package idefics2

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
)

// What an Error is, for errors.Is. The status code chooses it.
var (
	// ErrInvalidRequest is INVALID_ARGUMENT: the same request will fail again; names a field.
	ErrInvalidRequest = errors.New("idefics2: invalid request")
	// ErrFileUnreadable is an ErrInvalidRequest that was never sent: a file cannot be read on this machine, or is not
	// there. The error holds the system's own, so that errors.Is finds fs.ErrNotExist too.
	ErrFileUnreadable = fmt.Errorf("%w: file unreadable", ErrInvalidRequest)
	// ErrSettingInvalid: target or TLS cannot be used so, or do not fit the service; Field names the option.
	ErrSettingInvalid = errors.New("idefics2: invalid setting")
	// ErrAuthentication is UNAUTHENTICATED or PERMISSION_DENIED: no API key, or one that is refused.
	ErrAuthentication = errors.New("idefics2: authentication failed")
	// ErrNotFound is NOT_FOUND: this key has no such request or file, or it was forgotten.
	ErrNotFound = errors.New("idefics2: not found")
	// ErrAlreadyExists is ALREADY_EXISTS: the name is that of a request with other content.
	ErrAlreadyExists = errors.New("idefics2: already exists")
	// ErrNotFinished is FAILED_PRECONDITION: there is no answer yet, ask again later.
	ErrNotFinished = errors.New("idefics2: not finished")
	// ErrOverloaded is RESOURCE_EXHAUSTED: too many wait or are kept already, retry later.
	ErrOverloaded = errors.New("idefics2: overloaded")
	// ErrUnavailable is UNAVAILABLE: not there, starting or stopping, retry later.
	ErrUnavailable = errors.New("idefics2: unavailable")
	// ErrDeadlineExceeded is DEADLINE_EXCEEDED: a deadline passed before the answer was complete. Where it was the
	// context's, errors.Is finds context.DeadlineExceeded too.
	ErrDeadlineExceeded = errors.New("idefics2: deadline exceeded")
	// ErrCancelled is CANCELLED: someone ended the call or the request. Where the context was cancelled, errors.Is
	// finds context.Canceled too.
	ErrCancelled = errors.New("idefics2: cancelled")
	// ErrServiceFailed is every other code.
	ErrServiceFailed = errors.New("idefics2: service failed")
)

var kinds = map[codes.Code]error{
	codes.InvalidArgument:    ErrInvalidRequest,
	codes.Unauthenticated:    ErrAuthentication,
	codes.PermissionDenied:   ErrAuthentication,
	codes.NotFound:           ErrNotFound,
	codes.AlreadyExists:      ErrAlreadyExists,
	codes.FailedPrecondition: ErrNotFinished,
	codes.ResourceExhausted:  ErrOverloaded,
	codes.Unavailable:        ErrUnavailable,
	codes.DeadlineExceeded:   ErrDeadlineExceeded,
	codes.Canceled:           ErrCancelled,
}

// Error is no answer. A request that failed gives the same error whether a status or its last event tells of it.
// errors.Is compares it with an Err… of this package and with a Reason; errors.As gives the rest.
type Error struct {
	// Code is the status code.
	Code codes.Code
	// Reason is empty where it was not the service that refused.
	Reason Reason
	// Message is for a person to read; may be reworded.
	Message string
	// Field of the request that is at fault, for example `images[0].data`; empty if there is none.
	Field string
	// RequestID is the request's name in the service's log; empty if the service never saw the request.
	RequestID string
	// RetryAfter is how long to wait before the same request is worth sending again; 0 if the service did not say.
	RetryAfter time.Duration
	// Metadata is what the reason has to say for programs: see the comments of the proto's ErrorReason.
	Metadata map[string]string

	kind  error // where the code alone would mislead
	cause error
}

// Error writes the message, and the reason or the code.
func (e *Error) Error() string {
	name := string(e.Reason)
	if name == "" {
		name = e.Code.String()
	}
	return fmt.Sprintf("%s (%s)", e.Message, name)
}

// Is tells whether target is what this error is, or its Reason.
func (e *Error) Is(target error) bool {
	if reason, ok := target.(Reason); ok {
		return e.Reason != "" && e.Reason == reason
	}
	kind := e.kind
	if kind == nil {
		kind = kinds[e.Code]
	}
	if kind == nil {
		kind = ErrServiceFailed
	}
	return errors.Is(kind, target)
}

// Unwrap returns the error behind this one, of the context, of the system or of the channel; nil if there is none.
func (e *Error) Unwrap() error {
	return e.cause
}

// endOf says by one error that a context ended.
func endOf(ctx context.Context, requestID string) *Error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &Error{
			Code: codes.DeadlineExceeded, Message: deadlinePassed, RequestID: requestID, cause: context.DeadlineExceeded,
		}
	}
	return &Error{
		Code: codes.Canceled, Message: "the caller cancelled the call", RequestID: requestID, cause: ctx.Err(),
	}
}
