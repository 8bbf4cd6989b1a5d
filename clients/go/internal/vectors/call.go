package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/idefics2-serving/idefics2-serving/clients/go/idefics2"
	pb "github.com/idefics2-serving/idefics2-serving/clients/go/idefics2v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// call is one of a vector.
type call struct {
	Call              string          `json:"call"`
	Target            string          `json:"target"`
	APIKey            string          `json:"api_key"`
	Request           json.RawMessage `json:"request"`
	Path              string          `json:"path"`
	DeadlineMs        int             `json:"deadline_ms"`
	CancelAfterEvents int             `json:"cancel_after_events"`
}

func (c *call) perform(ctx context.Context, client *idefics2.Client, result *outcome) error {
	switch c.Call {
	case "generate":
		return result.answer(client.Generate(ctx, c.question()))
	case "stream":
		return collect(&result.Events, client.Stream(ctx, c.question()), c.CancelAfterEvents)
	case "count_tokens":
		return result.answer(client.CountTokens(ctx, c.question()))
	case "upload":
		start := read(c, &pb.UploadStart{})
		return result.answer(client.UploadFile(ctx, c.Path, idefics2.UploadOptions{Name: start.GetName()}))
	case "download":
		return result.answer(client.Download(ctx, c.fileName(), c.Path, nil))
	}
	return c.performRequest(ctx, client, result)
}

func (c *call) performRequest(ctx context.Context, client *idefics2.Client, result *outcome) error {
	switch c.Call {
	case "submit":
		return result.answer(client.Submit(ctx, c.submission()))
	case "submit_and_watch":
		return result.answer(client.SubmitAndWatch(ctx, c.submission(), nil))
	case "get_request":
		question := read(c, &pb.GetRequestRequest{})
		if question.GetIncludeLogs() {
			return result.answer(client.GetRequestWithLogs(ctx, question.GetRequestId()))
		}
		return result.answer(client.GetRequest(ctx, question.GetRequestId()))
	case "watch":
		question := read(c, &pb.WatchRequestRequest{})
		events := client.Watch(ctx, question.GetRequestId(), question.GetAfter())
		return collect(&result.Events, events, c.CancelAfterEvents)
	case "result":
		return result.answer(client.Result(ctx, read(c, &pb.GetResultRequest{}).GetRequestId()))
	case "cancel":
		return result.answer(client.Cancel(ctx, read(c, &pb.CancelRequestRequest{}).GetRequestId()))
	case "list_requests":
		question := read(c, &pb.ListRequestsRequest{})
		filter := idefics2.Filter{State: question.GetState(), PageSize: question.GetPageSize()}
		return collect(&result.Requests, client.ListRequests(ctx, filter), c.CancelAfterEvents)
	}
	return fmt.Errorf("there is no call %s", c.Call)
}

func (c *call) question() idefics2.Question {
	return readQuestion(read(c, &pb.GenerateRequest{}))
}

func (c *call) submission() idefics2.Submission {
	request := read(c, &pb.SubmitRequest{})
	return idefics2.Submission{
		Question:       readQuestion(request.GetInput()),
		RequestID:      request.GetRequestId(),
		Priority:       request.GetPriority(),
		StartTimeout:   readDuration(request.GetStartTimeout()),
		TimeBudget:     readDuration(request.GetTimeBudget()),
		WebhookURL:     request.GetWebhookUrl(),
		MaxQueueLength: readNumber(request.MaxQueueLength),
		Keep:           readDuration(request.GetKeep()),
	}
}

func (c *call) fileName() string {
	question := read(c, &pb.DownloadFileRequest{})
	if digest := question.GetSha256(); digest != "" {
		return "sha256:" + digest
	}
	return question.GetId()
}

func read[T proto.Message](c *call, message T) T {
	must(protojson.Unmarshal(c.Request, message))
	return message
}

func readQuestion(request *pb.GenerateRequest) idefics2.Question {
	return idefics2.Question{
		Images:            readImages(request),
		Prompt:            request.GetPrompt(),
		MaxNewTokens:      readNumber(request.MaxNewTokens),
		MinNewTokens:      readNumber(request.MinNewTokens),
		RepetitionPenalty: request.RepetitionPenalty,
		Temperature:       request.Temperature,
		TopP:              request.TopP,
		TopK:              readNumber(request.TopK),
		Seed:              request.Seed,
		Stop:              request.GetStop(),
		SplitImages:       request.SplitImages,
		MaxImageBytes:     request.MaxImageBytes,
	}
}

func readImages(request *pb.GenerateRequest) []idefics2.Image {
	images := []idefics2.Image{}
	if url := request.GetImageUrl(); url != "" {
		images = append(images, idefics2.ImageURL(url))
	}
	for _, image := range request.GetImages() {
		switch source := image.GetSource().(type) {
		case *pb.Image_Url:
			images = append(images, idefics2.ImageURL(source.Url))
		case *pb.Image_Sha256:
			images = append(images, idefics2.ImageSHA256(source.Sha256))
		case *pb.Image_Data:
			images = append(images, idefics2.ImageData(source.Data))
		}
	}
	return images
}

func readNumber(number *int32) *int {
	if number == nil {
		return nil
	}
	return idefics2.Ptr(int(*number))
}

func readDuration(duration *durationpb.Duration) *time.Duration {
	if duration == nil {
		return nil
	}
	return idefics2.Ptr(duration.AsDuration())
}
