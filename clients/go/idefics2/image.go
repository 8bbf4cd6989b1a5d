package idefics2

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	pb "github.com/idefics2-serving/idefics2-serving/clients/go/idefics2v1"
	"google.golang.org/grpc/codes"
)

const (
	// maxImageBytes is the contract's bound, checked here too: a message that is too large to send gets no good error.
	maxImageBytes = 20_000_000
	// maxInlineBytes is what images may have together: a message less what all else may have.
	maxInlineBytes = maxMessageBytes - 1<<16
)

// Image is one that is asked about; the functions named Image… make it. Files are read when the question is asked.
type Image struct {
	write func() (*pb.Image, error)
}

// ImageFile is the image at a path of this machine.
func ImageFile(path string) Image {
	return Image{func() (*pb.Image, error) {
		data, err := readFile(path)
		if err != nil {
			return nil, refuseFile(path, err)
		}
		return writeData(data, "image "+path)
	}}
}

// ImageData is the image of these bytes, which are those of a file.
func ImageData(data []byte) Image {
	return Image{func() (*pb.Image, error) { return writeData(data, "the image") }}
}

// ImageURL is the image at an http(s) URL, or in a data URI; the service reads it.
func ImageURL(url string) Image {
	return Image{func() (*pb.Image, error) { return &pb.Image{Source: &pb.Image_Url{Url: url}}, nil }}
}

// ImageSHA256 is the uploaded image whose bytes have this digest, 64 hexadecimal digits.
func ImageSHA256(digest string) Image {
	return Image{func() (*pb.Image, error) { return &pb.Image{Source: &pb.Image_Sha256{Sha256: digest}}, nil }}
}

// UploadedImage is the image that Upload has returned.
func UploadedImage(file *File) Image {
	return ImageURL(file.GetUrl())
}

// writeImages writes images into image_url, which holds the first one if that is a URL, and images.
func writeImages(images []Image, request *pb.GenerateRequest) error {
	numBytes := 0
	for i, image := range images {
		if image.write == nil {
			return refuse(ReasonImageMissing, fmt.Sprintf("images[%d]", i), "an Image must be made by a function Image…")
		}
		written, err := image.write()
		if err != nil {
			return err
		}
		numBytes += len(written.GetData()) + len(written.GetUrl()) + len(written.GetSha256())
		if url, ok := written.Source.(*pb.Image_Url); ok && i == 0 {
			request.ImageUrl = url.Url
		} else {
			request.Images = append(request.Images, written)
		}
	}
	if numBytes > maxInlineBytes {
		return refuse(ReasonPayloadTooLarge, "images", fmt.Sprintf("images must have at most %d bytes together, not %d: "+
			"upload them, and ask about what Upload returns", maxInlineBytes, numBytes))
	}
	return nil
}

// readFile reads no more than one byte beyond what is allowed, which is enough to refuse it.
func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, maxImageBytes+1))
}

func writeData(data []byte, name string) (*pb.Image, error) {
	if len(data) > maxImageBytes {
		return nil, refuse(ReasonFileTooLarge, "", fmt.Sprintf("%s must have at most %d bytes", name, maxImageBytes))
	}
	return &pb.Image{Source: &pb.Image_Data{Data: data}}, nil
}

// refuseFile says by one error that a file cannot be read or written.
func refuseFile(path string, err error) *Error {
	why := err.Error()
	if errors.Is(err, fs.ErrNotExist) {
		why = "there is no such file"
	}
	message := fmt.Sprintf("cannot read %s: %s", path, why)
	return &Error{Code: codes.InvalidArgument, Message: message, kind: ErrFileUnreadable, cause: err}
}
