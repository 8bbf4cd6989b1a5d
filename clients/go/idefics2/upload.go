package idefics2

import (
	"errors"
	"io"

	pb "github.com/idefics2-serving/idefics2-serving/clients/go/idefics2v1"
	"google.golang.org/grpc/codes"
)

const (
	// smallBytes: the service keeps no less of an upload that breaks, so there is nothing to ask before a smaller one.
	smallBytes   = 2 << 20
	maxSurprises = 5
)

// upload is what is known of one, and so what to send next. It is named by its content: whoever uploads the same bytes
// again, in this process or another, goes on where the last one stopped.
type upload struct {
	client       *Client
	op           *operation
	content      *content
	onProgress   func(Transfer)
	offset       int64
	isKnown      bool
	isReached    bool
	numSurprises int
}

func newUpload(client *Client, op *operation, content *content, onProgress func(Transfer)) *upload {
	if onProgress == nil {
		onProgress = func(Transfer) {}
	}
	return &upload{client: client, op: op, content: content, onProgress: onProgress}
}

// run uploads; it goes on after lost connections.
func (u *upload) run() (*File, error) {
	for {
		file, err := u.try()
		if err == nil {
			return file, nil
		}
		if err := u.pauseAfter(err); err != nil {
			return nil, err
		}
	}
}

func (u *upload) try() (*File, error) {
	if u.content.size > smallBytes {
		if err := u.look(); err != nil {
			return nil, err
		}
	}
	return u.send()
}

func (u *upload) id() string {
	return "sha256-" + u.content.sha256
}

// look sees what the service has.
func (u *upload) look() error {
	question := &pb.GetFileRequest{File: &pb.GetFileRequest_Sha256{Sha256: u.content.sha256}}
	file, err := find(ask(u.op, u.client.files.GetFile, question))
	if err != nil {
		return err
	}
	u.isKnown, u.isReached = file != nil, true
	if u.isKnown {
		return nil
	}
	progress, err := find(ask(u.op, u.client.files.GetUpload, &pb.GetUploadRequest{UploadId: u.id()}))
	if err != nil {
		return err
	}
	if progress.GetNumKeptBytes() > u.offset {
		u.op.restore()
	}
	u.offset = progress.GetNumKeptBytes()
	return nil
}

// send sends what is missing, over one connection.
func (u *upload) send() (*File, error) {
	start := u.start()
	ctx, err := u.op.outgoing(start)
	if err != nil {
		return nil, err
	}
	messages, err := u.client.files.Upload(ctx, u.op.callOptions()...)
	if err != nil {
		return nil, u.op.readError(err, nil, nil)
	}
	if err := u.sendMessages(start, messages); err != nil {
		return nil, err
	}
	file, err := messages.CloseAndRecv()
	if err != nil {
		header, _ := messages.Header() // there is none where the service was not reached
		return nil, u.op.readError(err, header, messages.Trailer())
	}
	return file, nil
}

func (u *upload) start() *pb.UploadRequest {
	start := &pb.UploadStart{
		UploadId: u.id(), Offset: u.offset, Name: u.content.name, SizeBytes: u.content.size, Sha256: u.content.sha256,
	}
	return &pb.UploadRequest{Content: &pb.UploadRequest_Start{Start: start}}
}

// sendMessages sends until there is no more, or the service has said something. It fails by what is wrong here.
func (u *upload) sendMessages(start *pb.UploadRequest, messages pb.FileService_UploadClient) error {
	err := messages.Send(start)
	numBytes := u.offset
	if u.isKnown {
		numBytes = u.content.size
	}
	for err == nil {
		u.onProgress(Transfer{NumBytes: numBytes, SizeBytes: u.content.size})
		chunk, failed := u.content.piece(numBytes)
		if failed != nil || len(chunk) == 0 {
			return failed
		}
		err = messages.Send(&pb.UploadRequest{Content: &pb.UploadRequest_Chunk{Chunk: chunk}})
		numBytes += int64(len(chunk))
	}
	if err == io.EOF {
		return nil // the service says why when it is asked for its answer
	}
	return u.op.readError(err, nil, nil)
}

// pauseAfter waits before the next try; it returns err itself where trying again is no use.
func (u *upload) pauseAfter(err error) error {
	var failed *Error
	isAnswer := errors.As(err, &failed)
	u.isReached = u.isReached || (isAnswer && failed.RequestID != "")
	if !u.isReached {
		return err // a service that was never there is not waited for
	}
	if isAnswer && u.isSurprise(failed) && u.numSurprises < maxSurprises {
		u.numSurprises++
		err = &Error{Code: codes.Unavailable, Message: failed.Message, RequestID: failed.RequestID, cause: err}
	}
	return u.op.pauseAfter(err)
}

// isSurprise tells whether the service has no longer what it had when it was asked: somebody uploads the same.
func (u *upload) isSurprise(err *Error) bool {
	hasMoved := err.Reason == ReasonUploadNotFound || err.Field == "start.offset"
	return hasMoved || (u.isKnown && err.Reason == ReasonFileMismatch)
}

// find returns nothing in the place of ErrNotFound.
func find[T any](answer *T, err error) (*T, error) {
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	return answer, err
}
