#pragma once

#include <memory>

#include "content.h"
#include "idefics2/client.h"
#include "operation.h"

namespace idefics2::internal {

/// What is known of one, and so what to send next. It is named by its content: whoever uploads the same bytes again, in
/// this process or another, goes on where the last one stopped.
class Upload {
 public:
  Upload(Operation& operation, Content& content, OnProgress on_progress);

  /// Uploads; goes on after lost connections.
  File run();

 private:
  File try_once();
  void look();
  File send();
  void send_messages(grpc::ClientWriter<v1::UploadRequest>& messages);
  v1::UploadRequest start() const;
  void pause_after(const Error& error);
  bool is_surprise(const Error& error) const;

  Operation& operation_;
  Content& content_;
  OnProgress on_progress_;
  std::int64_t offset_ = 0;
  bool is_known_ = false;
  bool is_reached_ = false;
  int num_surprises_ = 0;
};

}  // namespace idefics2::internal
