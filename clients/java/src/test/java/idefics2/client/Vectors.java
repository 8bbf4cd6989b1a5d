package idefics2.client;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.protobuf.Message;
import com.google.protobuf.MessageOrBuilder;
import com.google.protobuf.util.JsonFormat;
import idefics2.v1.Generation.GenerateRequest;
import idefics2.v1.Generation.Image;
import idefics2.v1.Requests.GetRequestRequest;
import idefics2.v1.Requests.ListRequestsRequest;
import idefics2.v1.Requests.Priority;
import idefics2.v1.Requests.SubmitRequest;
import idefics2.v1.Requests.WatchRequestRequest;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;

/** Makes the calls of contract vectors: a line of JSON in, one out; see clients/vectors/README.md. */
public final class Vectors {
  private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

  private final JsonObject call;
  private final JsonObject request;
  private final JsonObject outcome = new JsonObject();

  private Vectors(JsonObject call) {
    this.call = call;
    this.request = call.getAsJsonObject("request");
  }

  public static void main(String[] arguments) throws IOException {
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = in.readLine(); line != null; line = in.readLine()) {
      OUT.println(new Vectors(JsonParser.parseString(line).getAsJsonObject()).run());
    }
  }

  private JsonObject run() throws IOException {
    Idefics2Client.Builder builder =
        Idefics2Client.builder().target(text(call, "target")).key(text(call, "api_key"));
    if (call.has("deadline_ms")) {
      builder.deadline(Duration.ofMillis(call.get("deadline_ms").getAsLong()));
    }
    try (Idefics2Client client = builder.build()) {
      perform(client);
    } catch (Idefics2Exception error) {
      outcome.add("error", write(error));
    } catch (RuntimeException error) {
      StringWriter trace = new StringWriter();
      error.printStackTrace(new PrintWriter(trace));
      JsonObject told = new JsonObject();
      told.addProperty("code", "NONE");
      told.addProperty("message", trace.toString());
      outcome.add("error", told);
    }
    return outcome;
  }

  private void perform(Idefics2Client client) throws IOException {
    String id = text(request, "request_id");
    String path = text(call, "path");
    switch (text(call, "call")) {
      case "generate" -> answer(client.generate(readQuestion()));
      case "count_tokens" -> answer(client.countTokens(readQuestion()));
      case "stream" -> collect("events", client.stream(readQuestion()));
      case "submit" -> answer(client.submit(readSubmission()));
      case "submit_and_watch" -> answer(client.submitAndWatch(readSubmission()));
      case "get_request" -> {
        GetRequestRequest asked = read(GetRequestRequest.newBuilder()).build();
        answer(client.getRequest(asked.getRequestId(), asked.getIncludeLogs()));
      }
      case "watch" -> {
        WatchRequestRequest asked = read(WatchRequestRequest.newBuilder()).build();
        collect("events", client.watch(asked.getRequestId(), asked.getAfter()));
      }
      case "result" -> answer(client.result(id));
      case "cancel" -> answer(client.cancel(id));
      case "list_requests" -> {
        ListRequestsRequest asked = read(ListRequestsRequest.newBuilder()).build();
        collect("requests", client.listRequests(asked.getState(), asked.getPageSize()));
      }
      case "upload" -> {
        String name = request.has("name") ? text(request, "name") : null;
        answer(client.upload(Path.of(path), name, transfer -> {}));
      }
      case "download" -> {
        String file = request.has("id") ? text(request, "id") : "sha256:" + text(request, "sha256");
        answer(client.download(file, Path.of(path)));
      }
      default -> throw new IllegalArgumentException("there is no call " + call.get("call"));
    }
  }

  private void answer(Message message) throws IOException {
    outcome.add("response", write(message));
  }

  private void collect(String name, Answers<? extends Message> answers) throws IOException {
    JsonArray came = new JsonArray();
    outcome.add(name, came);
    int most = call.has("cancel_after_events") ? call.get("cancel_after_events").getAsInt() : -1;
    try (answers) {
      for (Message answer : answers) {
        came.add(write(answer));
        if (came.size() == most) {
          break;
        }
      }
    }
  }

  private <B extends Message.Builder> B read(B builder) throws IOException {
    JsonFormat.parser().merge(request.toString(), builder);
    return builder;
  }

  private Question readQuestion() throws IOException {
    return readQuestion(read(GenerateRequest.newBuilder()));
  }

  private static Question readQuestion(GenerateRequest.Builder asked) {
    Question.Builder question = Question.builder(asked.getPrompt());
    if (!asked.getImageUrl().isEmpty()) {
      question.image(asked.getImageUrl());
    }
    asked.getImagesList().forEach(image -> addImage(question, image));
    question.stop(asked.getStopList().toArray(String[]::new));
    if (asked.hasMaxNewTokens()) {
      question.maxNewTokens(asked.getMaxNewTokens());
    }
    if (asked.hasMinNewTokens()) {
      question.minNewTokens(asked.getMinNewTokens());
    }
    if (asked.hasRepetitionPenalty()) {
      question.repetitionPenalty(asked.getRepetitionPenalty());
    }
    if (asked.hasTemperature()) {
      question.temperature(asked.getTemperature());
    }
    if (asked.hasTopP()) {
      question.topP(asked.getTopP());
    }
    if (asked.hasTopK()) {
      question.topK(asked.getTopK());
    }
    if (asked.hasSeed()) {
      question.seed(asked.getSeed());
    }
    if (asked.hasSplitImages()) {
      question.splitImages(asked.getSplitImages());
    }
    if (asked.hasMaxImageBytes()) {
      question.maxImageBytes(asked.getMaxImageBytes());
    }
    return question.build();
  }

  private static void addImage(Question.Builder question, Image image) {
    switch (image.getSourceCase()) {
      case DATA -> question.image(image.getData().toByteArray());
      case SHA256 -> question.image("sha256:" + image.getSha256());
      default -> question.image(image.getUrl());
    }
  }

  private Submission readSubmission() throws IOException {
    SubmitRequest asked = read(SubmitRequest.newBuilder()).build();
    Submission.Builder submission =
        Submission.builder(readQuestion(asked.getInput().toBuilder())).requestId(asked.getRequestId());
    if (asked.getPriority() != Priority.PRIORITY_UNSPECIFIED) {
      submission.priority(asked.getPriority());
    }
    if (asked.hasStartTimeout()) {
      submission.startTimeout(read(asked.getStartTimeout()));
    }
    if (asked.hasTimeBudget()) {
      submission.timeBudget(read(asked.getTimeBudget()));
    }
    if (!asked.getWebhookUrl().isEmpty()) {
      submission.webhookUrl(URI.create(asked.getWebhookUrl()));
    }
    if (asked.hasMaxQueueLength()) {
      submission.maxQueueLength(asked.getMaxQueueLength());
    }
    if (asked.hasKeep()) {
      submission.keep(read(asked.getKeep()));
    }
    return submission.build();
  }

  private static Duration read(com.google.protobuf.Duration duration) {
    return Duration.ofSeconds(duration.getSeconds(), duration.getNanos());
  }

  private static JsonElement write(MessageOrBuilder message) throws IOException {
    return JsonParser.parseString(JsonFormat.printer().print(message));
  }

  private static JsonObject write(Idefics2Exception error) {
    JsonObject told = new JsonObject();
    told.addProperty("code", error.code().name());
    told.addProperty("reason", error.reason());
    told.addProperty("field", error.field());
    told.addProperty("message", error.getMessage());
    told.addProperty("request_id", error.requestId());
    JsonObject metadata = new JsonObject();
    error.metadata().forEach(metadata::addProperty);
    told.add("metadata", metadata);
    told.add("retry_after_seconds", JsonNull.INSTANCE);
    error.retryAfter().ifPresent(delay -> told.addProperty("retry_after_seconds", delay.toMillis() / 1000.0));
    return told;
  }

  private static String text(JsonObject object, String name) {
    return object.has(name) ? object.get(name).getAsString() : "";
  }
}
