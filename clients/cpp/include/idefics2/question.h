#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "idefics2/v1/files.pb.h"
#include "idefics2/v1/generation.pb.h"
#include "idefics2/v1/requests.pb.h"

namespace idefics2 {

/// An image that is asked about.
class Image {
 public:
  /// The image at a path of this machine; it is read when the question is asked.
  static Image file(std::filesystem::path path);
  /// The image of these bytes, which are those of a file.
  static Image bytes(std::string data);
  /// The image at an http(s) URL, or in a data URI; the service reads it.
  static Image url(std::string url);
  /// The uploaded image whose bytes have this digest, 64 hexadecimal digits.
  static Image sha256(std::string digest);
  /// The image that `upload` has returned.
  static Image uploaded(const v1::File& file) { return url(file.url()); }

  /// As it goes over the wire. Fails with InvalidRequest. A path may be a pipe's, which may keep its reader waiting:
  /// `check` is called again and again meanwhile, and ends that by what it throws.
  v1::Image write(const std::function<void()>& check = {}) const;

 private:
  std::optional<std::filesystem::path> path_;  // none: there is no file to read
  v1::Image image_;
};

/// What is asked. What is left out stays unset on the wire and the service's default holds: that is not 0.
struct Question {
  /// To ask about, in this order: 1 to 8. What was not uploaded has at most some 28 MiB together.
  std::vector<Image> images;
  /// The question or instruction.
  std::string prompt;
  /// May be generated at most, 1 to 4,096. Default 512.
  std::optional<std::int32_t> max_new_tokens;
  /// Must be generated before the model may end its turn. Default 0.
  std::optional<std::int32_t> min_new_tokens;
  /// 1 changes nothing, higher repeats less. 0.01 to 10. Default 1.2.
  std::optional<double> repetition_penalty;
  /// Higher is more random; 0 always takes the most likely token. 0, or 0.001 to 10. Default 0.4.
  std::optional<double> temperature;
  /// Samples among the likeliest tokens that add up to this. Above 0, up to 1. Default 0.8.
  std::optional<double> top_p;
  /// Samples among this many likeliest tokens, 1 to 1,000. Default: no such limit.
  std::optional<std::int32_t> top_k;
  /// The same request with the same seed gives the same answer, but for rounding. Default: drawn anew.
  std::optional<std::uint64_t> seed;
  /// The answer ends before the first of these texts; at most 8, each of 1 to 128 bytes.
  std::vector<std::string> stop;
  /// True reads each image in five pieces, more detail for five times the tokens. Default: the model's.
  std::optional<bool> split_images;
  /// Refuses images that are larger, 1 to 20,000,000. Default 20,000,000.
  std::optional<std::int64_t> max_image_bytes;

  Question() = default;
  Question(std::vector<Image> asked_images, std::string asked_prompt)
      : images(std::move(asked_images)), prompt(std::move(asked_prompt)) {}

  /// As it goes over the wire; reads the files of its images, and calls `check` as they do. Fails with InvalidRequest.
  v1::GenerateRequest write(const std::function<void()>& check = {}) const;
};

/// A question that outlives the call, and what may be said of it beside.
struct Submission {
  Question question;
  /// Names the request, and makes sending it again safe: 1 to 128 of `A-Z a-z 0-9 . _ -`. Empty: made.
  std::string request_id;
  /// May be low: behind all others, but not for ever.
  v1::Priority priority = v1::PRIORITY_UNSPECIFIED;
  /// The request fails if it is not begun so long after it was taken. Above 0, up to a day. Default: as the time
  /// budget.
  std::optional<std::chrono::nanoseconds> start_timeout;
  /// The request fails if it has not ended so long after it was taken. Above 0. Default and most: a day.
  std::optional<std::chrono::nanoseconds> time_budget;
  /// A public http(s) address that is told of the end by a signed POST. Default: none.
  std::string webhook_url;
  /// Refuses the request if more than so many are before it, 0 or more. Default: as the service is set.
  std::optional<std::int32_t> max_queue_length;
  /// How long the request is kept after its end. Above 0, up to a day. Default and most: as the service is set.
  std::optional<std::chrono::nanoseconds> keep;

  Submission(Question asked) : question(std::move(asked)) {}  // NOLINT: a question is one already

  /// As it goes over the wire; reads the files of its images, and calls `check` as they do. Fails with InvalidRequest.
  v1::SubmitRequest write(const std::function<void()>& check = {}) const;
};

}  // namespace idefics2
