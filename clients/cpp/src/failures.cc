#include "failures.h"

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <utility>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace idefics2::internal {
namespace {

using grpc::StatusCode;

constexpr char kDomain[] = "idefics2";

constexpr const char* kCodeNames[] = {
    "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
    "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
    "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED"};

/// What the channel says of connections that will not come about at the next try either.
constexpr struct {
  const char* words;
  const char* field;
  const char* meaning;
} kMismatches[] = {
    {"certificate verify failed", "tls", " shows a certificate that nobody vouches for: set ca_file of the option tls"},
    {"CERTIFICATE_VERIFY_FAILED", "tls", " shows a certificate that nobody vouches for: set ca_file of the option tls"},
    {"is not in peer certificate", "tls", " shows a certificate of another name: use a target that it names"},
    {"Hostname Verification Check failed", "tls", " shows a certificate of another name: use a target that it names"},
    {"wrong version number", "tls", " does not speak TLS: leave TLS out, or use the port that has it"},
    {"WRONG_VERSION_NUMBER", "tls", " does not speak TLS: leave TLS out, or use the port that has it"},
    {"http1.x server", "target", " speaks HTTP, not gRPC: use the gRPC port"},
    // HTTP/1 is all that TLS is for.
    {"missing selected ALPN", "target", " speaks HTTP, not gRPC: use the gRPC port"},
};

/// Returns the first detail of this kind, or an empty one.
template <class Detail>
Detail find(const google::rpc::Status& status) {
  Detail found;
  for (const auto& any : status.details()) {
    if (any.Is<Detail>() && any.UnpackTo(&found)) break;
  }
  return found;
}

std::string find_request_id(const grpc::ClientContext& context) {
  // Refusals have it in the trailers, answers that broke off in the header.
  for (const auto* metadata : {&context.GetServerInitialMetadata(), &context.GetServerTrailingMetadata()}) {
    if (auto found = metadata->find("x-request-id"); found != metadata->end()) {
      return {found->second.data(), found->second.size()};
    }
  }
  return "";
}

/// Reads a time that anybody may have written: none is negative, or so long that it overflows.
std::chrono::nanoseconds read(const google::protobuf::Duration& duration) {
  constexpr std::int64_t kMostSeconds = 3'000'000'000;  // about a hundred years
  constexpr std::int64_t kMostNanos = 999'999'999;
  return std::chrono::seconds(std::clamp<std::int64_t>(duration.seconds(), 0, kMostSeconds)) +
         std::chrono::nanoseconds(std::clamp<std::int64_t>(duration.nanos(), 0, kMostNanos));
}

/// Reads what the service itself wrote; an error that somebody else wrote has no reason.
Details read_details(const grpc::Status& status) {
  Details details;
  details.code = status.error_code();
  google::rpc::Status written;
  if (!written.ParseFromString(status.error_details())) return details;
  const auto info = find<google::rpc::ErrorInfo>(written);
  if (info.domain() != kDomain) return details;
  details.reason = info.reason();
  details.metadata = {info.metadata().begin(), info.metadata().end()};
  const auto bad_request = find<google::rpc::BadRequest>(written);
  if (bad_request.field_violations_size() > 0) details.field = bad_request.field_violations(0).field();
  const auto retry = find<google::rpc::RetryInfo>(written);
  if (retry.has_retry_delay()) details.retry_after = read(retry.retry_delay());
  return details;
}

bool holds(const std::string& text, const char* words) { return text.find(words) != std::string::npos; }

bool holds_one(const std::string& text, std::initializer_list<const char*> all) {
  return std::any_of(all.begin(), all.end(), [&text](const char* words) { return holds(text, words); });
}

/// Whether nobody took the connection; else somebody did, and ended it.
bool is_absent(const std::string& words) {
  return holds_one(words, {"ailed to connect", "connections to all backends failing", "DNS resolution"}) &&
         !holds_one(words, {"Socket closed", "Connection reset", "Broken pipe"});
}

[[noreturn]] void fail_as_absent(const std::string& words, const std::string& target, Details details) {
  for (const auto& mismatch : kMismatches) {
    if (holds(words, mismatch.words)) {
      details.field = mismatch.field;
      throw SettingInvalid(target + mismatch.meaning, std::move(details));
    }
  }
  if (is_absent(words)) {
    fail("no service answers at " + target +
             ": start one with `idefics2-service serve`, or set IDEFICS2_CLIENT_TARGET to the address of one "
             "that runs",
         std::move(details));
  }
  std::string message = "the connection to " + target + " was lost before the answer was complete";
  if (details.request_id.empty()) message += "; if it never comes about, look whether both sides speak TLS, or neither";
  fail(message, std::move(details));
}

/// Says what is behind a status that the service did not write itself.
[[noreturn]] void explain(const std::string& words, const std::string& target, Details details) {
  if (details.code == StatusCode::DEADLINE_EXCEEDED) fail_as_passed(details.request_id);
  if (details.code == StatusCode::UNAVAILABLE) fail_as_absent(words, target, std::move(details));
  if (details.code == StatusCode::UNIMPLEMENTED) {
    fail(target + " does not know this call: it is another service, or older than this client: update the service",
         std::move(details));
  }
  const std::string name = name_code(details.code);
  fail(words.empty() ? "the call failed with " + name : words, std::move(details));
}

}  // namespace

const char* name_code(StatusCode code) noexcept {
  const bool is_known = code >= 0 && static_cast<std::size_t>(code) < std::size(kCodeNames);
  return is_known ? kCodeNames[code] : "UNKNOWN";
}

void fail(const std::string& message, Details details) {
  // The code alone would mislead.
  if (details.reason == "FILE_ALREADY_COMPLETE") throw AlreadyExists(message, std::move(details));
  switch (details.code) {
    case StatusCode::INVALID_ARGUMENT:
      throw InvalidRequest(message, std::move(details));
    case StatusCode::UNAUTHENTICATED:
    case StatusCode::PERMISSION_DENIED:
      throw AuthenticationFailed(message, std::move(details));
    case StatusCode::NOT_FOUND:
      throw NotFound(message, std::move(details));
    case StatusCode::ALREADY_EXISTS:
      throw AlreadyExists(message, std::move(details));
    case StatusCode::FAILED_PRECONDITION:
      throw NotFinished(message, std::move(details));
    case StatusCode::RESOURCE_EXHAUSTED:
      throw Overloaded(message, std::move(details));
    case StatusCode::UNAVAILABLE:
      throw ServiceUnavailable(message, std::move(details));
    case StatusCode::DEADLINE_EXCEEDED:
      throw DeadlineExceeded(message, std::move(details));
    case StatusCode::CANCELLED:
      throw Cancelled(message, std::move(details));
    default:
      throw ServiceFailed(message, std::move(details));
  }
}

void fail_as(const v1::Failure& failure, const std::string& request_id) {
  std::string reason = v1::ErrorReason_Name(failure.reason());
  if (reason.empty()) reason = std::to_string(failure.reason());
  Details details{static_cast<StatusCode>(failure.code()), reason, failure.field(), request_id, {}, {}};
  details.metadata = {failure.metadata().begin(), failure.metadata().end()};
  if (failure.has_retry_delay()) details.retry_after = read(failure.retry_delay());
  fail(failure.message(), std::move(details));
}

void fail_as(const grpc::Status& status, const grpc::ClientContext& context, const std::string& target, bool has_left) {
  Details details = read_details(status);
  details.request_id = find_request_id(context);
  if (!details.reason.empty()) fail(status.error_message(), std::move(details));
  if (has_left) fail_as_left(details.request_id);
  explain(status.error_message(), target, std::move(details));
}

void fail_as_passed(const std::string& request_id) {
  fail("the deadline passed before the answer was complete",
       {StatusCode::DEADLINE_EXCEEDED, "", "", request_id, {}, {}});
}

void fail_as_left(const std::string& request_id) {
  fail("the caller cancelled the call", {StatusCode::CANCELLED, "", "", request_id, {}, {}});
}

}  // namespace idefics2::internal
