package idefics2.client;

import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.protobuf.Duration;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.UnknownFieldSet;
import io.grpc.Metadata;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * The details of an error, as google.rpc writes them. They are read by the numbers of their fields: Debian's gRPC comes
 * without com.google.rpc, and a copy of it here would collide with the one of Maven.
 */
final class Details {
  private static final Metadata.Key<byte[]> STATUS =
      Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER);

  String domain = "";
  String reason = "";
  String field = "";
  final Map<String, String> metadata = new HashMap<>();
  java.time.Duration retryAfter;

  /** Reads what the trailers of a call hold; what cannot be read is left out. */
  static Details of(Metadata trailers) {
    Details details = new Details();
    byte[] status = trailers == null ? null : trailers.get(STATUS);
    if (status != null) {
      try {
        for (ByteString packed : list(UnknownFieldSet.parseFrom(status), 3)) {
          details.read(Any.parseFrom(packed));
        }
      } catch (InvalidProtocolBufferException error) {
        return new Details();
      }
    }
    return details;
  }

  private void read(Any any) throws InvalidProtocolBufferException {
    UnknownFieldSet detail = UnknownFieldSet.parseFrom(any.getValue());
    switch (any.getTypeUrl().substring(any.getTypeUrl().lastIndexOf('/') + 1)) {
      case "google.rpc.ErrorInfo" -> {
        reason = text(detail, 1);
        domain = text(detail, 2);
        for (ByteString entry : list(detail, 3)) {
          UnknownFieldSet pair = UnknownFieldSet.parseFrom(entry);
          metadata.put(text(pair, 1), text(pair, 2));
        }
      }
      case "google.rpc.BadRequest" -> {
        for (ByteString violation : list(detail, 1).stream().limit(1).toList()) {
          field = text(UnknownFieldSet.parseFrom(violation), 1);
        }
      }
      case "google.rpc.RetryInfo" -> {
        for (ByteString delay : list(detail, 1)) {
          retryAfter = read(Duration.parseFrom(delay));
        }
      }
      default -> {
        // Nothing that this client tells.
      }
    }
  }

  static java.time.Duration read(Duration duration) {
    return java.time.Duration.ofSeconds(duration.getSeconds(), duration.getNanos());
  }

  private static List<ByteString> list(UnknownFieldSet message, int number) {
    return message.getField(number).getLengthDelimitedList();
  }

  private static String text(UnknownFieldSet message, int number) {
    List<ByteString> values = list(message, number);
    return values.isEmpty() ? "" : values.get(values.size() - 1).toStringUtf8();
  }
}
