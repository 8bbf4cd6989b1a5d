#include "cursor.h"

#include <utility>

#include "failures.h"

namespace idefics2::internal {

Cursor::Cursor(std::string request_id, std::int64_t after) : request_id_(std::move(request_id)), after_(after) {}

bool Cursor::take(const Event& event) {
  if (event.sequence() == 0) {
    return !event.has_queue_position() || move_to(event.queue_position().position());
  }
  if (event.sequence() <= after_) return false;
  after_ = event.sequence();
  position_.reset();
  if (event.has_finished()) finished_ = event.finished();
  return true;
}

void Cursor::check_end(const Request& request) const {
  if (!request.has_end_time() || request.last_sequence() > after_) {
    fail("the stream ended before the request did", {grpc::StatusCode::UNAVAILABLE, "", "", request_id_, {}, {}});
  }
}

Answer Cursor::answer() const {
  if (finished_ && finished_->has_response()) return finished_->response();
  if (finished_ && finished_->has_failure()) fail_as(finished_->failure(), request_id_);
  fail("the service ended the stream before the answer was complete",
       {grpc::StatusCode::INTERNAL, "", "", request_id_, {}, {}});
}

/// Notes a place in the queue; a new connection tells of one that is known already.
bool Cursor::move_to(std::int32_t position) { return std::exchange(position_, position) != position; }

}  // namespace idefics2::internal
