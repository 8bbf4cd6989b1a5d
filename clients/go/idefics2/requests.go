package idefics2

import (
	"context"
	"io"

	pb "github.com/idefics2-serving/idefics2-serving/clients/go/idefics2v1"
)

// Filter says which requests are listed.
type Filter struct {
	// State, where it is set, is the only one that is listed.
	State pb.State
	// PageSize is how many are fetched at a time, 1 to 1,000; 0 is 50.
	PageSize int32
}

// Submit hands in a request and returns where it stands; it goes on whoever leaves.
func (c *Client) Submit(ctx context.Context, submission Submission) (*Request, error) {
	message, err := submission.write()
	if err != nil {
		return nil, err
	}
	op := c.begin(ctx)
	defer op.end()
	return ask(op, c.requests.Submit, message)
}

// GetRequest returns where a request stands.
func (c *Client) GetRequest(ctx context.Context, id string) (*Request, error) {
	return c.getRequest(ctx, &pb.GetRequestRequest{RequestId: id})
}

// GetRequestWithLogs returns where a request stands, and its log.
func (c *Client) GetRequestWithLogs(ctx context.Context, id string) (*Request, error) {
	return c.getRequest(ctx, &pb.GetRequestRequest{RequestId: id, IncludeLogs: true})
}

func (c *Client) getRequest(ctx context.Context, question *pb.GetRequestRequest) (*Request, error) {
	op := c.begin(ctx)
	defer op.end()
	return askRepeatedly(op, c.requests.GetRequest, question)
}

// Watch yields each event after number `after`, those that happened before too, to the finished one. It outlives lost
// connections and servers that start anew, without gap or repeat. Events of sequence 0 tell places in the queue. The
// finished event holds an answer or a failure, which is no error here. Leaving does not cancel the request.
func (c *Client) Watch(ctx context.Context, id string, after int64) *Iterator[*Event] {
	op := c.begin(ctx)
	watcher := &watcher{client: c, op: op, cursor: &cursor{requestID: id, after: after}}
	return &Iterator[*Event]{next: watcher.next, stop: op.end}
}

// Result returns the answer of a request that has ended, or the request's own error.
func (c *Client) Result(ctx context.Context, id string) (*Answer, error) {
	op := c.begin(ctx)
	defer op.end()
	op.asksForAnother = true
	return askRepeatedly(op, c.requests.GetResult, &pb.GetResultRequest{RequestId: id})
}

// Wait returns the answer when there is one, or the request's own error. It outlives what Watch outlives. Leaving does
// not cancel the request.
func (c *Client) Wait(ctx context.Context, id string) (*Answer, error) {
	op := c.begin(ctx)
	defer op.end()
	watcher := &watcher{client: c, op: op, cursor: &cursor{requestID: id}}
	for {
		if _, err := watcher.next(); err == io.EOF {
			return watcher.cursor.answer()
		} else if err != nil {
			return nil, err
		}
	}
}

// Cancel cancels a request and returns where it stands: for a moment it may still be running.
func (c *Client) Cancel(ctx context.Context, id string) (*Request, error) {
	op := c.begin(ctx)
	defer op.end()
	return askRepeatedly(op, c.requests.CancelRequest, &pb.CancelRequestRequest{RequestId: id})
}

// SubmitAndWatch submits a request, tells onEvent, if it is not nil, what happens to it, and returns the answer. It
// outlives what Watch outlives, at every step. Whoever leaves without an answer cancels the request: because the context
// ended, or by an error of onEvent, which is returned as it is.
func (c *Client) SubmitAndWatch(
	ctx context.Context, submission Submission, onEvent func(*Event) error,
) (*Answer, error) {
	message, err := submission.write()
	if err != nil {
		return nil, err
	}
	op := c.begin(ctx)
	defer op.end()
	return newWaiting(c, op, message).run(onEvent)
}

// ListRequests yields the key's requests that are still known, newest first; a page is fetched when it is needed.
func (c *Client) ListRequests(ctx context.Context, filter Filter) *Iterator[*Request] {
	pages := &pages{client: c, ctx: ctx, filter: filter}
	return &Iterator[*Request]{next: pages.next, stop: func() {}}
}

// pages turns the pages of a list.
type pages struct {
	client   *Client
	ctx      context.Context
	filter   Filter
	requests []*Request
	token    string
	isLast   bool
}

func (p *pages) next() (*Request, error) {
	for len(p.requests) == 0 {
		if p.isLast {
			return nil, io.EOF
		}
		if err := p.turn(); err != nil {
			return nil, err
		}
	}
	request := p.requests[0]
	p.requests = p.requests[1:]
	return request, nil
}

func (p *pages) turn() error {
	op := p.client.begin(p.ctx)
	defer op.end()
	question := &pb.ListRequestsRequest{State: p.filter.State, PageSize: p.filter.PageSize, PageToken: p.token}
	page, err := askRepeatedly(op, p.client.requests.ListRequests, question)
	if err != nil {
		return err
	}
	p.requests, p.token = page.GetRequests(), page.GetNextPageToken()
	p.isLast = p.token == ""
	return nil
}
