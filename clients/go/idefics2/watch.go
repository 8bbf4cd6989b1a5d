package idefics2

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"time"

	pb "github.com/idefics2-serving/idefics2-serving/clients/go/idefics2v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// cancelTimeout is how long it may take to cancel a request that is left.
const cancelTimeout = 5 * time.Second

// watcher follows a request, over connections that may be lost.
type watcher struct {
	client *Client
	op     *operation
	cursor *cursor
	events *flow[*Event] // nil: there is no connection
}

// next returns what is new; io.EOF after the last event.
func (w *watcher) next() (*Event, error) {
	for {
		event, err := w.read()
		if w.cursor.finished != nil && event == nil {
			return nil, io.EOF // a loss after the last event is none
		}
		if err == io.EOF {
			err = w.checkEnd()
			if err == nil {
				return nil, io.EOF
			}
		}
		if err != nil {
			w.events = nil
			if err := w.op.pauseAfter(err); err != nil {
				return nil, err
			}
		} else if w.cursor.take(event) {
			return event, nil
		}
	}
}

// read returns what comes next on one connection.
func (w *watcher) read() (*Event, error) {
	if w.events == nil {
		question := &pb.WatchRequestRequest{RequestId: w.cursor.requestID, After: w.cursor.after}
		w.events = follow(w.op, question, func(ctx context.Context, options ...grpc.CallOption) (receiver[*Event], error) {
			return w.client.requests.WatchRequest(ctx, question, options...)
		})
	}
	event, err := w.events.next()
	if err != nil {
		return nil, err
	}
	w.op.restore()
	return event, nil
}

func (w *watcher) checkEnd() error {
	request, err := ask(w.op, w.client.requests.GetRequest, &pb.GetRequestRequest{RequestId: w.cursor.requestID})
	if err != nil {
		return err
	}
	return w.cursor.checkEnd(request)
}

// waiting submits a request and waits for its answer; who leaves cancels it.
type waiting struct {
	client  *Client
	op      *operation
	message *pb.SubmitRequest
	isTaken bool
	watcher *watcher
}

func newWaiting(client *Client, op *operation, message *pb.SubmitRequest) *waiting {
	if message.RequestId == "" {
		message.RequestId = makeName()
	}
	watcher := &watcher{client: client, op: op, cursor: &cursor{requestID: message.RequestId}}
	return &waiting{client: client, op: op, message: message, watcher: watcher}
}

func (w *waiting) run(onEvent func(*Event) error) (*Answer, error) {
	if err := w.follow(onEvent); err != nil {
		if w.watcher.cursor.finished == nil && w.isLeft(err) {
			w.leave()
		}
		return nil, err
	}
	return w.watcher.cursor.answer()
}

func (w *waiting) follow(onEvent func(*Event) error) error {
	if _, err := insist(w.op, w.client.requests.Submit, w.message); err != nil {
		return err
	}
	w.isTaken = true
	for {
		event, err := w.watcher.next()
		if err == io.EOF {
			return nil
		}
		if err == nil && onEvent != nil {
			err = onEvent(event)
		}
		if err != nil {
			return err
		}
	}
}

// isLeft tells whether nobody waits any more, because of err, for what was or may have been taken: a refusal says nothing of
// what was lost before it, unless the name is another request's.
func (w *waiting) isLeft(err error) bool {
	var failed *Error
	isRefused := errors.As(err, &failed) && failed.Code != codes.DeadlineExceeded && w.op.ctx.Err() == nil
	if w.isTaken || !isRefused {
		return true
	}
	return w.op.numLosses > 0 && failed.Code != codes.AlreadyExists
}

// leave cancels the request. Who leaves is told why it left, not that nobody heard of it.
func (w *waiting) leave() {
	ctx, end := context.WithTimeout(detached{w.op.ctx}, cancelTimeout)
	defer end()
	op := &operation{connection: w.op.connection, ctx: ctx, end: end, hasBegun: true}
	_, _ = insist(op, w.client.requests.CancelRequest, &pb.CancelRequestRequest{RequestId: w.message.RequestId})
}

// detached holds what its parent holds, and does not end with it.
type detached struct{ parent context.Context }

func (detached) Deadline() (time.Time, bool) { return time.Time{}, false }
func (detached) Done() <-chan struct{}       { return nil }
func (detached) Err() error                  { return nil }
func (d detached) Value(key any) any         { return d.parent.Value(key) }

// makeName makes a name that no other request has.
func makeName() string {
	var name [16]byte
	if _, err := rand.Read(name[:]); err != nil {
		panic(err) // the system has no randomness
	}
	return hex.EncodeToString(name[:])
}
