package idefics2

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

const (
	// pingInterval is how often a quiet connection is tested; servers suffer no less than 300 s, unless they are set to.
	pingInterval = 310 * time.Second
	pingTimeout  = 20 * time.Second
	dialTimeout  = 20 * time.Second
	// maxMessageBytes is what a message has at most; the library's own limit is 4 MiB.
	maxMessageBytes = 28 << 20
)

var metadataName = regexp.MustCompile(`^[0-9a-z_.-]+$`)

// connection is the channel to one service, and the ways to call over it.
type connection struct {
	target  string
	channel *grpc.ClientConn
	key     string
	timeout time.Duration
	retries Retries
}

func connect(target string, given []Option) (*connection, error) {
	chosen := &options{}
	for _, option := range given {
		option(chosen)
	}
	endpoint, err := findEndpoint(target, chosen.tls)
	if err != nil {
		return nil, err
	}
	key, err := findKey(chosen.key)
	if err != nil {
		return nil, err
	}
	retries := chosen.retries.orDefaults()
	// By a scheme of its own, or a host that is called as one would be taken for it: `dns:50051`.
	address, dial := "passthrough:///"+endpoint.target, dialOptions(endpoint, retries)
	if chosen.spreads {
		address, dial = "dns:///"+endpoint.target, append(dial, spreadOptions()...)
	}
	channel, err := grpc.Dial(address, append(dial, chosen.dial...)...)
	if err != nil {
		return nil, refuseSetting("target", err.Error())
	}
	return &connection{endpoint.target, channel, key, chosen.timeout, retries}, nil
}

func dialOptions(endpoint endpoint, retries Retries) []grpc.DialOption {
	security := grpc.WithInsecure()
	if endpoint.tls != nil {
		security = grpc.WithTransportCredentials(credentials.NewTLS(endpoint.tls))
	}
	pauses := backoff.Config{
		BaseDelay: retries.FirstPause, Multiplier: 2, Jitter: 0.2, MaxDelay: retries.MaxPause,
	}
	return []grpc.DialOption{
		security,
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: pauses, MinConnectTimeout: dialTimeout}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingInterval, Timeout: pingTimeout}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes)),
	}
}

func spreadOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`),
		grpc.WithDisableServiceConfig(), // no other one is looked up
		grpc.WithNoProxy(),              // it would be chosen by the address, not by the name
	}
}

// begin begins an operation; end must be called once it is over.
func (c *connection) begin(ctx context.Context) *operation {
	var end context.CancelFunc
	if _, ok := ctx.Deadline(); !ok && c.timeout != 0 {
		ctx, end = context.WithTimeout(ctx, c.timeout)
	} else {
		ctx, end = context.WithCancel(ctx)
	}
	return &operation{connection: c, ctx: ctx, end: end}
}

// outgoing is the context of a call that begins with message: with the key, beside what the caller sends along. It fails
// where that cannot be sent, which the channel would call INTERNAL, as if the connection was lost.
func (o *operation) outgoing(message proto.Message) (context.Context, error) {
	if err := checkTexts(message); err != nil {
		return nil, err
	}
	given, _ := metadata.FromOutgoingContext(o.ctx)
	sent := metadata.MD{}
	for name, values := range given {
		sent.Append(name, values...) // in lower case, which nothing else can be sent in
	}
	if err := checkMetadata(sent); err != nil {
		return nil, err
	}
	if o.key != "" {
		sent.Set("authorization", "Key "+o.key) // in the place of one that is sent along
	}
	return metadata.NewOutgoingContext(o.ctx, sent), nil
}

func checkMetadata(sent metadata.MD) error {
	for name, values := range sent {
		isLegal := metadataName.MatchString(name)
		for _, value := range values {
			isLegal = isLegal && (strings.HasSuffix(name, "-bin") || printable.MatchString(value))
		}
		if !isLegal {
			return &Error{Code: codes.InvalidArgument, Field: "metadata", Message: fmt.Sprintf(
				"the metadata %q cannot be sent: names are of a-z 0-9 - _ and . , values of printable ASCII, "+
					"unless the name ends in -bin", name)}
		}
	}
	return nil
}

func (o *operation) callOptions() []grpc.CallOption {
	return []grpc.CallOption{grpc.WaitForReady(o.waits)}
}

// method is one of the wire that has one answer.
type method[I, O any] func(context.Context, I, ...grpc.CallOption) (O, error)

// ask calls once; it returns the answer.
func ask[I proto.Message, O any](op *operation, call method[I, O], input I) (answer O, err error) {
	ctx, err := op.outgoing(input)
	if err != nil {
		return answer, err
	}
	var header, trailer metadata.MD
	answer, err = call(ctx, input, append(op.callOptions(), grpc.Header(&header), grpc.Trailer(&trailer))...)
	if err != nil {
		return answer, op.readError(err, header, trailer)
	}
	return answer, nil
}

// askRepeatedly calls a few times where no answer comes: what only reads has the same effect and answer each time.
func askRepeatedly[I proto.Message, O any](op *operation, call method[I, O], input I) (O, error) {
	for {
		answer, err := ask(op, call, input)
		if err == nil {
			return answer, nil
		}
		if err := op.pauseOrGiveUp(err); err != nil {
			return answer, err
		}
	}
}

// insist calls until there is an answer, or an error that will stay.
func insist[I proto.Message, O any](op *operation, call method[I, O], input I) (O, error) {
	for {
		answer, err := ask(op, call, input)
		if err == nil {
			op.restore()
			return answer, nil
		}
		if err := op.pauseAfter(err); err != nil {
			return answer, err
		}
	}
}

// receiver is where messages come from.
type receiver[O any] interface {
	Recv() (O, error)
	Header() (metadata.MD, error)
	Trailer() metadata.MD
}

// flow is what comes of one call that has many answers. It ends with its operation.
type flow[O any] struct {
	op       *operation
	question proto.Message
	start    func(context.Context, ...grpc.CallOption) (receiver[O], error)
	messages receiver[O]
}

// follow has start send question when the first message is asked for.
func follow[O any](
	op *operation, question proto.Message, start func(context.Context, ...grpc.CallOption) (receiver[O], error),
) *flow[O] {
	return &flow[O]{op: op, question: question, start: start}
}

// next returns the next message; io.EOF after the last one.
func (f *flow[O]) next() (message O, err error) {
	if f.messages == nil {
		ctx, err := f.op.outgoing(f.question)
		if err != nil {
			return message, err
		}
		if f.messages, err = f.start(ctx, f.op.callOptions()...); err != nil {
			return message, f.op.readError(err, nil, nil)
		}
	}
	message, err = f.messages.Recv()
	if err == nil || err == io.EOF {
		return message, err
	}
	header, _ := f.messages.Header() // there is none where the service was not reached
	return message, f.op.readError(err, header, f.messages.Trailer())
}
