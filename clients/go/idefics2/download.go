package idefics2

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	pb "github.com/idefics2-serving/idefics2-serving/clients/go/idefics2v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// download is what has come of one file, and so what to ask for next.
type download struct {
	client     *Client
	op         *operation
	name       string
	path       string
	onProgress func(Transfer)
	out        *os.File
	digest     hash.Hash
	offset     int64
	file       *File // nil: the service has said nothing yet
}

func newDownload(client *Client, op *operation, name string, onProgress func(Transfer)) *download {
	if onProgress == nil {
		onProgress = func(Transfer) {}
	}
	return &download{client: client, op: op, name: name, onProgress: onProgress, digest: sha256.New()}
}

// to writes the file to path, where it appears when it is complete.
func (d *download) to(path string) (*File, error) {
	d.path = path
	out, err := createPart(path)
	if err != nil {
		return nil, refusePath(path, err)
	}
	d.out = out
	err = d.run()
	if closed := out.Close(); err == nil && closed != nil {
		err = refusePath(path, closed)
	}
	if err == nil {
		if err = os.Rename(out.Name(), path); err == nil {
			return d.file, nil
		}
		err = refusePath(path, err)
	}
	_ = os.Remove(out.Name())
	return nil, err
}

// createPart creates a file beside path that nobody else has, for what comes before all is there. os.CreateTemp would make
// it readable by its owner alone.
func createPart(path string) (*os.File, error) {
	part := filepath.Join(filepath.Dir(path), "idefics2-"+makeName()+".part")
	return os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
}

// run reads all; it goes on after lost connections.
func (d *download) run() error {
	for {
		err := d.read()
		if err == io.EOF {
			return d.check()
		}
		var failed *Error
		isReached := d.file != nil || (errors.As(err, &failed) && failed.RequestID != "")
		if !isReached {
			return err // a service that was never there is not waited for
		}
		if err := d.op.pauseAfter(err); err != nil {
			return err
		}
	}
}

// read writes what is new on one connection; io.EOF after the last byte.
func (d *download) read() error {
	question := d.question()
	start := func(ctx context.Context, options ...grpc.CallOption) (receiver[*pb.DownloadFileResponse], error) {
		return d.client.files.DownloadFile(ctx, question, options...)
	}
	parts := follow(d.op, question, start)
	for {
		part, err := parts.next()
		if err != nil {
			return err
		}
		if file := part.GetFile(); file != nil {
			d.file = file
		} else if err := d.write(part.GetChunk()); err != nil {
			return err
		}
		d.op.restore()
	}
}

func (d *download) question() *pb.DownloadFileRequest {
	question := &pb.DownloadFileRequest{Offset: d.offset}
	if id, digest := readFileName(d.name); digest != "" {
		question.File = &pb.DownloadFileRequest_Sha256{Sha256: digest}
	} else {
		question.File = &pb.DownloadFileRequest_Id{Id: id}
	}
	return question
}

func (d *download) write(chunk []byte) error {
	if _, err := d.out.Write(chunk); err != nil {
		return refusePath(d.path, err)
	}
	d.digest.Write(chunk)
	d.offset += int64(len(chunk))
	d.onProgress(Transfer{NumBytes: d.offset, SizeBytes: d.file.GetSizeBytes()})
	return nil
}

func (d *download) check() error {
	if d.file == nil || hex.EncodeToString(d.digest.Sum(nil)) != d.file.GetSha256() {
		return &Error{
			Code: codes.DataLoss, Message: "what came is not the whole file as it was uploaded: download it again",
		}
	}
	return nil
}

func refusePath(path string, err error) error {
	return fmt.Errorf("cannot write %s: %w", path, err)
}
