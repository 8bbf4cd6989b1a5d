package idefics2.client;

import com.google.protobuf.ByteString;
import com.google.protobuf.UnsafeByteOperations;
import idefics2.client.Idefics2Exception.Parts;
import idefics2.v1.Files.File;
import idefics2.v1.Generation.GenerateRequest;
import idefics2.v1.Generation.Image;
import io.grpc.Status;
import java.io.IOException;
import java.io.InputStream;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/**
 * What is asked.
 *
 * <pre>{@code
 * Question question = Question.builder("What is on the sofa?").image(Path.of("cat.png")).temperature(0).build();
 * }</pre>
 */
public final class Question {
  final GenerateRequest message;

  private Question(GenerateRequest message) {
    this.message = message;
  }

  /**
   * Begins to ask.
   *
   * @param prompt the question or instruction
   */
  public static Builder builder(String prompt) {
    return new Builder(prompt);
  }

  /**
   * Takes images in their order, at most 8, and options. An option that is left out stays unset on the wire and the
   * service's default holds: that is not 0.
   */
  public static final class Builder {
    /** The contract's bound, checked here too: a message that is too large to send gets no good error. */
    private static final int MAX_IMAGE_BYTES = 20_000_000;
    /** A message has at most 28 MiB: so many bytes are for images, the rest is for all else. */
    private static final long MAX_INLINE_BYTES = (28 << 20) - (1 << 16);

    private final GenerateRequest.Builder message = GenerateRequest.newBuilder();
    private final List<Image> images = new ArrayList<>();

    private Builder(String prompt) {
      message.setPrompt(Texts.check(prompt, "prompt"));
    }

    /**
     * Reads an image from a file.
     *
     * @throws FileUnreadableException there is none, or it cannot be read
     * @throws InvalidRequestException it has more than 20,000,000 bytes
     */
    public Builder image(Path path) {
      try (InputStream file = Files.newInputStream(path)) {
        // One byte more than allowed is enough to refuse it.
        return data(UnsafeByteOperations.unsafeWrap(file.readNBytes(MAX_IMAGE_BYTES + 1)), "image " + path);
      } catch (IOException error) {
        throw Content.refuse(path, error);
      }
    }

    /**
     * Takes the bytes of an image's file.
     *
     * @throws InvalidRequestException there are more than 20,000,000
     */
    public Builder image(byte[] bytes) {
      return data(ByteString.copyFrom(bytes), "the image");
    }

    /** Takes an http(s) URL, which the service reads, or the URL of an uploaded file. */
    public Builder image(URI url) {
      return image(url.toString());
    }

    /** Takes an image that was uploaded. */
    public Builder image(File uploaded) {
      return image(uploaded.getUrl());
    }

    /** Takes a URL as text, a data URI, or {@code sha256:} and the digest of an uploaded file. */
    public Builder image(String url) {
      Texts.check(url, "images");
      Image.Builder image = Image.newBuilder();
      if (url.startsWith(FileName.SHA256_PREFIX)) {
        image.setSha256(url.substring(FileName.SHA256_PREFIX.length()));
      } else {
        image.setUrl(url);
      }
      images.add(image.build());
      return this;
    }

    /** How many tokens may be generated at most, 1 to 4,096. Default 512. */
    public Builder maxNewTokens(int value) {
      message.setMaxNewTokens(value);
      return this;
    }

    /** How many tokens must be generated before the model may end its turn. Default 0. */
    public Builder minNewTokens(int value) {
      message.setMinNewTokens(value);
      return this;
    }

    /** 1 changes nothing, higher repeats less. 0.01 to 10. Default 1.2. */
    public Builder repetitionPenalty(double value) {
      message.setRepetitionPenalty(value);
      return this;
    }

    /** Higher is more random; 0 always takes the most likely token. 0, or 0.001 to 10. Default 0.4. */
    public Builder temperature(double value) {
      message.setTemperature(value);
      return this;
    }

    /** Samples among the likeliest tokens that add up to this. Above 0, up to 1. Default 0.8. */
    public Builder topP(double value) {
      message.setTopP(value);
      return this;
    }

    /** Samples among this many likeliest tokens, 1 to 1,000. Default: no such limit. */
    public Builder topK(int value) {
      message.setTopK(value);
      return this;
    }

    /** The same request with the same seed gives the same answer, but for rounding. All 64 bits count; else drawn. */
    public Builder seed(long value) {
      message.setSeed(value);
      return this;
    }

    /** The answer ends before the first of these texts: at most 8, each of 1 to 128 bytes. */
    public Builder stop(String... texts) {
      for (String text : texts) {
        message.addStop(Texts.check(text, "stop"));
      }
      return this;
    }

    /** True reads each image in five pieces: more detail, five times the tokens. Default: the model's. */
    public Builder splitImages(boolean value) {
      message.setSplitImages(value);
      return this;
    }

    /** Refuses images larger than this many bytes, 1 to 20,000,000. Default 20,000,000. */
    public Builder maxImageBytes(long value) {
      message.setMaxImageBytes(value);
      return this;
    }

    /**
     * Returns the question as it is now.
     *
     * @throws InvalidRequestException images that were not uploaded have some 28 MiB together
     */
    public Question build() {
      checkTotal();
      GenerateRequest.Builder built = message.clone();
      boolean isFirstUrl = !images.isEmpty() && images.get(0).hasUrl();
      if (isFirstUrl) {
        built.setImageUrl(images.get(0).getUrl());
      }
      return new Question(built.addAllImages(images.subList(isFirstUrl ? 1 : 0, images.size())).build());
    }

    private Builder data(ByteString bytes, String name) {
      if (bytes.size() > MAX_IMAGE_BYTES) {
        throw new InvalidRequestException(
            name + " must have at most " + MAX_IMAGE_BYTES + " bytes",
            Parts.of(Status.Code.INVALID_ARGUMENT).with("FILE_TOO_LARGE", ""));
      }
      images.add(Image.newBuilder().setData(bytes).build());
      return this;
    }

    private void checkTotal() {
      long numBytes = 0;
      for (Image image : images) {
        numBytes += image.getData().size() + image.getUrlBytes().size() + image.getSha256Bytes().size();
      }
      if (numBytes > MAX_INLINE_BYTES) {
        throw new InvalidRequestException(
            "images must have at most " + MAX_INLINE_BYTES + " bytes together, not " + numBytes
                + ": upload them, and ask about what upload returns",
            Parts.of(Status.Code.INVALID_ARGUMENT).with("PAYLOAD_TOO_LARGE", "images"));
      }
    }
  }
}
