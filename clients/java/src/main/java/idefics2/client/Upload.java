package idefics2.client;

import com.google.protobuf.ByteString;
import idefics2.client.Idefics2Exception.Parts;
import idefics2.v1.FileServiceGrpc;
import idefics2.v1.Files.File;
import idefics2.v1.Files.GetFileRequest;
import idefics2.v1.Files.GetUploadRequest;
import idefics2.v1.Files.UploadRequest;
import idefics2.v1.Files.UploadStart;
import io.grpc.Status;
import java.util.Optional;
import java.util.function.Consumer;
import java.util.function.Supplier;

/**
 * What is known of one upload, and so what to send next. It is named by its content: whoever uploads the same bytes
 * again, in this process or another, goes on where the last one stopped.
 */
final class Upload {
  /** The service keeps no less of an upload that breaks, so there is nothing to ask before a smaller one. */
  private static final long SMALL_BYTES = 2 << 20;
  private static final int MAX_SURPRISES = 5;

  private final Connection connection;
  private final Content content;
  private final Patience patience;
  private final Consumer<? super Transfer> onProgress;
  private long offset;
  private boolean isKnown;
  private boolean isReached;
  private int numSurprises;

  Upload(Connection connection, Content content, Patience patience, Consumer<? super Transfer> onProgress) {
    this.connection = connection;
    this.content = content;
    this.patience = patience;
    this.onProgress = onProgress;
  }

  /** Uploads; goes on after lost connections. */
  File run() {
    while (true) {
      try {
        if (content.sizeBytes > SMALL_BYTES) {
          look();
        }
        return send();
      } catch (FileUnreadableException error) {
        throw error;
      } catch (Idefics2Exception error) {
        pauseAfter(error);
      }
    }
  }

  /** Sees what the service has. */
  private void look() {
    GetFileRequest file = GetFileRequest.newBuilder().setSha256(content.sha256).build();
    isKnown = find(() -> connection.ask(FileServiceGrpc.getGetFileMethod(), file, patience)).isPresent();
    isReached = true;
    if (isKnown) {
      return;
    }
    GetUploadRequest upload = GetUploadRequest.newBuilder().setUploadId(uploadId()).build();
    long kept =
        find(() -> connection.ask(FileServiceGrpc.getGetUploadMethod(), upload, patience))
            .map(found -> found.getNumKeptBytes())
            .orElse(0L);
    if (kept > offset) {
      patience.restore();
    }
    offset = kept;
  }

  private File send() {
    try (Call<UploadRequest, File> call = connection.begin(FileServiceGrpc.getUploadMethod(), patience)) {
      call.send(UploadRequest.newBuilder().setStart(makeStart()).build());
      long numBytes = isKnown ? content.sizeBytes : offset;
      onProgress.accept(new Transfer(numBytes, content.sizeBytes));
      boolean isWanted = true;
      while (isWanted && numBytes < content.sizeBytes) {
        ByteString piece = content.read(numBytes);
        isWanted = call.send(UploadRequest.newBuilder().setChunk(piece).build());
        numBytes += piece.size();
        onProgress.accept(new Transfer(numBytes, content.sizeBytes));
      }
      call.complete();
      return Connection.takeAnswer(call);
    }
  }

  private UploadStart makeStart() {
    return UploadStart.newBuilder()
        .setUploadId(uploadId())
        .setOffset(offset)
        .setName(content.name)
        .setSizeBytes(content.sizeBytes)
        .setSha256(content.sha256)
        .build();
  }

  private String uploadId() {
    return "sha256-" + content.sha256;
  }

  private void pauseAfter(Idefics2Exception error) {
    isReached |= !error.requestId().isEmpty();
    if (!isReached) {
      throw error; // a service that was never there is not waited for
    }
    if (isSurprise(error) && numSurprises < MAX_SURPRISES) {
      numSurprises += 1;
      patience.pauseAfter(
          Idefics2Exception.of(error.getMessage(), Parts.of(Status.Code.UNAVAILABLE).because(error)));
    } else {
      patience.pauseAfter(error);
    }
  }

  /** Tells whether the service has no longer what it had when it was asked: somebody uploads the same. */
  private boolean isSurprise(Idefics2Exception error) {
    boolean hasMoved = error.reason().equals("UPLOAD_NOT_FOUND") || error.field().equals("start.offset");
    return hasMoved || (isKnown && error.reason().equals("FILE_MISMATCH"));
  }

  private static <T> Optional<T> find(Supplier<T> question) {
    try {
      return Optional.of(question.get());
    } catch (NotFoundException error) {
      return Optional.empty();
    }
  }
}
