/// From what the wire says of a failure to an exception of the tree.
#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/support/status.h>

#include <string>

#include "idefics2/error.h"
#include "idefics2/v1/generation.pb.h"

namespace idefics2::internal {

const char* name_code(grpc::StatusCode code) noexcept;

/// Throws the class of the code.
[[noreturn]] void fail(const std::string& message, Details details);

/// Says why a submitted request has no answer.
[[noreturn]] void fail_as(const v1::Failure& failure, const std::string& request_id);

/// Says what went wrong with a call to `target`, which has ended. `has_left`: its caller cancelled it.
[[noreturn]] void fail_as(const grpc::Status& status, const grpc::ClientContext& context, const std::string& target,
                          bool has_left);

[[noreturn]] void fail_as_passed(const std::string& request_id);
[[noreturn]] void fail_as_left(const std::string& request_id);

}  // namespace idefics2::internal
