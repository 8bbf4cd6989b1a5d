#include "idefics2/question.h"

#include <google/protobuf/util/time_util.h>

#include "content.h"
#include "texts.h"

namespace idefics2 {
namespace {

/// The contract's bound, checked here too: a message that is too large to send gets no good error.
constexpr std::size_t kMaxImageBytes = 20'000'000;
/// A message has at most 28 MiB: so many bytes are for images, the rest is for all else.
constexpr std::size_t kMaxInlineBytes = (28U << 20U) - (1U << 16U);

[[noreturn]] void refuse(const char* reason, const std::string& field, const std::string& message) {
  throw InvalidRequest(message, {grpc::StatusCode::INVALID_ARGUMENT, reason, field, "", {}, {}});
}

void check_size(std::size_t num_bytes, const std::string& name) {
  if (num_bytes > kMaxImageBytes) {
    refuse("FILE_TOO_LARGE", "", name + " must have at most " + std::to_string(kMaxImageBytes) + " bytes");
  }
}

std::string name(const std::filesystem::path& path) { return "image " + path.string(); }

void check_total(std::size_t num_bytes) {
  if (num_bytes > kMaxInlineBytes) {
    refuse("PAYLOAD_TOO_LARGE", "images",
           "images must have at most " + std::to_string(kMaxInlineBytes) + " bytes together, not " +
               std::to_string(num_bytes) + ": upload them, and ask about what `upload` returns");
  }
}

/// Reads a file that is not too large; one byte more than allowed is enough to refuse it.
std::string read(const std::filesystem::path& path, const std::function<void()>& check) {
  std::string bytes = internal::read_file(path, kMaxImageBytes + 1, check);
  check_size(bytes.size(), name(path));
  return bytes;
}

/// Writes images into image_url, which holds the first one if that is a URL, and images.
void write_images(const std::vector<Image>& images, v1::GenerateRequest& request, const std::function<void()>& check) {
  std::size_t num_bytes = 0;
  for (const Image& image : images) {
    v1::Image written = image.write(check);
    num_bytes += written.data().size() + written.url().size() + written.sha256().size();
    const bool is_first = &image == &images.front();
    if (is_first && written.has_url()) {
      request.set_image_url(written.url());
    } else {
      *request.add_images() = std::move(written);
    }
  }
  check_total(num_bytes);
}

void write(const std::optional<std::chrono::nanoseconds>& duration,
           google::protobuf::Duration* (v1::SubmitRequest::*find)(), v1::SubmitRequest& request) {
  using google::protobuf::util::TimeUtil;
  if (duration) *(request.*find)() = TimeUtil::NanosecondsToDuration(duration->count());
}

}  // namespace

Image Image::file(std::filesystem::path path) {
  Image image;
  image.path_ = std::move(path);
  return image;
}

Image Image::bytes(std::string data) {
  Image image;
  image.image_.set_data(std::move(data));
  return image;
}

Image Image::url(std::string url) {
  Image image;
  image.image_.set_url(std::move(url));
  return image;
}

Image Image::sha256(std::string digest) {
  Image image;
  image.image_.set_sha256(std::move(digest));
  return image;
}

v1::Image Image::write(const std::function<void()>& check) const {
  v1::Image written = image_;
  internal::check_texts(written);
  if (path_) written.set_data(read(*path_, check));
  if (written.has_data()) check_size(written.data().size(), path_ ? name(*path_) : "the image");
  return written;
}

v1::GenerateRequest Question::write(const std::function<void()>& check) const {
  v1::GenerateRequest request;
  request.set_prompt(prompt);
  if (max_new_tokens) request.set_max_new_tokens(*max_new_tokens);
  if (min_new_tokens) request.set_min_new_tokens(*min_new_tokens);
  if (repetition_penalty) request.set_repetition_penalty(*repetition_penalty);
  if (temperature) request.set_temperature(*temperature);
  if (top_p) request.set_top_p(*top_p);
  if (top_k) request.set_top_k(*top_k);
  if (seed) request.set_seed(*seed);
  if (split_images) request.set_split_images(*split_images);
  if (max_image_bytes) request.set_max_image_bytes(*max_image_bytes);
  request.mutable_stop()->Assign(stop.begin(), stop.end());
  internal::check_texts(request);
  write_images(images, request, check);
  return request;
}

v1::SubmitRequest Submission::write(const std::function<void()>& check) const {
  v1::SubmitRequest request;
  request.set_request_id(request_id);
  request.set_priority(priority);
  request.set_webhook_url(webhook_url);
  if (max_queue_length) request.set_max_queue_length(*max_queue_length);
  idefics2::write(start_timeout, &v1::SubmitRequest::mutable_start_timeout, request);
  idefics2::write(time_budget, &v1::SubmitRequest::mutable_time_budget, request);
  idefics2::write(keep, &v1::SubmitRequest::mutable_keep, request);
  internal::check_texts(request);
  *request.mutable_input() = question.write(check);
  return request;
}

}  // namespace idefics2
