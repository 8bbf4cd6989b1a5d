#include "watcher.h"

#include <utility>

#include "names.h"

namespace idefics2::internal {
namespace {

/// How long it may take to cancel a request that is left.
constexpr std::chrono::seconds kCancelTimeout{5};

/// Who leaves is told why it left, not that nobody heard of it.
void cancel_request(const Operation& left, const std::string& request_id) {
  v1::CancelRequestRequest question;
  question.set_request_id(request_id);
  const auto operation = left.begin_another(kCancelTimeout);
  operation->note_begun();
  try {
    operation->insist(&v1::RequestService::Stub::CancelRequest, *operation->connection().requests, question);
  } catch (const Error&) {
  }
}

void submit(Operation& operation, const v1::SubmitRequest& message) {
  try {
    operation.insist(&v1::RequestService::Stub::Submit, *operation.connection().requests, message);
  } catch (const Error& error) {
    const bool is_over = error.code() == grpc::StatusCode::DEADLINE_EXCEEDED ||
                         (error.code() == grpc::StatusCode::CANCELLED && error.reason().empty());
    // A refusal says nothing of what was lost before it, unless the name is another request's.
    const bool was_lost = operation.has_lost() && error.code() != grpc::StatusCode::ALREADY_EXISTS;
    const bool may_be_taken = is_over || operation.has_left() || was_lost;
    if (may_be_taken) cancel_request(operation, message.request_id());
    throw;
  }
}

}  // namespace

Watcher::Watcher(std::shared_ptr<Operation> operation, Cursor cursor)
    : operation_(std::move(operation)), cursor_(std::move(cursor)) {}

std::optional<Event> Watcher::read() {
  for (;;) {
    try {
      if (auto event = read_flow()) {
        if (cursor_.take(*event)) return event;
        continue;
      }
      if (!cursor_.is_finished()) check_end();
      return std::nullopt;
    } catch (const Error& error) {
      flow_.reset();
      if (cursor_.is_finished()) return std::nullopt;  // a loss after the last event is none
      operation_->pause_after(error);
    }
  }
}

void Watcher::cancel() { operation_->leave(); }

/// Returns what comes next on one connection.
std::optional<Event> Watcher::read_flow() {
  if (!flow_) {
    v1::WatchRequestRequest question;
    question.set_request_id(cursor_.request_id());
    question.set_after(cursor_.after());
    flow_ = std::make_unique<Flow<Event>>(operation_, [&](grpc::ClientContext* context) {
      return operation_->connection().requests->WatchRequest(context, question);
    });
  }
  auto event = flow_->read();
  if (event) operation_->restore();
  return event;
}

void Watcher::check_end() {
  flow_.reset();
  v1::GetRequestRequest question;
  question.set_request_id(cursor_.request_id());
  cursor_.check_end(
      operation_->ask(&v1::RequestService::Stub::GetRequest, *operation_->connection().requests, question));
}

Answer submit_and_watch(const std::shared_ptr<Operation>& operation, v1::SubmitRequest message,
                        const std::function<void(const Event&)>& on_event) {
  if (message.request_id().empty()) message.set_request_id(make_name());
  submit(*operation, message);
  Watcher watcher(operation, Cursor(message.request_id(), 0));
  try {
    while (const auto event = watcher.read()) {
      if (on_event) on_event(*event);
    }
  } catch (...) {
    if (!watcher.cursor().is_finished()) cancel_request(*operation, message.request_id());
    throw;
  }
  return watcher.cursor().answer();
}

}  // namespace idefics2::internal
