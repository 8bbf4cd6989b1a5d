package idefics2.client;

import com.google.protobuf.ByteString;
import idefics2.client.Idefics2Exception.Parts;
import idefics2.v1.FileServiceGrpc;
import idefics2.v1.Files.DownloadFileRequest;
import idefics2.v1.Files.DownloadFileResponse;
import idefics2.v1.Files.File;
import io.grpc.Status;
import java.io.IOException;
import java.io.OutputStream;
import java.io.UncheckedIOException;
import java.nio.channels.ClosedByInterruptException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.UUID;
import java.util.function.Consumer;

/** What has come of one file, and so what to ask for next. */
final class Download {
  private final Connection connection;
  private final FileName name;
  private final Patience patience;
  private final Consumer<? super Transfer> onProgress;
  private final MessageDigest digest = Content.sha256();
  private long offset;
  private File file;

  Download(Connection connection, FileName name, Patience patience, Consumer<? super Transfer> onProgress) {
    this.connection = connection;
    this.name = name;
    this.patience = patience;
    this.onProgress = onProgress;
  }

  /** Writes the file to {@code path}, where it appears when it is complete; goes on after lost connections. */
  File writeTo(Path path) {
    Path part = path.resolveSibling("idefics2-" + UUID.randomUUID() + ".part"); // of this download alone
    try {
      try (OutputStream out = Files.newOutputStream(part, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)) {
        readAll(out);
      }
      // In one step: else what was there would be gone for a moment, or for good. Where there is no such step, by two.
      Files.move(part, path, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
      return file;
    } catch (ClosedByInterruptException interruption) {
      throw Failures.interrupted(interruption);
    } catch (IOException error) {
      throw new UncheckedIOException("cannot write " + path + ": " + Content.tellWhy(error, "folder"), error);
    } finally {
      deleteQuietly(part);
    }
  }

  private static void deleteQuietly(Path part) {
    try {
      Files.deleteIfExists(part);
    } catch (IOException error) {
      // What kept it from being written is told.
    }
  }

  private void readAll(OutputStream out) throws IOException {
    while (true) {
      try {
        read(out);
        finish();
        return;
      } catch (Idefics2Exception error) {
        if (file == null && error.requestId().isEmpty()) {
          throw error; // a service that was never there is not waited for
        }
        patience.pauseAfter(error);
      }
    }
  }

  /** Writes what is new on one connection. */
  private void read(OutputStream out) throws IOException {
    try (Call<DownloadFileRequest, DownloadFileResponse> call =
        connection.follow(FileServiceGrpc.getDownloadFileMethod(), makeQuestion(), patience)) {
      for (DownloadFileResponse message : call) {
        if (message.hasFile()) {
          file = message.getFile();
        } else {
          write(message.getChunk(), out);
        }
        patience.restore();
      }
    }
  }

  private DownloadFileRequest makeQuestion() {
    DownloadFileRequest.Builder question = DownloadFileRequest.newBuilder().setOffset(offset);
    return (name.isDigest() ? question.setSha256(name.sha256()) : question.setId(name.id())).build();
  }

  private void write(ByteString chunk, OutputStream out) throws IOException {
    chunk.writeTo(out);
    digest.update(chunk.asReadOnlyByteBuffer());
    offset += chunk.size();
    onProgress.accept(new Transfer(offset, file == null ? 0 : file.getSizeBytes()));
  }

  private void finish() {
    if (file == null || !HexFormat.of().formatHex(digest.digest()).equals(file.getSha256())) {
      String message = "what came is not the whole file as it was uploaded: download it again";
      throw Idefics2Exception.of(message, Parts.of(Status.Code.DATA_LOSS));
    }
  }
}
