#pragma once

#include <grpcpp/support/status.h>

#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>

#include "idefics2/v1/error_reason.pb.h"

namespace idefics2 {

/// What is known of a failure beside its message.
struct Details {
  grpc::StatusCode code = grpc::StatusCode::UNKNOWN;
  /// The name of a `v1::ErrorReason`; empty where it was not the service that refused.
  std::string reason;
  /// The field of the request that is at fault, for example `images[0].data`; empty if there is none.
  std::string field;
  /// The request's name in the service's log; empty if the service never saw the request.
  std::string request_id;
  /// How long to wait before the same request is worth sending again, if the service said so.
  std::optional<std::chrono::nanoseconds> retry_after;
  /// What the reason has to say for programs: see the comments of the proto's ErrorReason.
  std::map<std::string, std::string> metadata;
};

/// No answer. The status code chooses the class; the reason says more, and is what to match on. A request that failed
/// gives the same error whether a status or its last event tells of it. `what()` is for a person to read, and may be
/// reworded.
class Error : public std::runtime_error {
 public:
  Error(const std::string& message, Details details);

  grpc::StatusCode code() const noexcept { return details_->code; }
  /// The code's name, such as `UNAVAILABLE`.
  const char* code_name() const noexcept;
  const std::string& reason() const noexcept { return details_->reason; }
  const std::string& field() const noexcept { return details_->field; }
  const std::string& request_id() const noexcept { return details_->request_id; }
  std::optional<std::chrono::nanoseconds> retry_after() const noexcept { return details_->retry_after; }
  const std::map<std::string, std::string>& metadata() const noexcept { return details_->metadata; }

  /// Whether this is its reason.
  bool is(v1::ErrorReason reason) const { return details_->reason == v1::ErrorReason_Name(reason); }

 private:
  std::shared_ptr<const Details> details_;  // shared, for copying an exception must not throw
};

/// INVALID_ARGUMENT: the same request will fail again; names a field.
class InvalidRequest : public Error {
 public:
  using Error::Error;
};

/// Never sent: a file cannot be read on this machine, or is not there.
class FileUnreadable : public InvalidRequest {
 public:
  FileUnreadable(const std::filesystem::path& path, std::error_code cause);

  /// What the system says.
  const std::error_code& cause() const noexcept { return cause_; }

 private:
  std::error_code cause_;
};

/// Target or TLS cannot be used so, or do not fit the service; `field` names the option.
class SettingInvalid : public Error {
 public:
  using Error::Error;
};

/// UNAUTHENTICATED or PERMISSION_DENIED: no API key, or one that is refused.
class AuthenticationFailed : public Error {
 public:
  using Error::Error;
};

/// NOT_FOUND: this key has no such request or file, or it was forgotten.
class NotFound : public Error {
 public:
  using Error::Error;
};

/// ALREADY_EXISTS: the name is that of something with other content.
class AlreadyExists : public Error {
 public:
  using Error::Error;
};

/// FAILED_PRECONDITION: there is no answer yet, ask again later.
class NotFinished : public Error {
 public:
  using Error::Error;
};

/// RESOURCE_EXHAUSTED: too many wait or are kept already, retry later.
class Overloaded : public Error {
 public:
  using Error::Error;
};

/// UNAVAILABLE: not there, starting or stopping, retry later.
class ServiceUnavailable : public Error {
 public:
  using Error::Error;
};

/// DEADLINE_EXCEEDED: a deadline passed before the answer was complete.
class DeadlineExceeded : public Error {
 public:
  using Error::Error;
};

/// CANCELLED: someone ended the call or the request.
class Cancelled : public Error {
 public:
  using Error::Error;
};

/// Every other code.
class ServiceFailed : public Error {
 public:
  using Error::Error;
};

}  // namespace idefics2
