// What is promised of this client beyond the contract vectors: contexts, kinds of errors, sources of bytes.
package idefics2_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"io/fs"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/idefics2-serving/idefics2-serving/clients/go/idefics2"
	pb "github.com/idefics2-serving/idefics2-serving/clients/go/idefics2v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
)

var (
	ctx      = context.Background()
	question = idefics2.Question{Images: []idefics2.Image{idefics2.ImageData([]byte{1})}, Prompt: "What?"}
)

// expect fails where err is not all of kinds.
func expect(t *testing.T, err error, kinds ...error) *idefics2.Error {
	t.Helper()
	for _, kind := range kinds {
		if !errors.Is(err, kind) {
			t.Errorf("%v is not %v", err, kind)
		}
	}
	var failed *idefics2.Error
	if !errors.As(err, &failed) {
		t.Fatalf("%v is no *Error", err)
	}
	return failed
}

func TestAnErrorIsItsKindAndItsReasonAndNoOther(t *testing.T) {
	client := call(t, &service{generate: func(context.Context) (*pb.GenerateResponse, error) {
		return nil, refusal(codes.ResourceExhausted, idefics2.ReasonQueueFull, "prompt", 250*time.Millisecond)
	}})
	_, err := client.Generate(ctx, question)
	failed := expect(t, err, idefics2.ErrOverloaded, idefics2.ReasonQueueFull)
	for _, other := range []error{idefics2.ErrUnavailable, idefics2.ReasonRateLimited, idefics2.Reason(""), io.EOF} {
		if errors.Is(err, other) {
			t.Errorf("%v is %v", err, other)
		}
	}
	if failed.RetryAfter != 250*time.Millisecond || failed.Field != "prompt" || failed.RequestID != "r-1" {
		t.Errorf("%+v", failed)
	}
	if err.Error() != "why (QUEUE_FULL)" || failed.Metadata["a"] != "b" {
		t.Error(err)
	}
	if status.Code(errors.Unwrap(err)) != codes.ResourceExhausted {
		t.Error("the channel's own error is lost")
	}
}

func TestDetailsThatCannotBeReadAreLeftOut(t *testing.T) {
	client := call(t, &service{generate: func(context.Context) (*pb.GenerateResponse, error) {
		refused := status.New(codes.NotFound, "why").Proto()
		for _, value := range []string{"\x0a\xff", "\x12\x08idefics2\x07", "\xff"} {
			detail := &anypb.Any{TypeUrl: "type.googleapis.com/google.rpc.ErrorInfo", Value: []byte(value)}
			refused.Details = append(refused.Details, detail)
		}
		return nil, status.ErrorProto(refused)
	}})
	_, err := client.Generate(ctx, question)
	if failed := expect(t, err, idefics2.ErrNotFound); failed.Reason != "" || failed.Message != "why" {
		t.Errorf("%+v", failed)
	}
}

func TestAServiceAnswersItsOwnCallerByAnError(t *testing.T) {
	wait := 1200 * time.Millisecond
	for err, code := range map[error]int{
		&idefics2.Error{Code: codes.InvalidArgument, Message: "why"}:                     http.StatusBadRequest,
		&idefics2.Error{Code: codes.ResourceExhausted, Message: "why", RetryAfter: wait}: http.StatusTooManyRequests,
		&idefics2.Error{Code: codes.Unauthenticated, Message: "why"}:                     http.StatusBadGateway,
		io.EOF: http.StatusBadGateway,
	} {
		answer := httptest.NewRecorder()
		idefics2.HTTPError(answer, err)
		retry := answer.Result().Header.Get("retry-after")
		if answer.Code != code || !strings.Contains(answer.Body.String(), err.Error()) || (retry == "2") != (code == 429) {
			t.Errorf("%v: %d, %q, %s", err, answer.Code, retry, answer.Body)
		}
	}
	told := status.Convert(&idefics2.Error{Code: codes.NotFound, Message: "why"})
	if told.Code() != codes.NotFound || told.Message() != "why" {
		t.Error(told)
	}
}

func TestAServiceTellsItsOwnCallerOverGRPCAllThatItWasTold(t *testing.T) {
	wait := 1250 * time.Millisecond
	inner := call(t, &service{generate: func(context.Context) (*pb.GenerateResponse, error) {
		return nil, refusal(codes.ResourceExhausted, idefics2.ReasonQueueFull, "prompt", wait)
	}})
	outer := call(t, &service{generate: func(ctx context.Context) (*pb.GenerateResponse, error) {
		return inner.Generate(ctx, question)
	}})
	_, err := outer.Generate(ctx, question)
	failed := expect(t, err, idefics2.ErrOverloaded, idefics2.ReasonQueueFull)
	if failed.Message != "why" || failed.Field != "prompt" || failed.RetryAfter != wait {
		t.Errorf("%+v", failed)
	}
	if !reflect.DeepEqual(failed.Metadata, map[string]string{"a": "b"}) {
		t.Error(failed.Metadata)
	}
	told := status.Convert(&idefics2.Error{Code: codes.NotFound, Reason: idefics2.ReasonFileNotUploaded})
	if details := told.Proto().GetDetails(); len(details) != 1 || details[0].MessageName() != "google.rpc.ErrorInfo" {
		t.Error(details)
	}
	bare := status.Convert(&idefics2.Error{Code: codes.InvalidArgument, Field: "target"})
	if details := bare.Proto().GetDetails(); len(details) != 0 {
		t.Error(details)
	}
}

func TestATraceIsPassedOnAndNothingElse(t *testing.T) {
	server := &service{}
	headers := http.Header{"Traceparent": {"00-1-2-01"}, "Cookie": {"x"}}
	_, _ = call(t, server).Generate(idefics2.WithTrace(ctx, headers.Get), question)
	if sent := server.lastMetadata.Get("traceparent"); !reflect.DeepEqual(sent, []string{"00-1-2-01"}) {
		t.Error(sent)
	}
	if sent := append(server.lastMetadata.Get("cookie"), server.lastMetadata.Get("tracestate")...); sent != nil {
		t.Error(sent)
	}
}

func TestAWrongKeyIsToldAsSuch(t *testing.T) {
	client := call(t, &service{generate: func(context.Context) (*pb.GenerateResponse, error) {
		return nil, refusal(codes.Unauthenticated, idefics2.ReasonAPIKeyInvalid, "", 0)
	}})
	_, err := client.Generate(ctx, question)
	expect(t, err, idefics2.ErrAuthentication, idefics2.ReasonAPIKeyInvalid)
}

func TestTheKeyComesFromTheArgumentOrTheEnvironment(t *testing.T) {
	for _, given := range []struct{ argument, own, fal, sent string }{
		{"a.1", "b.2", "c.3", "Key a.1"},
		{"", "b.2", "c.3", "Key b.2"},
		{"", "", "c.3\n", "Key c.3"},
		{"", "", "c:3", "Key c.3"},
		{"", "", "", ""},
	} {
		t.Setenv("IDEFICS2_API_KEY", given.own)
		t.Setenv("FAL_KEY", given.fal)
		service := &service{}
		_, err := call(t, service, idefics2.WithKey(given.argument)).Generate(ctx, question)
		expect(t, err, idefics2.ErrServiceFailed)
		if sent := strings.Join(service.lastMetadata.Get("authorization"), ","); sent != given.sent {
			t.Errorf("%+v: %s", given, sent)
		}
	}
}

func TestWhatTheCallerSendsAlongIsSent(t *testing.T) {
	service := &service{}
	traced := metadata.AppendToOutgoingContext(ctx, "traceparent", "00-1-2-01")
	_, _ = call(t, service).Generate(traced, question)
	if sent := service.lastMetadata.Get("traceparent"); len(sent) != 1 || sent[0] != "00-1-2-01" {
		t.Error(sent)
	}
}

func TestWhatIsSentAlongDoesNotSpoilTheKey(t *testing.T) {
	service := &service{}
	target := serve(t, service)
	along := metadata.AppendToOutgoingContext(ctx, "Authorization", "Key mine")
	t.Setenv("IDEFICS2_API_KEY", "")
	t.Setenv("FAL_KEY", "")
	for key, expected := range map[string]string{"local.key": "Key local.key", "": "Key mine"} {
		_, _ = connect(t, target, idefics2.WithKey(key)).Generate(along, question)
		if sent := service.lastMetadata.Get("authorization"); !reflect.DeepEqual(sent, []string{expected}) {
			t.Error(sent)
		}
	}
}

func TestAServiceOfAnotherVersionIsToldByItsAddress(t *testing.T) {
	client := call(t, &service{})
	_, err := client.Generate(ctx, question)
	failed := expect(t, err, idefics2.ErrServiceFailed)
	if failed.Code != codes.Unimplemented || !strings.Contains(err.Error(), client.Target()) {
		t.Error(err)
	}
}

func TestAServiceThatIsAwayIsToldByItsAddressWithWhatToDo(t *testing.T) {
	for _, target := range []string{"127.0.0.1:1", "[::1]:1"} {
		for _, options := range [][]idefics2.Option{nil, {idefics2.WithSpread()}} {
			_, err := connect(t, target, options...).Generate(ctx, question)
			expect(t, err, idefics2.ErrUnavailable)
			for _, word := range []string{target, "IDEFICS2_CLIENT_TARGET"} {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%v does not say %s", err, word)
				}
			}
		}
	}
}

func TestCallsAreSpreadOverAllAddressesOfANameWhereThatIsAskedFor(t *testing.T) {
	called := make(chan string, 1)
	answering := func(name string) *service {
		return &service{generate: func(context.Context) (*pb.GenerateResponse, error) {
			called <- name
			return &pb.GenerateResponse{}, nil
		}}
	}
	target := serve(t, answering("first"))
	_, port, err := net.SplitHostPort(target)
	if err != nil {
		t.Fatal(err)
	}
	serveAt(t, "127.0.0.2:"+port, answering("second"))
	lookUp(t, [4]byte{127, 0, 0, 1}, [4]byte{127, 0, 0, 2})
	client := connect(t, "service.test:"+port, idefics2.WithSpread(), idefics2.WithTimeout(20*time.Second))
	for seen := map[string]bool{}; len(seen) < 2; seen[<-called] = true {
		if _, err := client.Generate(ctx, question); err != nil {
			t.Fatal(err)
		}
	}
	if client.Target() != "service.test:"+port {
		t.Error(client.Target())
	}
}

func TestAHostMayBeCalledAsAResolverIs(t *testing.T) {
	server := &service{generate: func(context.Context) (*pb.GenerateResponse, error) {
		return &pb.GenerateResponse{}, nil
	}}
	_, port, err := net.SplitHostPort(serve(t, server))
	if err != nil {
		t.Fatal(err)
	}
	lookUp(t, [4]byte{127, 0, 0, 1})
	for _, host := range []string{"dns", "xds", "passthrough", "service.test"} {
		for _, options := range [][]idefics2.Option{nil, {idefics2.WithSpread()}} {
			target := host + ":" + port
			client := connect(t, target, append(options, idefics2.WithTimeout(20*time.Second))...)
			if _, err := client.Generate(ctx, question); err != nil || client.Target() != target {
				t.Error(client.Target(), err)
			}
			if named := server.lastMetadata.Get(":authority"); len(named) != 1 || named[0] != target {
				t.Error(target, named)
			}
		}
	}
}

func TestANameWithoutAddressesIsToldAsAServiceThatIsAway(t *testing.T) {
	lookUp(t)
	for _, options := range [][]idefics2.Option{nil, {idefics2.WithSpread()}} {
		_, err := connect(t, "service.test", options...).Generate(ctx, question)
		expect(t, err, idefics2.ErrUnavailable)
		if !strings.Contains(err.Error(), "no service answers at service.test:50051") {
			t.Error(err)
		}
	}
}

func TestTLSToAPortWithoutItIsToldAsSuchAndNotTriedAgain(t *testing.T) {
	target := serve(t, &service{})
	numLosses := 0
	retries := idefics2.WithRetries(idefics2.Retries{OnLost: func(*idefics2.Error) { numLosses++ }})
	client := connect(t, target, idefics2.WithTLS(&tls.Config{MinVersion: tls.VersionTLS12}), retries)
	_, err := client.CountTokens(ctx, question)
	if failed := expect(t, err, idefics2.ErrSettingInvalid); failed.Field != "tls" || numLosses != 0 {
		t.Error(failed, numLosses)
	}
	if errors.Is(err, idefics2.ErrUnavailable) {
		t.Error("it will not be there later")
	}
}

func TestACertificateIsTrustedWhereTheCallerVouchesForIt(t *testing.T) {
	server, authorities := serveByTLS(t, &service{generate: func(context.Context) (*pb.GenerateResponse, error) {
		return &pb.GenerateResponse{Output: "A"}, nil
	}})
	for name, given := range map[string]struct {
		config *tls.Config
		word   string
	}{
		"nobody":       {&tls.Config{MinVersion: tls.VersionTLS12}, "nobody vouches"},
		"another name": {&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: authorities, ServerName: "other"}, "another name"},
	} {
		_, err := connect(t, server, idefics2.WithTLS(given.config)).Generate(ctx, question)
		if expect(t, err, idefics2.ErrSettingInvalid); !strings.Contains(err.Error(), given.word) {
			t.Error(name, err)
		}
	}
	_, err := connect(t, server).Generate(ctx, question)
	if expect(t, err, idefics2.ErrUnavailable); !strings.Contains(err.Error(), "TLS") {
		t.Error(err)
	}
	trusting := idefics2.WithTLS(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: authorities})
	answer, err := connect(t, server, trusting).Generate(ctx, question)
	if err != nil || answer.GetOutput() != "A" {
		t.Error(answer, err)
	}
}

func TestADeadlineThatHasPassedCallsNobody(t *testing.T) {
	client := call(t, &service{})
	passed, end := context.WithTimeout(ctx, -time.Second)
	defer end()
	_, err := client.Generate(passed, question)
	expect(t, err, idefics2.ErrDeadlineExceeded, context.DeadlineExceeded)
	events := client.Watch(passed, "r-1", 0)
	if events.Next() {
		t.Error("it yielded something")
	}
	expect(t, events.Err(), context.DeadlineExceeded)
	_, err = client.Upload(passed, bytes.NewReader(make([]byte, 9)), idefics2.UploadOptions{})
	expect(t, err, context.DeadlineExceeded)
	_, err = call(t, &service{}, idefics2.WithTimeout(-time.Second)).Generate(ctx, question)
	expect(t, err, idefics2.ErrDeadlineExceeded, context.DeadlineExceeded)
}

func TestADeadlineIsSentAndTheServiceMaySayItFirst(t *testing.T) {
	hasDeadline := false
	client := call(t, &service{generate: func(ctx context.Context) (*pb.GenerateResponse, error) {
		_, hasDeadline = ctx.Deadline()
		return nil, refusal(codes.DeadlineExceeded, idefics2.ReasonRequestDeadlineExceeded, "", 0)
	}}, idefics2.WithTimeout(900*time.Millisecond))
	_, err := client.Generate(ctx, question)
	expect(t, err, idefics2.ErrDeadlineExceeded, context.DeadlineExceeded, idefics2.ReasonRequestDeadlineExceeded)
	if !hasDeadline {
		t.Error("the service was not told")
	}
}

func TestADeadlineThatIsNotTheContextsIsNoErrorOfTheContext(t *testing.T) {
	reason := idefics2.ReasonRequestDeadlineExceeded
	refused := refusal(codes.DeadlineExceeded, reason, "", 0)
	bounded := refusalWith([2]string{"bound", "600"}, codes.DeadlineExceeded, reason, "", 0)
	generate := func(client *idefics2.Client) error {
		_, err := client.Generate(ctx, question)
		return err
	}
	result := func(client *idefics2.Client) error {
		_, err := client.Result(ctx, "r-1")
		return err
	}
	for name, given := range map[string]struct {
		told    error
		timeout time.Duration
		ask     func(*idefics2.Client) error
	}{
		"far away":                {refused, time.Hour, generate},
		"far away, of a proxy":    {status.Error(codes.DeadlineExceeded, "why"), time.Hour, generate},
		"what any may take":       {bounded, 900 * time.Millisecond, generate},
		"a request's time budget": {refused, 900 * time.Millisecond, result},
	} {
		client := call(t, &service{
			generate:  func(context.Context) (*pb.GenerateResponse, error) { return nil, given.told },
			getResult: func() error { return given.told },
		}, idefics2.WithTimeout(given.timeout))
		err := given.ask(client)
		if expect(t, err, idefics2.ErrDeadlineExceeded); errors.Is(err, context.DeadlineExceeded) {
			t.Error(name, err)
		}
	}
}

func TestADeadlineIsNotOverAtOnceBecauseItIsFarAway(t *testing.T) {
	target := serve(t, &service{getRequest: func() error { return nil }})
	for _, timeout := range []time.Duration{30 * 24 * time.Hour, math.MaxInt64} {
		if _, err := connect(t, target, idefics2.WithTimeout(timeout)).GetRequest(ctx, "r-1"); err != nil {
			t.Error(timeout, err)
		}
	}
	for _, year := range []int{2100, 9999, 1_000_000} {
		bounded, end := context.WithDeadline(ctx, time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC))
		defer end()
		if _, err := connect(t, target).GetRequest(bounded, "r-1"); err != nil {
			t.Error(year, err)
		}
	}
}

func TestCancellingInTheMiddleOfAnAnswerCancelsTheCall(t *testing.T) {
	cancelled := make(chan struct{})
	client := call(t, &service{stream: func(events pb.GenerationService_GenerateStreamServer) error {
		defer close(cancelled)
		if err := events.Send(text(1, "A ")); err != nil {
			return err
		}
		<-events.Context().Done()
		return events.Context().Err()
	}})
	bounded, cancel := context.WithCancel(ctx)
	events := client.Stream(bounded, question)
	if !events.Next() || events.Value().GetTextDelta().GetText() != "A " {
		t.Fatal(events.Err())
	}
	cancel()
	if events.Next() {
		t.Error("it went on")
	}
	expect(t, events.Err(), idefics2.ErrCancelled, context.Canceled)
	<-cancelled
}

func TestLeavingALoopCancelsTheCallAndIsNoError(t *testing.T) {
	cancelled := make(chan struct{})
	client := call(t, &service{stream: func(events pb.GenerationService_GenerateStreamServer) error {
		defer close(cancelled)
		for events.Send(text(1, "A ")) == nil {
			continue
		}
		return nil
	}})
	events := client.Stream(ctx, question)
	events.All()(func(event *idefics2.Event, err error) bool { return false })
	<-cancelled
	if events.Err() != nil || events.Next() {
		t.Error(events.Err())
	}
}

func TestRangingOverAllEndsWithTheError(t *testing.T) {
	client := call(t, &service{stream: func(events pb.GenerationService_GenerateStreamServer) error {
		_ = events.Send(text(1, "A "))
		return refusal(codes.Internal, idefics2.ReasonInternalError, "", 0)
	}})
	texts, failures := 0, 0
	client.Stream(ctx, question).All()(func(event *idefics2.Event, err error) bool {
		if err != nil {
			expect(t, err, idefics2.ReasonInternalError)
			failures++
		} else {
			texts++
		}
		return true
	})
	if texts != 1 || failures != 1 {
		t.Error(texts, failures)
	}
}

func TestCancellingCancelsTheRequestThatIsWaitedFor(t *testing.T) {
	cancelled := make(chan string, 1)
	client := call(t, &service{
		submit: func(*pb.SubmitRequest) error { return nil },
		watch: func(_ *pb.WatchRequestRequest, events pb.RequestService_WatchRequestServer) error {
			_ = events.Send(text(1, "A "))
			<-events.Context().Done()
			return events.Context().Err()
		},
		cancel: func(id string) { cancelled <- id },
	})
	submission := idefics2.Submission{Question: question, RequestID: "mine"}
	bounded, cancel := context.WithCancel(ctx)
	_, err := client.SubmitAndWatch(bounded, submission, func(*idefics2.Event) error {
		cancel()
		return nil
	})
	expect(t, err, context.Canceled)
	if id := <-cancelled; id != "mine" {
		t.Error(id)
	}
	mine := errors.New("mine")
	if _, err = client.SubmitAndWatch(ctx, submission, func(*idefics2.Event) error { return mine }); err != mine {
		t.Error(err)
	}
	<-cancelled
}

func TestEventsAreToldAndTheAnswerReturned(t *testing.T) {
	client := call(t, &service{
		submit: func(*pb.SubmitRequest) error { return nil },
		watch: func(_ *pb.WatchRequestRequest, events pb.RequestService_WatchRequestServer) error {
			_ = events.Send(text(1, "A"))
			return events.Send(finished(2, "A"))
		},
	})
	var told []int64
	answer, err := client.SubmitAndWatch(ctx, idefics2.Submission{Question: question}, func(event *idefics2.Event) error {
		told = append(told, event.GetSequence())
		return nil
	})
	if err != nil || answer.GetOutput() != "A" || !reflect.DeepEqual(told, []int64{1, 2}) {
		t.Error(answer, err, told)
	}
	if answer, err = client.Wait(ctx, "r-1"); err != nil || answer.GetOutput() != "A" {
		t.Error(answer, err)
	}
}

func TestNothingIsAskedAgainBeforeTheTimeThatTheServiceAsksFor(t *testing.T) {
	numCalls := 0
	client := call(t, &service{getRequest: func() error {
		numCalls++
		return refusal(codes.Unavailable, idefics2.ReasonStoreUnavailable, "", time.Hour)
	}}, idefics2.WithRetries(idefics2.Retries{FirstPause: time.Nanosecond, MaxPause: time.Hour}))
	bounded, end := context.WithTimeout(ctx, 200*time.Millisecond)
	defer end()
	_, err := client.GetRequest(bounded, "r-1")
	expect(t, err, idefics2.ErrDeadlineExceeded)
	if numCalls != 1 {
		t.Error(numCalls)
	}
}

func TestWhatOnlyReadsIsAskedAgainThoughTheServiceWasReached(t *testing.T) {
	var losses []idefics2.Reason
	client := call(t, &service{getRequest: func() error {
		if len(losses) == 2 {
			return nil
		}
		return refusal(codes.Unavailable, idefics2.ReasonStoreUnavailable, "", time.Millisecond)
	}}, idefics2.WithRetries(idefics2.Retries{
		FirstPause: time.Nanosecond, OnLost: func(err *idefics2.Error) { losses = append(losses, err.Reason) },
	}))
	request, err := client.GetRequest(ctx, "r-1")
	if err != nil || request.GetRequestId() != "r-1" || len(losses) != 2 {
		t.Error(request, err, losses)
	}
}

func TestPausesMayBeOfAnyLength(t *testing.T) {
	for _, pause := range []time.Duration{math.MinInt64, -1, math.MaxInt64} {
		ctx, leave := context.WithCancel(ctx)
		client := call(t, &service{getRequest: func() error {
			return refusal(codes.Unavailable, idefics2.ReasonStoreUnavailable, "", 0)
		}}, idefics2.WithRetries(idefics2.Retries{FirstPause: pause, MaxPause: pause, OnLost: func(*idefics2.Error) {
			if pause > 0 {
				leave()
			}
		}}))
		_, err := client.GetRequest(ctx, "r-1")
		if pause > 0 {
			expect(t, err, idefics2.ErrCancelled)
		} else {
			expect(t, err, idefics2.ErrUnavailable)
		}
		leave()
	}
}

func TestEverySourceOfBytesCanBeSentAgainAfterALoss(t *testing.T) {
	large := bytes.Repeat([]byte("BM, and no two pieces alike"), 120_000)
	path := filepath.Join(t.TempDir(), "cat.bmp")
	if err := os.WriteFile(path, large, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for name, source := range map[string]io.Reader{
		"bytes": bytes.NewReader(large), "a file": file, "a stream": io.MultiReader(bytes.NewReader(large)),
	} {
		t.Run(name, func(t *testing.T) {
			var received []byte
			var start *pb.UploadStart
			isLost := false
			client := call(t, &service{upload: func(messages pb.FileService_UploadServer) error {
				received = nil
				for {
					message, err := messages.Recv()
					if err == io.EOF {
						return messages.SendAndClose(&pb.File{Id: "f"})
					} else if err != nil {
						return err
					}
					if message.GetStart() != nil {
						start = message.GetStart()
					}
					received = append(received, message.GetChunk()...)
					if len(received) > 0 && !isLost {
						isLost = true
						return status.Error(codes.Unavailable, "cut")
					}
				}
			}})
			var last idefics2.Transfer
			options := idefics2.UploadOptions{OnProgress: func(transfer idefics2.Transfer) { last = transfer }}
			uploaded, err := client.Upload(ctx, source, options)
			if err != nil || uploaded.GetId() != "f" || !bytes.Equal(received, large) {
				t.Error(uploaded, err, len(received))
			}
			if size := int64(len(large)); last != (idefics2.Transfer{NumBytes: size, SizeBytes: size}) {
				t.Error(last)
			}
			if isNamed := start.GetName() == "cat.bmp"; isNamed != (name == "a file") {
				t.Error(start.GetName())
			}
		})
	}
}

func TestOfASourceBehindItsEndNothingIsSent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cat.bmp")
	if err := os.WriteFile(path, []byte("BM"), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	client := call(t, &service{upload: func(messages pb.FileService_UploadServer) error {
		start, err := messages.Recv()
		if err != nil || start.GetStart().GetSizeBytes() != 0 {
			t.Error(start, err)
		}
		if chunk, err := messages.Recv(); err != io.EOF {
			t.Error(chunk, err)
		}
		return refusal(codes.InvalidArgument, idefics2.ReasonFileEmpty, "", 0)
	}})
	for _, source := range []io.ReadSeeker{file, bytes.NewReader([]byte("BM"))} {
		if _, err := source.Seek(9, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		_, err := client.Upload(ctx, source, idefics2.UploadOptions{})
		expect(t, err, idefics2.ErrInvalidRequest, idefics2.ReasonFileEmpty)
	}
}

func TestAServiceThatSaysItHasMoreThanThereIsIsSentNothing(t *testing.T) {
	client := call(t, &service{numKeptBytes: 4 << 20, upload: func(messages pb.FileService_UploadServer) error {
		for {
			message, err := messages.Recv()
			if err == io.EOF {
				return refusal(codes.DataLoss, idefics2.ReasonFileMismatch, "", 0)
			} else if err != nil || len(message.GetChunk()) > 0 {
				t.Error(message, err)
			}
		}
	}})
	_, err := client.Upload(ctx, bytes.NewReader(make([]byte, 3<<20)), idefics2.UploadOptions{})
	expect(t, err, idefics2.ReasonFileMismatch)
}

func TestDownloadsToOnePathAtATimeDisturbNeitherEachOtherNorOtherFiles(t *testing.T) {
	client := call(t, &service{content: "BM, all of it"})
	folder := t.TempDir()
	path := filepath.Join(folder, "cat.bmp")
	if err := os.WriteFile(path+".part", []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	download := func(onProgress func(idefics2.Transfer)) {
		if _, err := client.Download(ctx, "f", path, onProgress); err != nil {
			t.Error(err)
		}
	}
	download(func(idefics2.Transfer) { download(nil) })
	for name, expected := range map[string]string{"cat.bmp": "BM, all of it", "cat.bmp.part": "mine"} {
		if content, err := os.ReadFile(filepath.Join(folder, name)); string(content) != expected {
			t.Errorf("%s: %q, %v", name, content, err)
		}
	}
	if files, err := os.ReadDir(folder); len(files) != 2 {
		t.Error(files, err)
	}
}

func TestADownloadThatFailsLeavesNoFile(t *testing.T) {
	folder := t.TempDir()
	_, err := connect(t, "127.0.0.1:1").Download(ctx, "f", filepath.Join(folder, "cat.bmp"), nil)
	expect(t, err, idefics2.ErrUnavailable)
	if files, err := os.ReadDir(folder); len(files) != 0 {
		t.Error(files, err)
	}
}

func TestAFileThatIsNotThereIsToldByItsNameWithTheSystemsError(t *testing.T) {
	client := connect(t, "127.0.0.1:1")
	_, uploaded := client.UploadFile(ctx, "nowhere.png", idefics2.UploadOptions{})
	_, asked := client.Generate(ctx, idefics2.Question{Images: []idefics2.Image{idefics2.ImageFile("nowhere.png")}})
	for _, err := range []error{uploaded, asked} {
		expect(t, err, idefics2.ErrFileUnreadable, idefics2.ErrInvalidRequest, fs.ErrNotExist)
		if !strings.Contains(err.Error(), "nowhere.png") {
			t.Error(err)
		}
	}
}

func TestAFileThatIsTooLargeIsRefusedBeforeItIsRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "large.bmp")
	if err := os.WriteFile(path, []byte("BM"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 1<<40); err != nil { // of which the disk holds nothing
		t.Fatal(err)
	}
	_, err := connect(t, "127.0.0.1:1").Generate(ctx, idefics2.Question{Images: []idefics2.Image{idefics2.ImageFile(path)}})
	expect(t, err, idefics2.ErrInvalidRequest, idefics2.ReasonFileTooLarge)
}

func TestImagesThatAreTooLargeTogetherAreRefusedAsSuchAndWhatFitsIsSent(t *testing.T) {
	client := call(t, &service{generate: func(context.Context) (*pb.GenerateResponse, error) {
		return &pb.GenerateResponse{Output: "A"}, nil
	}})
	image, more := idefics2.ImageData(make([]byte, 14_640_000)), idefics2.ImageData(make([]byte, 20_000))
	uri := idefics2.ImageURL("data:image/bmp;base64," + strings.Repeat("A", 14_640_000))
	answer, err := client.Generate(ctx, idefics2.Question{Images: []idefics2.Image{image, image}, Prompt: "What?"})
	if err != nil || answer.GetOutput() != "A" {
		t.Error(answer, err)
	}
	for _, images := range [][]idefics2.Image{{image, image, more}, {uri, image, more}} {
		_, err := client.Submit(ctx, idefics2.Submission{Question: idefics2.Question{Images: images, Prompt: "What?"}})
		failed := expect(t, err, idefics2.ErrInvalidRequest, idefics2.ReasonPayloadTooLarge)
		if failed.Field != "images" || !strings.Contains(err.Error(), "upload") {
			t.Error(failed.Field, err)
		}
	}
}

func TestWhatTheWireCannotHoldNamesItsField(t *testing.T) {
	client := connect(t, "127.0.0.1:1")
	for _, wrong := range []struct {
		question idefics2.Question
		field    string
		reason   idefics2.Reason
	}{
		{idefics2.Question{TopK: idefics2.Ptr(math.MaxInt32 + 1)}, "top_k", idefics2.ReasonValueOutOfRange},
		{idefics2.Question{Prompt: "\xff"}, "prompt", idefics2.ReasonTextNotUnicode},
		{idefics2.Question{Stop: []string{"a", "\xff"}}, "stop", idefics2.ReasonTextNotUnicode},
		{idefics2.Question{Images: make([]idefics2.Image, 1)}, "images[0]", idefics2.ReasonImageMissing},
		{idefics2.Question{Images: []idefics2.Image{idefics2.ImageURL("\xff")}}, "image_url", idefics2.ReasonTextNotUnicode},
		{
			idefics2.Question{Images: []idefics2.Image{idefics2.ImageSHA256("\xff")}},
			"images.sha256", idefics2.ReasonTextNotUnicode,
		},
	} {
		_, err := client.Submit(ctx, idefics2.Submission{Question: wrong.question})
		if failed := expect(t, err, idefics2.ErrInvalidRequest, wrong.reason); failed.Field != wrong.field {
			t.Error(failed.Field)
		}
	}
}

func TestANumberThatTheWireCannotHoldIsToldWithItsBoundAsTheServiceTellsIt(t *testing.T) {
	client := connect(t, "127.0.0.1:1")
	submission := idefics2.Submission{Question: question, MaxQueueLength: idefics2.Ptr(math.MinInt32 - 1)}
	_, err := client.Submit(ctx, submission)
	failed := expect(t, err, idefics2.ErrInvalidRequest, idefics2.ReasonValueOutOfRange)
	bound, value := "-2147483648 to 2147483647", "-2147483649"
	if failed.Message != "max_queue_length must be "+bound+", not "+value {
		t.Error(failed.Message)
	}
	for name, told := range map[string]string{"field": "max_queue_length", "bound": bound, "value": value} {
		if failed.Metadata[name] != told {
			t.Error(name, failed.Metadata)
		}
	}
}

func TestAPortThatSpeaksHTTPIsHintedAt(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	_, err := connect(t, server.Listener.Addr().String()).Generate(ctx, question)
	if !strings.Contains(err.Error(), "look whether the port is gRPC's") {
		t.Error(err)
	}
}

func TestWhatCannotBeSentIsNoLossThatIsTriedAgain(t *testing.T) {
	client := call(t, &service{}, idefics2.WithTimeout(5*time.Second), idefics2.WithRetries(idefics2.Retries{
		FirstPause: time.Nanosecond, OnLost: func(err *idefics2.Error) { t.Error(err) },
	}))
	wait := func(ctx context.Context, id string) error {
		_, err := client.Wait(ctx, id)
		return err
	}
	with := func(name, value string) context.Context {
		return metadata.NewOutgoingContext(ctx, metadata.MD{name: {value}})
	}
	submission := idefics2.Submission{RequestID: "\xff"}
	submission.Images = []idefics2.Image{idefics2.ImageURL("https://a"), idefics2.ImageURL("https://b")}
	_, submitted := client.SubmitAndWatch(ctx, submission, nil)
	source := bytes.NewReader(make([]byte, 3<<20))
	_, uploaded := client.Upload(ctx, source, idefics2.UploadOptions{Name: "\xff"})
	events := client.Watch(ctx, "\xff", 0)
	events.Next()
	for _, told := range []struct {
		err   error
		field string
	}{
		{wait(ctx, "\xff"), "request_id"},
		{events.Err(), "request_id"},
		{submitted, "request_id"},
		{uploaded, "start.name"},
		{wait(with("traceparent", "a\n"), "r-1"), "metadata"},
		{wait(with("a name", "a"), "r-1"), "metadata"},
	} {
		if failed := expect(t, told.err, idefics2.ErrInvalidRequest); failed.Field != told.field {
			t.Error(failed, failed.Field)
		}
	}
}

func TestMetadataIsSentInLowerCaseAndOfBytesWhereItsNameSaysSo(t *testing.T) {
	service := &service{}
	given := metadata.NewOutgoingContext(ctx, metadata.MD{"Tenant": {"a"}, "bytes-bin": {"\xff"}})
	_, _ = call(t, service).Generate(given, question)
	if sent := append(service.lastMetadata.Get("tenant"), service.lastMetadata.Get("bytes-bin")...); len(sent) != 2 {
		t.Error(service.lastMetadata)
	}
}

func TestTargetsAreReadAsPeopleWriteThem(t *testing.T) {
	for given, target := range map[string]string{
		"": "127.0.0.1:50051", "host": "host:50051", "host:1": "host:1", "grpcs://host": "host:50051",
		"https://host": "host:443", " host:65535\n": "host:65535", "HTTP://[::1]:2/": "[::1]:2",
	} {
		if client := connect(t, given); client.Target() != target {
			t.Errorf("%s is %s", given, client.Target())
		}
	}
}

func TestOtherTargetsAndKeysAreRefusedWithoutBeingShown(t *testing.T) {
	for _, given := range []string{"https://name:secret@host", "https://host/secret", "a secret", "host:0", "https://host:65536"} {
		_, err := idefics2.New(given)
		if failed := expect(t, err, idefics2.ErrSettingInvalid); failed.Field != "target" {
			t.Error(failed.Field)
		}
		if strings.Contains(err.Error(), "secret") {
			t.Error(err)
		}
	}
	_, err := idefics2.New("grpc://host", idefics2.WithTLS(&tls.Config{MinVersion: tls.VersionTLS12}))
	expect(t, err, idefics2.ErrSettingInvalid)
	_, err = idefics2.New("host", idefics2.WithKey("sécret"))
	expect(t, err, idefics2.ErrAuthentication)
	if strings.Contains(err.Error(), "sécret") {
		t.Error(err)
	}
}

func TestAClientThatWasClosedCallsNobody(t *testing.T) {
	client := call(t, &service{})
	client.Close()
	_, err := client.Generate(ctx, question)
	expect(t, err, idefics2.ErrCancelled)
}
