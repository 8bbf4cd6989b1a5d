import idefics2.client.Answers;
import idefics2.client.Idefics2Client;
import idefics2.client.Idefics2Exception;
import idefics2.client.Question;
import idefics2.v1.Generation.Event;
import java.nio.file.Path;
import java.time.Duration;

/** Asks about a picture, and writes the answer as it comes: java Ask cat.png "What is on the sofa?" */
public final class Ask {
  private Ask() {}

  public static void main(String[] arguments) {
    // Where and with which key: IDEFICS2_CLIENT_TARGET and IDEFICS2_API_KEY, or target and key of the builder.
    try (Idefics2Client client = Idefics2Client.builder().deadline(Duration.ofMinutes(1)).build()) {
      Path image = Path.of(arguments[0]);
      Question question =
          Question.builder(arguments[1]).image(image).temperature(0).maxNewTokens(100).build();
      try (Answers<Event> events = client.stream(question)) {
        for (Event event : events) {
          System.out.print(event.getTextDelta().getText());
          System.out.flush();
        }
      }
      System.out.println();
    } catch (Idefics2Exception error) {
      System.err.printf("%s (%s)%n", error.getMessage(), error.reason().isEmpty() ? error.code() : error.reason());
      System.exit(1);
    }
  }
}
