#include "upload.h"

#include <utility>

#include "failures.h"

namespace idefics2::internal {
namespace {

/// The service keeps no less of an upload that breaks, so there is nothing to ask before a smaller one.
constexpr std::int64_t kSmallBytes = 2 << 20;
constexpr int kMaxSurprises = 5;

/// Returns none in the place of NotFound.
template <class Ask>
auto find(const Ask& ask) -> std::optional<decltype(ask())> {
  try {
    return ask();
  } catch (const NotFound&) {
    return std::nullopt;
  }
}

}  // namespace

Upload::Upload(Operation& operation, Content& content, OnProgress on_progress)
    : operation_(operation), content_(content), on_progress_(std::move(on_progress)) {}

File Upload::run() {
  for (;;) {
    try {
      return try_once();
    } catch (const Error& error) {
      pause_after(error);
    }
  }
}

File Upload::try_once() {
  if (content_.size_bytes() > kSmallBytes) look();
  return send();
}

/// Sees what the service has.
void Upload::look() {
  auto& files = *operation_.connection().files;
  v1::GetFileRequest file;
  file.set_sha256(content_.sha256());
  is_known_ = find([&] { return operation_.ask(&v1::FileService::Stub::GetFile, files, file); }).has_value();
  is_reached_ = true;
  if (is_known_) return;
  v1::GetUploadRequest upload;
  upload.set_upload_id("sha256-" + content_.sha256());
  const auto kept = find([&] { return operation_.ask(&v1::FileService::Stub::GetUpload, files, upload); });
  const std::int64_t num_kept_bytes = kept ? kept->num_kept_bytes() : 0;
  if (num_kept_bytes > offset_) operation_.restore();
  offset_ = num_kept_bytes;
}

/// Sends what is missing, over one connection.
File Upload::send() {
  Attempt attempt(operation_);
  File file;
  const auto messages = operation_.connection().files->Upload(&attempt.context(), &file);
  try {
    send_messages(*messages);
  } catch (...) {
    attempt.context().TryCancel();
    messages->Finish();
    throw;
  }
  attempt.check(messages->Finish());
  return file;
}

/// Sends until there is no more, or the service has said something. It fails by what is wrong here.
void Upload::send_messages(grpc::ClientWriter<v1::UploadRequest>& messages) {
  v1::UploadRequest message = start();
  std::int64_t num_bytes = is_known_ ? content_.size_bytes() : offset_;
  while (messages.Write(message)) {
    if (on_progress_) on_progress_({num_bytes, content_.size_bytes()});
    if (num_bytes == content_.size_bytes()) break;
    content_.read(num_bytes, *message.mutable_chunk());
    num_bytes += static_cast<std::int64_t>(message.chunk().size());
  }
  messages.WritesDone();
}

v1::UploadRequest Upload::start() const {
  v1::UploadRequest message;
  auto& start = *message.mutable_start();
  start.set_upload_id("sha256-" + content_.sha256());
  start.set_offset(offset_);
  start.set_name(content_.name());
  start.set_size_bytes(content_.size_bytes());
  start.set_sha256(content_.sha256());
  return message;
}

/// Waits before the next try; goes on with `error` where trying again is no use.
void Upload::pause_after(const Error& error) {
  is_reached_ = is_reached_ || !error.request_id().empty();
  if (!is_reached_) throw;  // a service that was never there is not waited for
  if (!is_surprise(error) || num_surprises_ == kMaxSurprises) {
    operation_.pause_after(error);
    return;
  }
  ++num_surprises_;
  operation_.pause_after(
      ServiceUnavailable(error.what(), {grpc::StatusCode::UNAVAILABLE, "", "", error.request_id(), {}, {}}));
}

/// Whether the service has no longer what it had when it was asked: somebody uploads the same.
bool Upload::is_surprise(const Error& error) const {
  const bool has_moved = error.is(v1::UPLOAD_NOT_FOUND) || error.field() == "start.offset";
  return has_moved || (is_known_ && error.is(v1::FILE_MISMATCH));
}

}  // namespace idefics2::internal
