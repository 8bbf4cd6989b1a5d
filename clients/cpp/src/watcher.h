#pragma once

#include <memory>
#include <optional>

#include "cursor.h"
#include "flow.h"
#include "idefics2/stream.h"
#include "operation.h"

namespace idefics2::internal {

/// Follows a request, over connections that may be lost.
class Watcher : public Source<Event> {
 public:
  Watcher(std::shared_ptr<Operation> operation, Cursor cursor);

  const Cursor& cursor() const { return cursor_; }
  /// Returns what is new; none after the last event.
  std::optional<Event> read() override;
  void cancel() override;

 private:
  std::optional<Event> read_flow();
  void check_end();

  std::shared_ptr<Operation> operation_;
  Cursor cursor_;
  std::unique_ptr<Flow<Event>> flow_;  // none: there is no connection
};

/// Submits a request, waits for its answer, and tells what happens to it meanwhile; who leaves cancels it.
Answer submit_and_watch(const std::shared_ptr<Operation>& operation, v1::SubmitRequest message,
                        const std::function<void(const Event&)>& on_event);

}  // namespace idefics2::internal
