package idefics2

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// What a service needs that is called itself: to pass on which trace it is called in, and why there is no answer.

// WithTrace gives calls the trace that a caller named by headers, `traceparent` and `tracestate` as W3C has them. `get`
// finds a header, as http.Header's Get does: WithTrace(request.Context(), request.Header.Get).
func WithTrace(ctx context.Context, get func(name string) string) context.Context {
	for _, name := range []string{"traceparent", "tracestate"} {
		if value := get(name); value != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, name, value)
		}
	}
	return ctx
}

var httpStatuses = map[codes.Code]int{
	codes.InvalidArgument:   http.StatusBadRequest,
	codes.ResourceExhausted: http.StatusTooManyRequests,
	codes.Unavailable:       http.StatusServiceUnavailable,
	codes.DeadlineExceeded:  http.StatusGatewayTimeout,
}

// HTTPError answers a call over HTTP, as http.Error does, where a call of this package failed: with 400, 429 and
// `retry-after`, 503 or 504 what its caller may mend or wait for, all else with 502.
func HTTPError(w http.ResponseWriter, err error) {
	code := http.StatusBadGateway
	var failed *Error
	if errors.As(err, &failed) {
		if known, ok := httpStatuses[failed.Code]; ok {
			code = known
		}
		if failed.RetryAfter > 0 {
			w.Header().Set("retry-after", fmt.Sprint(math.Ceil(failed.RetryAfter.Seconds())))
		}
	}
	http.Error(w, err.Error(), code)
}

// GRPCStatus lets a service that is called by gRPC return this error as its own: its caller reads the same reason, metadata,
// field and time to wait.
func (e *Error) GRPCStatus() *status.Status {
	told := status.New(e.Code, e.Message).Proto()
	told.Details = writeDetails(e)
	return status.FromProto(told)
}
