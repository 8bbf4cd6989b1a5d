package idefics2.client;

import idefics2.v1.Requests.Priority;
import idefics2.v1.Requests.SubmitRequest;
import java.net.URI;
import java.time.Duration;

/** A question that outlives its call, and what may be said of that. */
public final class Submission {
  final SubmitRequest message;

  private Submission(SubmitRequest message) {
    this.message = message;
  }

  /** Submits a question with nothing more said. */
  public static Submission of(Question question) {
    return builder(question).build();
  }

  /** Begins to say more. */
  public static Builder builder(Question question) {
    return new Builder(question);
  }

  /** Takes options; those that are left out stay unset. */
  public static final class Builder {
    private final SubmitRequest.Builder message = SubmitRequest.newBuilder();

    private Builder(Question question) {
      message.setInput(question.message);
    }

    /** Names the request, and makes sending it again safe: 1 to 128 of {@code A-Z a-z 0-9 . _ -}. Default: made. */
    public Builder requestId(String value) {
      message.setRequestId(Texts.check(value, "request_id"));
      return this;
    }

    /** PRIORITY_LOW goes behind all others, but not for ever. Default PRIORITY_NORMAL. */
    public Builder priority(Priority value) {
      message.setPriority(value);
      return this;
    }

    /**
     * The request fails if it is not begun so long after it was taken. Above 0, up to a day. Default: as the time
     * budget.
     */
    public Builder startTimeout(Duration value) {
      message.setStartTimeout(write(value));
      return this;
    }

    /** The request fails if it has not ended so long after it was taken. Above 0. Default and most: a day. */
    public Builder timeBudget(Duration value) {
      message.setTimeBudget(write(value));
      return this;
    }

    /** A public http(s) address that is told of the end by a signed POST. Default: none. */
    public Builder webhookUrl(URI value) {
      message.setWebhookUrl(Texts.check(value.toString(), "webhook_url"));
      return this;
    }

    /** Refuse the request if more than so many are before it, 0 or more. Default: as the service is set. */
    public Builder maxQueueLength(int value) {
      message.setMaxQueueLength(value);
      return this;
    }

    /** How long the request is kept after its end. Above 0, up to a day. Default and most: as the service is set. */
    public Builder keep(Duration value) {
      message.setKeep(write(value));
      return this;
    }

    /** Returns the submission as it is now. */
    public Submission build() {
      return new Submission(message.build());
    }

    private static com.google.protobuf.Duration write(Duration value) {
      return com.google.protobuf.Duration.newBuilder()
          .setSeconds(value.getSeconds())
          .setNanos(value.getNano())
          .build();
    }
  }
}
