// Package idefics2 asks idefics2-serving about images, over gRPC.
//
// Every call is bounded by its context, all its connections together: a deadline is sent along, and who cancels leaves.
// Whatever keeps an answer from coming is an *Error, but for errors of the caller's own functions, and of the system where
// a download cannot be written. What is left out of a Question stays unset on the wire, which is not 0.
//
// A Client may be used by many goroutines at a time; an Iterator by one.
package idefics2

import (
	"context"

	pb "github.com/idefics2-serving/idefics2-serving/clients/go/idefics2v1"
	"google.golang.org/grpc"
)

// Messages of the wire that callers meet; the package idefics2v1 has the rest, such as the values of enums.
type (
	// Answer is a complete answer.
	Answer = pb.GenerateResponse
	// Event is one thing that happened to a request. Its getters answer nil for all that it is not.
	Event = pb.Event
	// Cost is what a question would cost.
	Cost = pb.CountTokensResponse
	// Request tells where a submitted request stands.
	Request = pb.Request
	// File is a file that was uploaded.
	File = pb.File
)

// Client asks one service.
type Client struct {
	*connection
	generation pb.GenerationServiceClient
	requests   pb.RequestServiceClient
	files      pb.FileServiceClient
}

// New makes a client, and does not wait for the connection. The target is `host`, `host:port` or a URL: `grpcs://` and
// `https://` mean TLS, `grpc://` and `http://` none. Empty: IDEFICS2_CLIENT_TARGET, else 127.0.0.1:50051. It fails with
// ErrSettingInvalid or ErrAuthentication where target or key cannot be used.
func New(target string, options ...Option) (*Client, error) {
	connection, err := connect(target, options)
	if err != nil {
		return nil, err
	}
	return &Client{
		connection: connection,
		generation: pb.NewGenerationServiceClient(connection.channel),
		requests:   pb.NewRequestServiceClient(connection.channel),
		files:      pb.NewFileServiceClient(connection.channel),
	}, nil
}

// Target tells where the service is, `host:port`.
func (c *Client) Target() string {
	return c.target
}

// Close ends the connection, and with it every call that still runs.
func (c *Client) Close() error {
	return c.channel.Close()
}

// Generate returns the answer when it is complete.
func (c *Client) Generate(ctx context.Context, question Question) (*Answer, error) {
	request, err := question.write()
	if err != nil {
		return nil, err
	}
	op := c.begin(ctx)
	defer op.end()
	return ask(op, c.generation.Generate, request)
}

// Stream yields each event as it happens, the finished one last. Who closes it before cancels the call.
func (c *Client) Stream(ctx context.Context, question Question) *Iterator[*Event] {
	request, err := question.write()
	if err != nil {
		return failed[*Event](err)
	}
	op := c.begin(ctx)
	events := follow(op, request, func(ctx context.Context, options ...grpc.CallOption) (receiver[*Event], error) {
		return c.generation.GenerateStream(ctx, request, options...)
	})
	return &Iterator[*Event]{next: events.next, stop: op.end}
}

// CountTokens returns what the question would cost, without running it.
func (c *Client) CountTokens(ctx context.Context, question Question) (*Cost, error) {
	request, err := question.write()
	if err != nil {
		return nil, err
	}
	op := c.begin(ctx)
	defer op.end()
	return askRepeatedly(op, c.generation.CountTokens, request)
}
