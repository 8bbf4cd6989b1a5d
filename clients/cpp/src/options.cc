#include "idefics2/options.h"

#include <grpcpp/server_context.h>

#include <algorithm>

namespace idefics2 {
namespace {

/// No wait is longer: the clock would overflow, and "for ever" would have passed already.
constexpr std::chrono::hours kMostTime(24 * 365 * 100);

std::string copy(const grpc::string_ref& text) { return {text.data(), text.size()}; }

}  // namespace

CallOptions CallOptions::within(std::chrono::milliseconds timeout) {
  CallOptions options;
  const auto bounded = std::clamp<std::chrono::milliseconds>(timeout, std::chrono::milliseconds(0), kMostTime);
  options.deadline = std::chrono::system_clock::now() + bounded;
  return options;
}

CallOptions CallOptions::on_behalf_of(const grpc::ServerContextBase& caller) {
  CallOptions options;
  options.caller = &caller;
  const auto deadline = caller.deadline();
  if (deadline != std::chrono::system_clock::time_point::max()) options.deadline = deadline;
  for (const auto& [name, value] : caller.client_metadata()) {
    if (name == "traceparent" || name == "tracestate") options.metadata.emplace(copy(name), copy(value));
  }
  return options;
}

}  // namespace idefics2
