#include "vector_calls.h"

#include <google/protobuf/util/json_util.h>
#include <google/protobuf/util/time_util.h>

#include <stdexcept>

#include "idefics2/client.h"

namespace vectors {
namespace {

using google::protobuf::util::TimeUtil;
using nlohmann::json;
namespace v1 = idefics2::v1;

template <class Message>
Message read(const json& call) {
  Message message;
  const auto status = google::protobuf::util::JsonStringToMessage(call.at("request").dump(), &message);
  if (!status.ok()) throw std::invalid_argument(status.ToString());
  return message;
}

json write(const google::protobuf::Message& message) {
  std::string text;
  const auto status = google::protobuf::util::MessageToJsonString(message, &text);
  if (!status.ok()) throw std::invalid_argument(status.ToString());
  return json::parse(text);
}

json write(const idefics2::Error& error) {
  json told = {{"code", error.code_name()},     {"reason", error.reason()},     {"field", error.field()},
               {"message", error.what()},       {"metadata", error.metadata()}, {"request_id", error.request_id()},
               {"retry_after_seconds", nullptr}};
  if (const auto pause = error.retry_after()) {
    told["retry_after_seconds"] = std::chrono::duration<double>(*pause).count();
  }
  return told;
}

/// Writes what is yielded to `list`, and leaves after as many as it is told, if not 0.
template <class Item>
void collect(json& list, idefics2::Stream<Item> items, std::size_t at_most) {
  list = json::array();
  for (const Item& item : items) {
    list.push_back(write(item));
    if (list.size() == at_most) return;
  }
}

idefics2::Image read_image(const v1::Image& image) {
  if (image.has_url()) return idefics2::Image::url(image.url());
  return image.has_data() ? idefics2::Image::bytes(image.data()) : idefics2::Image::sha256(image.sha256());
}

idefics2::Question read_question(const v1::GenerateRequest& request) {
  idefics2::Question question({}, request.prompt());
  if (!request.image_url().empty()) question.images.push_back(idefics2::Image::url(request.image_url()));
  for (const auto& image : request.images()) question.images.push_back(read_image(image));
  if (request.has_max_new_tokens()) question.max_new_tokens = request.max_new_tokens();
  if (request.has_min_new_tokens()) question.min_new_tokens = request.min_new_tokens();
  if (request.has_repetition_penalty()) question.repetition_penalty = request.repetition_penalty();
  if (request.has_temperature()) question.temperature = request.temperature();
  if (request.has_top_p()) question.top_p = request.top_p();
  if (request.has_top_k()) question.top_k = request.top_k();
  if (request.has_seed()) question.seed = request.seed();
  if (request.has_split_images()) question.split_images = request.split_images();
  if (request.has_max_image_bytes()) question.max_image_bytes = request.max_image_bytes();
  question.stop.assign(request.stop().begin(), request.stop().end());
  return question;
}

idefics2::Submission read_submission(const v1::SubmitRequest& request) {
  using std::chrono::nanoseconds;
  idefics2::Submission submission(read_question(request.input()));
  submission.request_id = request.request_id();
  submission.priority = request.priority();
  submission.webhook_url = request.webhook_url();
  if (request.has_start_timeout()) {
    submission.start_timeout = nanoseconds(TimeUtil::DurationToNanoseconds(request.start_timeout()));
  }
  if (request.has_time_budget()) {
    submission.time_budget = nanoseconds(TimeUtil::DurationToNanoseconds(request.time_budget()));
  }
  if (request.has_keep()) submission.keep = nanoseconds(TimeUtil::DurationToNanoseconds(request.keep()));
  if (request.has_max_queue_length()) submission.max_queue_length = request.max_queue_length();
  return submission;
}

idefics2::Client connect(const json& call) {
  idefics2::Options options;
  options.target = call.at("target");
  options.key = call.at("api_key");
  return idefics2::Client(options);
}

idefics2::CallOptions bound(const json& call) {
  if (!call.contains("deadline_ms")) return {};
  return idefics2::CallOptions::within(std::chrono::milliseconds(call.at("deadline_ms")));
}

std::string name_file(const v1::DownloadFileRequest& request) {
  return request.has_sha256() ? "sha256:" + request.sha256() : request.id();
}

/// Makes a call that many answers come of; false: it is another.
bool perform_list(const json& call, json& outcome) {
  const auto client = connect(call);
  const std::string kind = call.at("call");
  const std::size_t at_most = call.value("cancel_after_events", 0);
  const auto options = bound(call);
  if (kind == "stream") {
    collect(outcome["events"], client.stream(read_question(read<v1::GenerateRequest>(call)), options), at_most);
  } else if (kind == "watch") {
    const auto question = read<v1::WatchRequestRequest>(call);
    collect(outcome["events"], client.watch(question.request_id(), question.after(), options), at_most);
  } else if (kind == "list_requests") {
    const auto question = read<v1::ListRequestsRequest>(call);
    const idefics2::Filter filter{question.state(), question.page_size()};
    collect(outcome["requests"], client.list_requests(filter, options), at_most);
  } else {
    return false;
  }
  return true;
}

json perform_request(const json& call) {
  const auto client = connect(call);
  const std::string kind = call.at("call");
  const auto options = bound(call);
  if (kind == "submit") return write(client.submit(read_submission(read<v1::SubmitRequest>(call)), options));
  if (kind == "submit_and_watch") {
    return write(client.submit_and_watch(read_submission(read<v1::SubmitRequest>(call)), {}, options));
  }
  const auto question = read<v1::GetRequestRequest>(call);
  if (kind == "result") return write(client.result(question.request_id(), options));
  if (kind == "cancel") return write(client.cancel(question.request_id(), options));
  if (kind != "get_request") throw std::invalid_argument("there is no call " + kind);
  return write(question.include_logs() ? client.get_request_with_logs(question.request_id(), options)
                                       : client.get_request(question.request_id(), options));
}

json perform_one(const json& call) {
  const std::string kind = call.at("call");
  if (kind != "generate" && kind != "count_tokens" && kind != "upload" && kind != "download") {
    return perform_request(call);
  }
  const auto client = connect(call);
  const auto options = bound(call);
  if (kind == "upload") {
    return write(client.upload(call.at("path").get<std::string>(), {read<v1::UploadStart>(call).name(), {}}, options));
  }
  if (kind == "download") {
    const auto file = name_file(read<v1::DownloadFileRequest>(call));
    return write(client.download(file, call.at("path").get<std::string>(), {}, options));
  }
  const auto question = read_question(read<v1::GenerateRequest>(call));
  return kind == "generate" ? write(client.generate(question, options)) : write(client.count_tokens(question, options));
}

}  // namespace

json perform(const json& call) {
  json outcome = json::object();
  try {
    if (!perform_list(call, outcome)) outcome["response"] = perform_one(call);
  } catch (const idefics2::Error& error) {
    outcome["error"] = write(error);
  }
  return outcome;
}

}  // namespace vectors
