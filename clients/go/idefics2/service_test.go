package idefics2_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/idefics2-serving/idefics2-serving/clients/go/idefics2"
	pb "github.com/idefics2-serving/idefics2-serving/clients/go/idefics2v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

// service answers as a test says; what a test does not set answers UNIMPLEMENTED.
type service struct {
	pb.UnimplementedGenerationServiceServer
	pb.UnimplementedRequestServiceServer
	pb.UnimplementedFileServiceServer

	generate     func(context.Context) (*pb.GenerateResponse, error)
	stream       func(pb.GenerationService_GenerateStreamServer) error
	submit       func(*pb.SubmitRequest) error
	watch        func(*pb.WatchRequestRequest, pb.RequestService_WatchRequestServer) error
	getRequest   func() error
	getResult    func() error
	cancel       func(id string)
	upload       func(pb.FileService_UploadServer) error
	numKeptBytes int64  // of an upload that broke; 0: there was none
	content      string // of the one file that there is
	lastMetadata metadata.MD
}

// serve lets a service listen, and returns its address.
func serve(t *testing.T, s *service) string {
	t.Helper()
	return serveAt(t, "127.0.0.1:0", s)
}

func serveAt(t *testing.T, address string, s *service) string {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := register(s)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}

// lookUp lets each name of this process have these addresses, or none, until the test ends: by a name server of its own.
func lookUp(t *testing.T, addresses ...[4]byte) {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		query := make([]byte, 1024)
		for {
			numBytes, caller, err := server.ReadFrom(query)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(resolve(query[:numBytes], addresses), caller)
		}
	}()
	prefersGo, dial := net.DefaultResolver.PreferGo, net.DefaultResolver.Dial
	net.DefaultResolver.PreferGo = true
	net.DefaultResolver.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", server.LocalAddr().String())
	}
	t.Cleanup(func() {
		net.DefaultResolver.PreferGo, net.DefaultResolver.Dial = prefersGo, dial
		server.Close()
	})
}

// resolve answers a question of DNS for IPv4, and says of all else that there is none.
func resolve(query []byte, addresses [][4]byte) []byte {
	end := 12 + bytes.IndexByte(query[12:], 0) + 5 // behind the name, the type and the class
	if query[end-3] != 1 {
		addresses = nil
	}
	answer := append([]byte{query[0], query[1], 0x81, 0x80, 0, 1, 0, byte(len(addresses)), 0, 0, 0, 0}, query[12:end]...)
	for _, address := range addresses {
		answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4)
		answer = append(answer, address[:]...)
	}
	return answer
}

// serveByTLS lets a service listen, and returns its address and who vouches for it.
func serveByTLS(t *testing.T, s *service) (string, *x509.CertPool) {
	t.Helper()
	server := httptest.NewUnstartedServer(register(s))
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // it tells of each handshake that fails
	server.StartTLS()
	t.Cleanup(server.Close)
	authorities := x509.NewCertPool()
	authorities.AddCert(server.Certificate())
	return server.Listener.Addr().String(), authorities
}

func register(s *service) *grpc.Server {
	server := grpc.NewServer(grpc.MaxRecvMsgSize(28 << 20))
	pb.RegisterGenerationServiceServer(server, s)
	pb.RegisterRequestServiceServer(server, s)
	pb.RegisterFileServiceServer(server, s)
	return server
}

// call returns a client of a service.
func call(t *testing.T, s *service, options ...idefics2.Option) *idefics2.Client {
	t.Helper()
	return connect(t, serve(t, s), options...)
}

// connect returns a client that tries again at once.
func connect(t *testing.T, target string, options ...idefics2.Option) *idefics2.Client {
	t.Helper()
	usual := []idefics2.Option{
		idefics2.WithKey("local.key"), idefics2.WithRetries(idefics2.Retries{FirstPause: time.Nanosecond}),
	}
	client, err := idefics2.New(target, append(usual, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// refusal is an error as the service writes it: field by field, as its client reads it.
func refusal(code codes.Code, reason idefics2.Reason, field string, retryAfter time.Duration) error {
	return refusalWith([2]string{"a", "b"}, code, reason, field, retryAfter)
}

// refusalWith is a refusal with this name and value of metadata.
func refusalWith(
	told [2]string, code codes.Code, reason idefics2.Reason, field string, retryAfter time.Duration,
) error {
	refused := status.New(code, "why").Proto()
	add := func(name string, fields ...[]byte) {
		detail := &anypb.Any{TypeUrl: "type.googleapis.com/google.rpc." + name, Value: bytes.Join(fields, nil)}
		refused.Details = append(refused.Details, detail)
	}
	metadata := bytes.Join([][]byte{write(1, told[0]), write(2, told[1])}, nil)
	add("ErrorInfo", write(1, string(reason)), write(2, "idefics2"), write(3, string(metadata)))
	if field != "" {
		add("BadRequest", write(1, string(write(1, field))))
	}
	if retryAfter != 0 {
		delay, err := proto.Marshal(durationpb.New(retryAfter))
		if err != nil {
			panic(err)
		}
		add("RetryInfo", write(1, string(delay)))
	}
	return status.ErrorProto(refused)
}

// write writes a field that holds a text, or a message.
func write(number protowire.Number, value string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), value)
}

func (s *service) Generate(ctx context.Context, _ *pb.GenerateRequest) (*pb.GenerateResponse, error) {
	s.lastMetadata, _ = metadata.FromIncomingContext(ctx)
	if s.generate == nil {
		return s.UnimplementedGenerationServiceServer.Generate(ctx, nil)
	}
	if err := grpc.SetHeader(ctx, metadata.Pairs("x-request-id", "r-1")); err != nil {
		return nil, err
	}
	return s.generate(ctx)
}

func (s *service) GenerateStream(_ *pb.GenerateRequest, events pb.GenerationService_GenerateStreamServer) error {
	return s.stream(events)
}

func (s *service) Submit(_ context.Context, request *pb.SubmitRequest) (*pb.Request, error) {
	return &pb.Request{RequestId: request.GetRequestId()}, s.submit(request)
}

func (s *service) WatchRequest(
	question *pb.WatchRequestRequest, events pb.RequestService_WatchRequestServer,
) error {
	return s.watch(question, events)
}

func (s *service) GetRequest(_ context.Context, question *pb.GetRequestRequest) (*pb.Request, error) {
	return &pb.Request{RequestId: question.GetRequestId()}, s.getRequest()
}

func (s *service) GetResult(context.Context, *pb.GetResultRequest) (*pb.GenerateResponse, error) {
	return &pb.GenerateResponse{}, s.getResult()
}

func (s *service) CancelRequest(_ context.Context, question *pb.CancelRequestRequest) (*pb.Request, error) {
	s.cancel(question.GetRequestId())
	return &pb.Request{RequestId: question.GetRequestId()}, nil
}

func (s *service) GetFile(context.Context, *pb.GetFileRequest) (*pb.File, error) {
	return nil, refusal(codes.NotFound, idefics2.ReasonFileNotUploaded, "", 0)
}

func (s *service) GetUpload(context.Context, *pb.GetUploadRequest) (*pb.GetUploadResponse, error) {
	if s.numKeptBytes == 0 {
		return nil, refusal(codes.NotFound, idefics2.ReasonUploadNotFound, "", 0)
	}
	return &pb.GetUploadResponse{NumKeptBytes: s.numKeptBytes}, nil
}

func (s *service) Upload(messages pb.FileService_UploadServer) error {
	return s.upload(messages)
}

func (s *service) DownloadFile(_ *pb.DownloadFileRequest, parts pb.FileService_DownloadFileServer) error {
	digest := sha256.Sum256([]byte(s.content))
	file := &pb.File{Id: "f", Sha256: hex.EncodeToString(digest[:])}
	_ = parts.Send(&pb.DownloadFileResponse{Content: &pb.DownloadFileResponse_File{File: file}})
	return parts.Send(&pb.DownloadFileResponse{Content: &pb.DownloadFileResponse_Chunk{Chunk: []byte(s.content)}})
}

func text(sequence int64, text string) *pb.Event {
	return &pb.Event{Sequence: sequence, Event: &pb.Event_TextDelta{TextDelta: &pb.TextDelta{Text: text}}}
}

func finished(sequence int64, output string) *pb.Event {
	response := &pb.Finished_Response{Response: &pb.GenerateResponse{Output: output}}
	return &pb.Event{Sequence: sequence, Event: &pb.Event_Finished{Finished: &pb.Finished{Result: response}}}
}
