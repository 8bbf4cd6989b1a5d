#include "operation.h"

#include <grpc/grpc.h>
#include <grpc/slice.h>

#include <algorithm>
#include <array>
#include <random>
#include <utility>

#include "cancellation.h"
#include "failures.h"

namespace idefics2::internal {
namespace {

/// The reasons that a wait may help against; empty: the service did not speak.
constexpr std::array<const char*, 5> kPassing = {"", "BACKEND_UNAVAILABLE", "SERVICE_STOPPING", "STORE_UNAVAILABLE",
                                                 "FILE_STORE_UNAVAILABLE"};

/// What a call is refused for because of others; told to who begins, waited for by who has begun.
constexpr std::array<const char*, 3> kLimits = {"RATE_LIMITED", "CONCURRENCY_EXCEEDED", "CALLS_FULL"};

template <std::size_t N>
bool is_one_of(const std::array<const char*, N>& reasons, const Error& error) {
  return std::find(reasons.begin(), reasons.end(), error.reason()) != reasons.end();
}

/// Whether an error may be another at the next try.
bool is_loss(const Error& error) {
  const bool is_broken = error.code() == grpc::StatusCode::UNAVAILABLE || error.code() == grpc::StatusCode::INTERNAL ||
                         error.code() == grpc::StatusCode::UNKNOWN;
  return is_broken && is_one_of(kPassing, error) && dynamic_cast<const SettingInvalid*>(&error) == nullptr;
}

/// A pause that can be reckoned with: none is negative, or longer than a day.
std::chrono::milliseconds bound(std::chrono::milliseconds pause) {
  return std::clamp<std::chrono::milliseconds>(pause, std::chrono::milliseconds(0), std::chrono::hours(24));
}

/// Draws how long to wait after so many losses in a row, 1 or more; no shorter than the service asked for.
std::chrono::nanoseconds draw_pause(const Retries& retries, int num_losses, std::chrono::nanoseconds asked) {
  thread_local std::mt19937_64 random{std::random_device()()};
  const std::chrono::nanoseconds most = bound(retries.max_pause);
  std::chrono::nanoseconds limit = bound(retries.first_pause);
  for (int i = 1; i < num_losses && limit < most; ++i) limit *= 2;
  std::uniform_int_distribution<std::chrono::nanoseconds::rep> pauses(0, std::min(limit, most).count());
  return std::min(std::max(std::chrono::nanoseconds(pauses(random)), asked), most);
}

grpc_slice view(const std::string& text) { return grpc_slice_from_static_buffer(text.data(), text.size()); }

/// Whether gRPC takes it; what it does not take ends the process.
bool is_legal(const std::string& name, const std::string& value) {
  return grpc_header_key_is_legal(view(name)) != 0 &&
         (grpc_is_binary_header(view(name)) != 0 || grpc_header_nonbin_value_is_legal(view(value)) != 0);
}

void check_metadata(const std::multimap<std::string, std::string>& metadata) {
  for (const auto& [name, value] : metadata) {
    if (is_legal(name, value)) continue;
    throw InvalidRequest("the metadata " + name +
                             " cannot be sent: names are of a-z 0-9 - _ and . , values of printable " +
                             "ASCII, unless the name ends in -bin",
                         {grpc::StatusCode::INVALID_ARGUMENT, "", "metadata", "", {}, {}});
  }
}

}  // namespace

std::shared_ptr<Operation> Operation::begin(std::shared_ptr<const Connection> connection, const CallOptions& options) {
  std::shared_ptr<Operation> operation(new Operation(std::move(connection), options));
  if (options.cancellation) options.cancellation->state_->bind(operation);
  return operation;
}

std::shared_ptr<Operation> Operation::begin_another(std::chrono::milliseconds timeout) const {
  CallOptions options = CallOptions::within(timeout);
  options.metadata = options_.metadata;
  return begin(connection_, options);
}

Operation::Operation(std::shared_ptr<const Connection> connection, const CallOptions& options)
    : connection_(std::move(connection)), options_(options) {
  check_metadata(options_.metadata);
  restart();
}

void Operation::restart() {
  num_losses_ = 0;
  deadline_ = options_.deadline;
  if (!deadline_ && connection_->timeout) deadline_ = CallOptions::within(*connection_->timeout).deadline;
}

void Operation::leave() noexcept {
  const std::lock_guard lock(mutex_);
  has_left_ = true;
  if (running_ != nullptr) running_->TryCancel();
  left_.notify_all();
}

bool Operation::has_left() const {
  const std::lock_guard lock(mutex_);
  return has_left_;
}

void Operation::check(const std::string& request_id) const {
  if (has_left()) fail_as_left(request_id);
  if (deadline_ && std::chrono::system_clock::now() >= *deadline_) fail_as_passed(request_id);
}

void Operation::restore() {
  note_begun();
  num_losses_ = 0;
  waits_ = false;
}

void Operation::pause_after(const Error& error) {
  if (!is_loss(error) && !(has_begun_ && is_one_of(kLimits, error))) throw;
  note_begun();
  waits_ = true;
  pause(error);
}

void Operation::pause_or_give_up(const Error& error) {
  const bool is_last = num_losses_ + 1 >= connection_->retries.attempts;
  if (is_last || error.code() != grpc::StatusCode::UNAVAILABLE || !is_loss(error)) throw;
  pause(error);
}

void Operation::pause(const Error& lost) {
  ++num_losses_;
  if (connection_->retries.on_lost) connection_->retries.on_lost(lost);
  const auto asked = lost.retry_after().value_or(std::chrono::nanoseconds(0));
  const auto pause = draw_pause(connection_->retries, num_losses_, asked);
  auto end = std::chrono::system_clock::now() + std::chrono::duration_cast<std::chrono::system_clock::duration>(pause);
  if (deadline_) end = std::min(end, *deadline_);
  {
    std::unique_lock lock(mutex_);
    left_.wait_until(lock, end, [this] { return has_left_; });
  }
  check(lost.request_id());
}

std::unique_ptr<grpc::ClientContext> Operation::make_context() const {
  return options_.caller == nullptr ? std::make_unique<grpc::ClientContext>()
                                    : grpc::ClientContext::FromServerContext(*options_.caller);
}

void Operation::attach(grpc::ClientContext& context) {
  check();  // what is too late is not begun
  if (deadline_) context.set_deadline(*deadline_);
  context.set_wait_for_ready(waits_);
  const bool has_key = !connection_->key.empty();
  for (const auto& [name, value] : options_.metadata) {
    if (!has_key || name != "authorization") context.AddMetadata(name, value);
  }
  if (has_key) context.AddMetadata("authorization", "Key " + connection_->key);
  const std::lock_guard lock(mutex_);
  running_ = &context;
  if (has_left_) context.TryCancel();
}

void Operation::detach() {
  const std::lock_guard lock(mutex_);
  running_ = nullptr;
}

void Attempt::check(const grpc::Status& status) const {
  if (!status.ok()) fail_as(status, *context_, operation_.connection().target, operation_.has_left());
}

}  // namespace idefics2::internal
