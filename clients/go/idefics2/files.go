package idefics2

import (
	"context"
	"io"
	"strings"

	pb "github.com/idefics2-serving/idefics2-serving/clients/go/idefics2v1"
)

const (
	urlPrefix    = "idefics2://files/"
	sha256Prefix = "sha256:"
)

// Transfer tells how far an upload or a download is.
type Transfer struct {
	// NumBytes are over, those that were there before included.
	NumBytes int64
	// SizeBytes are all that there are.
	SizeBytes int64
}

// UploadOptions may be said of an upload.
type UploadOptions struct {
	// Name is what to call the file in lists. Default: as the file on this machine is called, else nothing.
	Name string
	// OnProgress, if it is not nil, is told how far it is.
	OnProgress func(Transfer)
}

// Upload uploads a picture and returns what the service knows of it; a Question takes that as UploadedImage. It reads
// and sends a MiB at a time. It goes on after a lost connection, and where an earlier upload of the same bytes stopped,
// even one of another process; what the service has is not sent again. A source that is no io.ReaderAt and io.Seeker, as
// an *os.File or a *bytes.Reader is, is kept on disk meanwhile.
func (c *Client) Upload(ctx context.Context, source io.Reader, options UploadOptions) (*File, error) {
	op := c.begin(ctx)
	defer op.end()
	content, err := readContent(op, source, options.Name)
	if err != nil {
		return nil, err
	}
	defer content.close()
	return newUpload(c, op, content, options.OnProgress).run()
}

// UploadFile uploads the picture at a path, as Upload does.
func (c *Client) UploadFile(ctx context.Context, path string, options UploadOptions) (*File, error) {
	file, err := openFile(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return c.Upload(ctx, file, options)
}

// Download writes a file's bytes to path, where it appears when it is complete, and returns what it is. The file is named
// by its id, by its URL, or by `sha256:` and its digest. It goes on after lost connections. onProgress may be nil.
func (c *Client) Download(
	ctx context.Context, file, path string, onProgress func(Transfer),
) (*File, error) {
	op := c.begin(ctx)
	defer op.end()
	return newDownload(c, op, file, onProgress).to(path)
}

// GetFile returns what the service knows of a file, named as for Download.
func (c *Client) GetFile(ctx context.Context, file string) (*File, error) {
	op := c.begin(ctx)
	defer op.end()
	question := &pb.GetFileRequest{}
	if id, digest := readFileName(file); digest != "" {
		question.File = &pb.GetFileRequest_Sha256{Sha256: digest}
	} else {
		question.File = &pb.GetFileRequest_Id{Id: id}
	}
	return askRepeatedly(op, c.files.GetFile, question)
}

// DeleteFile lets the service forget a file, named as for Download, and returns what it was.
func (c *Client) DeleteFile(ctx context.Context, file string) (*File, error) {
	op := c.begin(ctx)
	defer op.end()
	question := &pb.DeleteFileRequest{}
	if id, digest := readFileName(file); digest != "" {
		question.File = &pb.DeleteFileRequest_Sha256{Sha256: digest}
	} else {
		question.File = &pb.DeleteFileRequest_Id{Id: id}
	}
	return ask(op, c.files.DeleteFile, question)
}

// readFileName reads which file is meant: one of id and digest is empty.
func readFileName(name string) (id, digest string) {
	if strings.HasPrefix(name, sha256Prefix) {
		return "", strings.TrimPrefix(name, sha256Prefix)
	}
	return strings.TrimPrefix(name, urlPrefix), ""
}
