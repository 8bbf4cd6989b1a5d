package idefics2

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// pieceBytes is the largest chunk that the service takes.
	pieceBytes   = 1 << 20
	maxNameBytes = 255
)

// content is a file to upload, measured. It is read in pieces, so that it is never held whole.
type content struct {
	name   string
	path   string // for messages
	sha256 string
	size   int64
	bytes  io.ReaderAt
	close  func()
}

// readContent reads source once for its digest, which takes a while.
func readContent(op *operation, source io.Reader, name string) (*content, error) {
	content := &content{name: name, path: "the file", close: func() {}}
	if file, ok := source.(*os.File); ok {
		content.path = file.Name()
	}
	err := content.open(op.ctx, source)
	if err == nil {
		err = content.measure(op.ctx)
	}
	if err != nil {
		content.close()
		if op.ctx.Err() != nil {
			return nil, endOf(op.ctx, "")
		}
		return nil, refuseFile(content.path, err)
	}
	return content, nil
}

// open finds out where the source can be read more than once: what is left of it, if it was begun.
func (c *content) open(ctx context.Context, source io.Reader) error {
	if seeker, ok := source.(interface {
		io.ReaderAt
		io.Seeker
	}); ok {
		if start, err := seeker.Seek(0, io.SeekCurrent); err == nil {
			return c.section(seeker, seeker, start)
		}
	}
	return c.spool(ctx, source)
}

func (c *content) section(bytes io.ReaderAt, seeker io.Seeker, start int64) error {
	end, err := seeker.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if file, ok := bytes.(*os.File); ok && c.name == "" {
		c.name = cleanName(filepath.Base(file.Name()))
	}
	if start > end {
		start = end // nothing is left
	}
	c.bytes, c.size = io.NewSectionReader(bytes, start, end-start), end-start
	_, err = seeker.Seek(start, io.SeekStart)
	return err
}

// spool copies what can be read only once to where it can be read again; on disk, for it may be large.
func (c *content) spool(ctx context.Context, source io.Reader) error {
	file, err := os.CreateTemp("", "idefics2-")
	if err != nil {
		return err
	}
	_ = os.Remove(file.Name()) // stays readable without its name, where the system allows that
	c.close = func() {
		file.Close()
		_ = os.Remove(file.Name())
	}
	c.bytes = file
	c.size, err = io.Copy(file, bounded{ctx, source})
	return err
}

func (c *content) measure(ctx context.Context) error {
	digest := sha256.New()
	if _, err := io.Copy(digest, bounded{ctx, io.NewSectionReader(c.bytes, 0, c.size)}); err != nil {
		return err
	}
	c.sha256 = hex.EncodeToString(digest.Sum(nil))
	return nil
}

// piece reads the next bytes from offset on; none at the end, or behind it.
func (c *content) piece(offset int64) ([]byte, error) {
	length := c.size - offset
	if length > pieceBytes {
		length = pieceBytes
	}
	if length <= 0 {
		return nil, nil
	}
	piece := make([]byte, length)
	if _, err := io.ReadFull(io.NewSectionReader(c.bytes, offset, length), piece); err != nil {
		return nil, refuseFile(c.path, err)
	}
	return piece, nil
}

// bounded is a reader that fails when its context has ended.
type bounded struct {
	ctx    context.Context
	source io.Reader
}

func (b bounded) Read(bytes []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	return b.source.Read(bytes)
}

func openFile(path string) (*os.File, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, refuseFile(path, err)
	}
	return file, nil
}

// cleanName makes a name of a file one that the service takes.
func cleanName(name string) string {
	name = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || unicode.In(r, unicode.C, unicode.Zl, unicode.Zp) {
			return -1
		}
		return r
	}, name)
	for len(name) > maxNameBytes {
		_, size := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-size]
	}
	return name
}
