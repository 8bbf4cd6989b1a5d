package idefics2.client;

import idefics2.client.Idefics2Exception.Parts;
import io.grpc.Status;
import java.util.Objects;

/** What must be valid Unicode: else it would be sent with question marks. */
final class Texts {
  private Texts() {}

  static String check(String text, String field) {
    Objects.requireNonNull(text, field);
    if (text.codePoints().anyMatch(point -> Character.getType(point) == Character.SURROGATE)) {
      throw new InvalidRequestException(
          field + " must be valid Unicode",
          Parts.of(Status.Code.INVALID_ARGUMENT).with("TEXT_NOT_UNICODE", field));
    }
    return text;
  }
}
