package idefics2

import (
	pb "github.com/idefics2-serving/idefics2-serving/clients/go/idefics2v1"
	"google.golang.org/grpc/codes"
)

// cursor is where a watcher stands in the list of a request's events: what is known, and so what to ask for next.
type cursor struct {
	requestID string
	after     int64 // the sequence of the last event that is known
	position  *int32
	finished  *pb.Finished
}

// take notes an event that arrived, and tells whether it says anything new.
func (c *cursor) take(event *Event) bool {
	if event.GetSequence() == 0 {
		place := event.GetQueuePosition()
		return place == nil || c.moveTo(place.GetPosition())
	}
	if event.GetSequence() <= c.after {
		return false
	}
	c.after = event.GetSequence()
	c.position = nil
	if finished := event.GetFinished(); finished != nil {
		c.finished = finished
	}
	return true
}

// checkEnd compares a stream that ended without a last event with what the service knows; it fails if there is more.
func (c *cursor) checkEnd(request *Request) error {
	if request.GetEndTime() == nil || request.GetLastSequence() > c.after {
		return &Error{Code: codes.Unavailable, Message: "the stream ended before the request did"}
	}
	return nil
}

// answer returns what the last event holds, or the request's own error.
func (c *cursor) answer() (*Answer, error) {
	if answer := c.finished.GetResponse(); answer != nil {
		return answer, nil
	}
	if failure := c.finished.GetFailure(); failure != nil {
		return nil, readFailure(failure, c.requestID)
	}
	return nil, &Error{
		Code: codes.Internal, Message: "the service ended the stream before the answer was complete",
		RequestID: c.requestID,
	}
}

// moveTo notes a place in the queue; a new connection tells of one that is known already.
func (c *cursor) moveTo(position int32) bool {
	isNew := c.position == nil || *c.position != position
	c.position = &position
	return isNew
}
