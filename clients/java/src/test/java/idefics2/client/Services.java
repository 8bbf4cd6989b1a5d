package idefics2.client;

import com.google.protobuf.ByteString;
import idefics2.v1.FileServiceGrpc;
import idefics2.v1.Files.DownloadFileRequest;
import idefics2.v1.Files.DownloadFileResponse;
import idefics2.v1.Files.File;
import idefics2.v1.Files.GetFileRequest;
import idefics2.v1.Files.GetUploadRequest;
import idefics2.v1.Files.GetUploadResponse;
import idefics2.v1.Files.UploadRequest;
import idefics2.v1.Generation.CountTokensResponse;
import idefics2.v1.Generation.Event;
import idefics2.v1.Generation.GenerateRequest;
import idefics2.v1.Generation.GenerateResponse;
import idefics2.v1.Generation.TextDelta;
import idefics2.v1.GenerationServiceGrpc;
import idefics2.v1.RequestServiceGrpc;
import idefics2.v1.Requests.CancelRequestRequest;
import idefics2.v1.Requests.ListRequestsRequest;
import idefics2.v1.Requests.ListRequestsResponse;
import idefics2.v1.Requests.Request;
import idefics2.v1.Requests.SubmitRequest;
import idefics2.v1.Requests.WatchRequestRequest;
import io.grpc.Status;
import io.grpc.stub.ServerCallStreamObserver;
import io.grpc.stub.StreamObserver;
import java.io.ByteArrayOutputStream;
import java.util.HexFormat;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;

/** Services that each do one thing. */
final class Services {
  static final Event TEXT =
      Event.newBuilder().setSequence(1).setTextDelta(TextDelta.newBuilder().setText("A")).build();

  private Services() {}

  static final class Counting extends GenerationServiceGrpc.GenerationServiceImplBase {
    @Override
    public void countTokens(GenerateRequest request, StreamObserver<CountTokensResponse> caller) {
      caller.onNext(CountTokensResponse.newBuilder().setNumPromptTokens(7).build());
      caller.onCompleted();
    }
  }

  static final class Refusing extends GenerationServiceGrpc.GenerationServiceImplBase {
    final AtomicInteger numCalls = new AtomicInteger();
    private final Status.Code code;
    private final String reason;
    private final long retryMillis;

    Refusing(Status.Code code, String reason, long retryMillis) {
      this.code = code;
      this.reason = reason;
      this.retryMillis = retryMillis;
    }

    @Override
    public void generate(GenerateRequest request, StreamObserver<GenerateResponse> caller) {
      numCalls.incrementAndGet();
      caller.onError(Service.refuse(code, reason, retryMillis));
    }

    @Override
    public void countTokens(GenerateRequest request, StreamObserver<CountTokensResponse> caller) {
      numCalls.incrementAndGet();
      caller.onError(Service.refuse(code, reason, retryMillis));
    }
  }

  /** Tells a piece of an answer at most, and no more until it is cancelled. */
  static final class Hanging extends GenerationServiceGrpc.GenerationServiceImplBase {
    final CountDownLatch cancelled = new CountDownLatch(1);

    @Override
    public void generate(GenerateRequest request, StreamObserver<GenerateResponse> caller) {
      ((ServerCallStreamObserver<GenerateResponse>) caller).setOnCancelHandler(cancelled::countDown);
    }

    @Override
    public void generateStream(GenerateRequest request, StreamObserver<Event> caller) {
      ((ServerCallStreamObserver<Event>) caller).setOnCancelHandler(cancelled::countDown);
      caller.onNext(TEXT);
    }
  }

  static final class Waiting extends RequestServiceGrpc.RequestServiceImplBase {
    final CompletableFuture<String> cancelled = new CompletableFuture<>();

    @Override
    public void submit(SubmitRequest request, StreamObserver<Request> caller) {
      caller.onNext(Request.newBuilder().setRequestId(request.getRequestId()).build());
      caller.onCompleted();
    }

    @Override
    public void watchRequest(WatchRequestRequest request, StreamObserver<Event> caller) {
      caller.onNext(TEXT);
    }

    @Override
    public void cancelRequest(CancelRequestRequest request, StreamObserver<Request> caller) {
      cancelled.complete(request.getRequestId());
      caller.onNext(Request.newBuilder().setRequestId(request.getRequestId()).build());
      caller.onCompleted();
    }
  }

  /** Has two requests, on a page each. */
  static final class Listing extends RequestServiceGrpc.RequestServiceImplBase {
    @Override
    public void listRequests(ListRequestsRequest question, StreamObserver<ListRequestsResponse> caller) {
      boolean isFirst = question.getPageToken().isEmpty();
      Request request = Request.newBuilder().setRequestId(isFirst ? "1" : "2").build();
      String token = isFirst ? "more" : "";
      caller.onNext(ListRequestsResponse.newBuilder().addRequests(request).setNextPageToken(token).build());
      caller.onCompleted();
    }
  }

  /** Gives a file that does not end. */
  static final class Giving extends FileServiceGrpc.FileServiceImplBase {
    @Override
    public void downloadFile(DownloadFileRequest request, StreamObserver<DownloadFileResponse> caller) {
      caller.onNext(DownloadFileResponse.newBuilder().setFile(File.newBuilder().setId("f")).build());
      for (int i = 0; i < 3; i++) {
        caller.onNext(DownloadFileResponse.newBuilder().setChunk(ByteString.copyFromUtf8("piece")).build());
      }
    }
  }

  /** Gives a file. */
  static final class GivingAll extends FileServiceGrpc.FileServiceImplBase {
    static final String CONTENT = "BM, all of it";

    @Override
    public void downloadFile(DownloadFileRequest request, StreamObserver<DownloadFileResponse> caller) {
      ByteString content = ByteString.copyFromUtf8(CONTENT);
      String digest = HexFormat.of().formatHex(Content.sha256().digest(content.toByteArray()));
      File file = File.newBuilder().setId("f").setSha256(digest).build();
      caller.onNext(DownloadFileResponse.newBuilder().setFile(file).build());
      caller.onNext(DownloadFileResponse.newBuilder().setChunk(content).build());
      caller.onCompleted();
    }
  }

  /** Takes the second upload; the first one is lost after its first piece. */
  static final class Taking extends FileServiceGrpc.FileServiceImplBase {
    final ByteArrayOutputStream received = new ByteArrayOutputStream();
    final AtomicInteger numCalls = new AtomicInteger();

    @Override
    public void getFile(GetFileRequest request, StreamObserver<File> caller) {
      caller.onError(Service.refuse(Status.Code.NOT_FOUND, "FILE_NOT_UPLOADED", 0));
    }

    @Override
    public void getUpload(GetUploadRequest request, StreamObserver<GetUploadResponse> caller) {
      caller.onError(Service.refuse(Status.Code.NOT_FOUND, "UPLOAD_NOT_FOUND", 0));
    }

    @Override
    public StreamObserver<UploadRequest> upload(StreamObserver<File> caller) {
      boolean isLost = numCalls.incrementAndGet() == 1;
      return new StreamObserver<>() {
        @Override
        public void onNext(UploadRequest message) {
          if (isLost && message.hasChunk()) {
            caller.onError(Status.UNAVAILABLE.withDescription("cut").asException());
          } else {
            received.writeBytes(message.getChunk().toByteArray());
          }
        }

        @Override
        public void onError(Throwable error) {}

        @Override
        public void onCompleted() {
          caller.onNext(File.newBuilder().setId("f").build());
          caller.onCompleted();
        }
      };
    }
  }
}
