package idefics2.client;

import idefics2.client.Idefics2Exception.Parts;
import idefics2.v1.ErrorReasonOuterClass.ErrorReason;
import idefics2.v1.Generation.Failure;
import io.grpc.Metadata;
import io.grpc.Status;
import java.time.Duration;
import java.util.EnumSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import javax.net.ssl.SSLException;

/** From what the wire says of a failure to an exception of the tree. */
final class Failures {
  private static final String DOMAIN = "idefics2";
  /** What the transport says of a connection that broke: no status came. */
  private static final Set<Status.Code> BROKEN =
      EnumSet.of(Status.Code.CANCELLED, Status.Code.INTERNAL, Status.Code.UNKNOWN, Status.Code.UNAVAILABLE);
  private static final Pattern TRANSPORT =
      Pattern.compile("Rst Stream|GOAWAY|Connection closed|Network closed|io exception|unexpected content-type");
  private static final Pattern ABSENT =
      Pattern.compile(
          "ConnectException|UnknownHost|NoRouteToHost|timed out|Unable to resolve", Pattern.CASE_INSENSITIVE);
  /** Netty read HTTP/1's first letters, in hexadecimal or not; or HTTP/1 is all that TLS is for. */
  private static final Pattern NO_GRPC =
      Pattern.compile("Hex dump for first 5 bytes: 485454502f|Unexpected HTTP/1|Failed ALPN negotiation");

  private Failures() {}

  /** Says by one exception why a submitted request has no answer. */
  static Idefics2Exception read(Failure failure, String requestId) {
    ErrorReason reason = failure.getReason();
    String name = reason == ErrorReason.UNRECOGNIZED ? String.valueOf(failure.getReasonValue()) : reason.name();
    Status.Code code = Status.fromCodeValue(failure.getCode()).getCode();
    Duration retryAfter = failure.hasRetryDelay() ? Details.read(failure.getRetryDelay()) : null;
    Map<String, String> metadata = Map.copyOf(failure.getMetadataMap());
    Parts parts = new Parts(code, name, failure.getField(), requestId, retryAfter, metadata, null);
    return Idefics2Exception.of(failure.getMessage(), parts);
  }

  /** Says by one exception what went wrong with a call to {@code target}. */
  static Idefics2Exception read(Status status, Metadata trailers, String target, String requestId) {
    Details details = Details.of(trailers);
    Throwable cause = status.asException(trailers);
    if (!details.domain.equals(DOMAIN)) {
      return explain(status, target, Parts.of(status.getCode()).during(requestId).because(cause));
    }
    Parts parts =
        new Parts(
            status.getCode(),
            details.reason,
            details.field,
            requestId,
            details.retryAfter,
            Map.copyOf(details.metadata),
            cause);
    return Idefics2Exception.of(describe(status), parts);
  }

  static Idefics2Exception passed() {
    return Idefics2Exception.of(
        "the deadline passed before the answer was complete", Parts.of(Status.Code.DEADLINE_EXCEEDED));
  }

  static Idefics2Exception left(String why) {
    return Idefics2Exception.of(why, Parts.of(Status.Code.CANCELLED));
  }

  static Idefics2Exception cancelled() {
    return left("the caller's Context was cancelled");
  }

  static Idefics2Exception interrupted(Throwable cause) {
    return Idefics2Exception.of(
        "the thread was interrupted before the answer was complete",
        Parts.of(Status.Code.CANCELLED).because(cause));
  }

  /** Says what is behind a status that the service did not write itself. */
  private static Idefics2Exception explain(Status status, String target, Parts parts) {
    if (NO_GRPC.matcher(describe(status) + listCauses(status.getCause())).find()) {
      String message = target + " speaks HTTP, not gRPC: use the gRPC port";
      return new SettingInvalidException(
          message, Parts.of(Status.Code.UNAVAILABLE).because(parts.cause()).with("", "target"));
    }
    if (BROKEN.contains(status.getCode())
        && (status.getCause() != null || TRANSPORT.matcher(describe(status)).find())) {
      return explainBroken(status, target, parts);
    }
    if (status.getCode() == Status.Code.DEADLINE_EXCEEDED) {
      return Idefics2Exception.of("the deadline passed before the answer was complete", parts);
    }
    if (status.getCode() == Status.Code.UNIMPLEMENTED) {
      String what = "it is another service, or older than this client: update the service";
      return Idefics2Exception.of(target + " does not know this call: " + what, parts);
    }
    return Idefics2Exception.of(describe(status), parts);
  }

  private static Idefics2Exception explainBroken(Status status, String target, Parts known) {
    Parts parts = Parts.of(Status.Code.UNAVAILABLE).during(known.requestId()).because(known.cause());
    List<Throwable> causes = listCauses(status.getCause());
    String told = describe(status) + causes;
    if (causes.stream().anyMatch(cause -> cause instanceof SSLException)) {
      return new SettingInvalidException(target + " " + explainTls(told), parts.with("", "tls"));
    }
    if (ABSENT.matcher(told).find()) {
      String where = "set IDEFICS2_CLIENT_TARGET to the address of one that runs";
      String what = ": start one with `idefics2-service serve`, or " + where;
      return Idefics2Exception.of("no service answers at " + target + what, parts);
    }
    String tls =
        known.requestId().isEmpty()
            ? "; if it never comes about, look whether both sides speak TLS, or neither"
            : "";
    return Idefics2Exception.of(
        "the connection to " + target + " was lost before the answer was complete" + tls, parts);
  }

  private static List<Throwable> listCauses(Throwable error) {
    return Stream.iterate(error, cause -> cause != null, Throwable::getCause).limit(10).toList();
  }

  private static String explainTls(String told) {
    if (told.contains("NotSslRecord") || told.contains("plaintext connection")) {
      return "does not speak TLS: leave TLS out, or use the port that has it";
    }
    return told.contains("No subject alternative") || told.contains("No name matching")
        ? "shows a certificate of another name: use a target that it names"
        : "shows a certificate that nobody vouches for: set its authority by `Tls.trust`";
  }

  private static String describe(Status status) {
    String description = status.getDescription();
    return description == null || description.isEmpty()
        ? "the call failed with " + status.getCode()
        : description;
  }
}
