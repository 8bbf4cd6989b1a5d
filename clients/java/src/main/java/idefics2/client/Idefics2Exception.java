package idefics2.client;

import io.grpc.Status;
import java.io.Serializable;
import java.time.Duration;
import java.util.Map;
import java.util.Optional;

/**
 * No answer. The status code chooses the class; {@link #reason} says more, and is what to match on. A request that
 * failed gives the same exception whether a status, its last event or its failure tells of it.
 */
public class Idefics2Exception extends RuntimeException {
  private static final long serialVersionUID = 1;

  private final Parts parts;

  Idefics2Exception(String message, Parts parts) {
    super(message, parts.cause());
    this.parts = parts;
  }

  /** The status code. */
  public Status.Code code() {
    return parts.code();
  }

  /** The name of an ErrorReason, a newer one perhaps; empty where it was not the service that refused. */
  public String reason() {
    return parts.reason();
  }

  /** The field of the request that is at fault, for example {@code images[0].data}; empty if there is none. */
  public String field() {
    return parts.field();
  }

  /** The request's id in the service's log; empty if the service never saw the request. */
  public String requestId() {
    return parts.requestId();
  }

  /** How long to wait before the same request is worth sending again; empty if the service did not say. */
  public Optional<Duration> retryAfter() {
    return Optional.ofNullable(parts.retryAfter());
  }

  /** What the reason has to say for programs: names and values that ErrorReason's comments tell. */
  public Map<String, String> metadata() {
    return parts.metadata();
  }

  /** Makes the exception of a status code. */
  static Idefics2Exception of(String message, Parts parts) {
    switch (parts.code()) {
      case INVALID_ARGUMENT:
        return new InvalidRequestException(message, parts);
      case UNAUTHENTICATED:
      case PERMISSION_DENIED:
        return new AuthenticationFailedException(message, parts);
      case NOT_FOUND:
        return new NotFoundException(message, parts);
      case ALREADY_EXISTS:
        return new AlreadyExistsException(message, parts);
      case FAILED_PRECONDITION:
        return new NotFinishedException(message, parts);
      case RESOURCE_EXHAUSTED:
        return new OverloadedException(message, parts);
      case UNAVAILABLE:
        return new ServiceUnavailableException(message, parts);
      case DEADLINE_EXCEEDED:
        return new DeadlineExceededException(message, parts);
      case CANCELLED:
        return new CancelledException(message, parts);
      default:
        return new ServiceFailedException(message, parts);
    }
  }

  /** What an exception says beside its message. */
  record Parts(
      Status.Code code,
      String reason,
      String field,
      String requestId,
      Duration retryAfter,
      Map<String, String> metadata,
      Throwable cause)
      implements Serializable {
    static Parts of(Status.Code code) {
      return new Parts(code, "", "", "", null, Map.of(), null);
    }

    Parts with(String reason, String field) {
      return new Parts(code, reason, field, requestId, retryAfter, metadata, cause);
    }

    Parts during(String requestId) {
      return new Parts(code, reason, field, requestId, retryAfter, metadata, cause);
    }

    Parts because(Throwable cause) {
      return new Parts(code, reason, field, requestId, retryAfter, metadata, cause);
    }
  }
}
