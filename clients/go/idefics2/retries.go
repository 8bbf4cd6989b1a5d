package idefics2

import (
	"context"
	"crypto/rand"
	"errors"
	"math/big"
	"time"

	"google.golang.org/grpc/codes"
)

// Retries is how calls are made again after a connection was lost: after pauses that double, up to a limit. Watch, Wait,
// SubmitAndWatch, Upload and Download go on as long as their context allows. Calls that only read, and Cancel, are made a
// few times. All others are made once. What is 0 has its default. A pause below 0 is none, and none is longer than a day.
type Retries struct {
	// Attempts is how often a call that only reads is made at most, before its error is told. Default 3; 1 is once.
	Attempts int
	// FirstPause is the longest first pause. Each is drawn between 0 and its limit: callers shall not come back as one.
	// Default 200 ms.
	FirstPause time.Duration
	// MaxPause is the longest pause, even if the service asks for more. Default 5 s.
	MaxPause time.Duration
	// OnLost, if it is not nil, is told of each loss, before the pause.
	OnLost func(*Error)
}

const longestPause = 24 * time.Hour

// passing are the reasons that a wait may help against; empty: the service did not speak.
var passing = map[Reason]bool{
	"":                         true,
	ReasonBackendUnavailable:   true,
	ReasonServiceStopping:      true,
	ReasonStoreUnavailable:     true,
	ReasonFileStoreUnavailable: true,
}

// limits are what a call is refused for because of others; told to who begins, waited for by who has begun.
var limits = map[Reason]bool{
	ReasonRateLimited:         true,
	ReasonConcurrencyExceeded: true,
	ReasonCallsFull:           true,
}

func (r Retries) orDefaults() Retries {
	if r.Attempts == 0 {
		r.Attempts = 3
	}
	if r.FirstPause == 0 {
		r.FirstPause = 200 * time.Millisecond
	}
	if r.MaxPause == 0 {
		r.MaxPause = 5 * time.Second
	}
	r.FirstPause, r.MaxPause = boundPause(r.FirstPause), boundPause(r.MaxPause)
	if r.OnLost == nil {
		r.OnLost = func(*Error) {}
	}
	return r
}

// boundPause makes of a pause one that can be reckoned with: doubled, it overflows nothing.
func boundPause(pause time.Duration) time.Duration {
	if pause < 0 {
		return 0
	}
	return atMost(pause, longestPause)
}

// pause draws how long to wait after so many losses in a row, 1 or more; no shorter than the service asked for.
func (r Retries) pause(numLosses int, asked time.Duration) time.Duration {
	limit := r.FirstPause
	for i := 1; i < numLosses && limit < r.MaxPause; i++ {
		limit *= 2
	}
	pause := draw(atMost(limit, r.MaxPause))
	if pause < asked {
		pause = asked
	}
	return atMost(pause, r.MaxPause)
}

// draw draws between 0 and limit.
func draw(limit time.Duration) time.Duration {
	drawn, err := rand.Int(rand.Reader, big.NewInt(int64(limit)+1))
	if err != nil {
		return limit // the system has no randomness
	}
	return time.Duration(drawn.Int64())
}

func atMost(duration, limit time.Duration) time.Duration {
	if duration > limit {
		return limit
	}
	return duration
}

// isLoss tells whether err may be another at the next try.
func isLoss(err error) (*Error, bool) {
	var lost *Error
	if !errors.As(err, &lost) || lost.kind != nil || !passing[lost.Reason] {
		return nil, false
	}
	switch lost.Code {
	case codes.Unavailable, codes.Internal, codes.Unknown:
		return lost, true
	}
	return nil, false
}

// isLimit tells whether err is one of the limits.
func isLimit(err error) (*Error, bool) {
	var limited *Error
	if !errors.As(err, &limited) || !limits[limited.Reason] {
		return nil, false
	}
	return limited, true
}

// operation is what a caller asked for, which may take several calls and outlive their connections.
type operation struct {
	*connection
	ctx       context.Context
	end       context.CancelFunc
	numLosses int
	// waits: the next call waits for a service, instead of failing at once where there is none.
	waits bool
	// hasBegun: the service has something of it, or perhaps, and no limit is a reason to leave that there.
	hasBegun bool
	// asksForAnother: a deadline that the service tells of is that of another operation, not this one's.
	asksForAnother bool
}

// restore notes that something got through.
func (o *operation) restore() {
	o.numLosses, o.waits, o.hasBegun = 0, false, true
}

// pauseAfter waits before the next try; it returns err itself where trying again is no use.
func (o *operation) pauseAfter(err error) error {
	lost, ok := isLoss(err)
	if !ok && o.hasBegun {
		lost, ok = isLimit(err)
	}
	if !ok {
		return err
	}
	o.waits, o.hasBegun = true, true
	return o.pause(lost)
}

// pauseOrGiveUp is pauseAfter for calls that are made a few times only.
func (o *operation) pauseOrGiveUp(err error) error {
	lost, ok := isLoss(err)
	if !ok || lost.Code != codes.Unavailable || o.numLosses+1 >= o.retries.Attempts {
		return err
	}
	return o.pause(lost)
}

func (o *operation) pause(lost *Error) error {
	o.numLosses++
	o.retries.OnLost(lost)
	timer := time.NewTimer(o.retries.pause(o.numLosses, lost.RetryAfter))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-o.ctx.Done():
		return endOf(o.ctx, lost.RequestID)
	}
}
