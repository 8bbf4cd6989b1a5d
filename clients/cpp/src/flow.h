#pragma once

#include <grpcpp/support/sync_stream.h>

#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "operation.h"

namespace idefics2::internal {

/// What comes of one call that has many answers. It ends the call if it goes out of scope before the end.
template <class Message>
class Flow {
 public:
  template <class Start>
  Flow(std::shared_ptr<Operation> operation, const Start& start)
      : operation_(std::move(operation)), attempt_(*operation_), reader_(start(&attempt_.context())) {}

  ~Flow() {
    if (is_over_) return;
    attempt_.context().TryCancel();
    Message message;
    while (reader_->Read(&message)) {
    }
    reader_->Finish();
  }

  Flow(const Flow&) = delete;
  Flow& operator=(const Flow&) = delete;

  /// Waits for the next one; none: that was all.
  std::optional<Message> read() {
    Message message;
    if (reader_->Read(&message)) return message;
    is_over_ = true;
    attempt_.check(reader_->Finish());
    return std::nullopt;
  }

 private:
  std::shared_ptr<Operation> operation_;
  Attempt attempt_;
  std::unique_ptr<grpc::ClientReader<Message>> reader_;
  bool is_over_ = false;
};

}  // namespace idefics2::internal
