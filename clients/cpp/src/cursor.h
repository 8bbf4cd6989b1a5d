#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "idefics2/client.h"

namespace idefics2::internal {

/// Where a watcher stands in the list of a request's events: what is known, and so what to ask for next.
class Cursor {
 public:
  Cursor(std::string request_id, std::int64_t after);

  const std::string& request_id() const { return request_id_; }
  std::int64_t after() const { return after_; }
  bool is_finished() const { return finished_.has_value(); }

  /// Notes an event that arrived, and tells whether it says anything new.
  bool take(const Event& event);
  /// Compares a stream that ended without a last event with what the service knows; fails if there is more.
  void check_end(const Request& request) const;
  /// Returns what the last event holds, or fails with the request's own error.
  Answer answer() const;

 private:
  bool move_to(std::int32_t position);

  std::string request_id_;
  std::int64_t after_;  // the sequence of the last event that is known
  std::optional<std::int32_t> position_;
  std::optional<v1::Finished> finished_;
};

}  // namespace idefics2::internal
