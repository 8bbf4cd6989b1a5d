package idefics2.client;

import com.google.protobuf.ByteString;
import com.google.protobuf.UnsafeByteOperations;
import idefics2.client.Idefics2Exception.Parts;
import io.grpc.Status;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.ByteBuffer;
import java.nio.channels.ClosedByInterruptException;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.AccessDeniedException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;

/** A file that is uploaded: measured, and read in pieces, so that it is never held whole. */
final class Content implements AutoCloseable {
  /** The largest chunk that the service takes. */
  static final int PIECE_BYTES = 1 << 20;
  private static final int MAX_NAME_BYTES = 255;

  final String name;
  final String sha256;
  final long sizeBytes;
  private final Path path;
  private final FileChannel file;

  private Content(Path path, FileChannel file, String name, Patience patience) throws IOException {
    this.path = path;
    this.file = file;
    this.name = name;
    this.sizeBytes = file.size();
    MessageDigest digest = sha256();
    ByteBuffer piece = ByteBuffer.allocate(PIECE_BYTES);
    for (long at = 0; at < sizeBytes; at += piece.position()) {
      patience.check();
      // No further than it was long: it may grow meanwhile.
      readInto(piece.clear().limit((int) Math.min(PIECE_BYTES, sizeBytes - at)), at);
      digest.update(piece.array(), 0, piece.position());
    }
    this.sha256 = HexFormat.of().formatHex(digest.digest());
  }

  /** Opens a file, and reads it once for its digest, which takes a while. */
  static Content open(Path path, String name, Patience patience) {
    String shown = name == null ? findName(path) : name;
    try {
      if (Files.isDirectory(path)) {
        throw new IOException("it is a folder");
      }
      if (isPipe(path)) {
        try (InputStream source = Files.newInputStream(path)) {
          return open(source, shown, patience);
        }
      }
      FileChannel file = FileChannel.open(path, StandardOpenOption.READ);
      return measure(path, file, shown, patience);
    } catch (IOException error) {
      throw refuse(path, error);
    }
  }

  /** Copies what can be read only once to where it can be read again; on disk, for it may be large. */
  static Content open(InputStream source, String name, Patience patience) {
    Path shown = Path.of("the stream");
    Path kept = null;
    try {
      kept = Files.createTempFile("idefics2-", ""); // which nobody else may read
      try (OutputStream copy = Files.newOutputStream(kept, StandardOpenOption.WRITE)) {
        copy(source, copy, patience);
      }
      FileChannel file = FileChannel.open(kept, StandardOpenOption.READ, StandardOpenOption.DELETE_ON_CLOSE);
      return measure(shown, file, name == null ? "" : name, patience);
    } catch (IOException error) {
      throw refuse(shown, error);
    } finally {
      if (kept != null) {
        kept.toFile().delete(); // an open one stays readable without its name
      }
    }
  }

  /** Reads at most a piece, from byte {@code offset} on. */
  ByteString read(long offset) {
    ByteBuffer piece = ByteBuffer.allocate((int) Math.min(PIECE_BYTES, sizeBytes - offset));
    try {
      readInto(piece, offset);
    } catch (IOException error) {
      throw refuse(path, error);
    }
    return UnsafeByteOperations.unsafeWrap(piece.flip());
  }

  @Override
  public void close() {
    try {
      file.close();
    } catch (IOException error) {
      throw refuse(path, error);
    }
  }

  /** Says by one exception that a file cannot be read: an interrupt closes the file, and is the caller's leaving. */
  static Idefics2Exception refuse(Path path, IOException error) {
    if (error instanceof ClosedByInterruptException) {
      return Failures.interrupted(error);
    }
    return new FileUnreadableException(
        "cannot read " + path + ": " + tellWhy(error, "file"), Parts.of(Status.Code.INVALID_ARGUMENT).because(error));
  }

  /**
   * Says what happened to a file: exceptions of file systems may hold no more than its name.
   *
   * @param missing what is not there, where something is not
   */
  static String tellWhy(IOException error, String missing) {
    if (error instanceof NoSuchFileException) {
      return "there is no such " + missing;
    }
    if (error instanceof AccessDeniedException) {
      return "permission denied";
    }
    return error instanceof FileSystemException failure && failure.getReason() == null
        ? failure.getClass().getSimpleName()
        : String.valueOf(error.getMessage());
  }

  static MessageDigest sha256() {
    try {
      return MessageDigest.getInstance("SHA-256");
    } catch (NoSuchAlgorithmException error) {
      throw new IllegalStateException("every Java has SHA-256", error);
    }
  }

  /** Whether it can be read only once, and so tells no size. */
  private static boolean isPipe(Path path) {
    return Files.exists(path) && !Files.isRegularFile(path);
  }

  /** As transferTo, but a source that does not end is left when nobody waits for it. */
  private static void copy(InputStream source, OutputStream copy, Patience patience) throws IOException {
    byte[] piece = new byte[PIECE_BYTES];
    while (true) {
      patience.check();
      int numBytes = source.read(piece);
      if (numBytes < 0) {
        return;
      }
      copy.write(piece, 0, numBytes);
    }
  }

  private static Content measure(Path path, FileChannel file, String name, Patience patience) throws IOException {
    try {
      return new Content(path, file, Texts.check(name, "start.name"), patience);
    } catch (IOException | RuntimeException error) {
      file.close();
      throw error;
    }
  }

  private void readInto(ByteBuffer piece, long offset) throws IOException {
    if (file.read(piece, offset) < 1) {
      throw new IOException("it became shorter meanwhile");
    }
  }

  /** Names a file as its path does, as far as the service takes names. */
  private static String findName(Path path) {
    Path last = path.getFileName();
    String name = last == null ? "" : last.toString().replaceAll("[\\p{C}\\p{Zl}\\p{Zp}]", "");
    while (name.getBytes(StandardCharsets.UTF_8).length > MAX_NAME_BYTES) {
      name = name.substring(0, name.offsetByCodePoints(name.length(), -1));
    }
    return name;
  }
}
