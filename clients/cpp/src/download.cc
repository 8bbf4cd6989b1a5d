#include "download.h"

#include <cerrno>
#include <system_error>
#include <utility>

#include "failures.h"
#include "flow.h"

namespace idefics2::internal {
namespace {

[[noreturn]] void refuse(const std::filesystem::path& path) {
  const std::error_code cause(errno != 0 ? errno : EIO, std::generic_category());
  throw std::filesystem::filesystem_error("cannot write", path, cause);
}

/// Removes a file that is not complete.
struct Remainder {
  std::filesystem::path path;
  bool is_complete = false;

  ~Remainder() {
    std::error_code ignored;
    if (!is_complete) std::filesystem::remove(path, ignored);
  }
};

}  // namespace

Download::Download(std::shared_ptr<Operation> operation, const std::string& file, OnProgress on_progress)
    : operation_(std::move(operation)),
      question_(name_file<v1::DownloadFileRequest>(file)),
      on_progress_(std::move(on_progress)) {}

File Download::to(const std::filesystem::path& path) {
  path_ = path;
  path_ += ".part";
  errno = 0;
  out_.open(path_, std::ios::binary | std::ios::trunc);
  if (!out_) refuse(path);
  Remainder part{path_};
  run();
  out_.close();
  if (!out_) refuse(path);
  std::filesystem::rename(path_, path);
  part.is_complete = true;
  return *file_;
}

/// Reads all; goes on after lost connections.
void Download::run() {
  for (;;) {
    try {
      read();
      check();
      return;
    } catch (const Error& error) {
      const bool is_reached = file_ || !error.request_id().empty();
      if (!is_reached) throw;  // a service that was never there is not waited for
      operation_->pause_after(error);
    }
  }
}

/// Writes what is new on one connection.
void Download::read() {
  Flow<v1::DownloadFileResponse> parts(operation_, [this](grpc::ClientContext* context) {
    return operation_->connection().files->DownloadFile(context, question_);
  });
  while (const auto part = parts.read()) {
    if (part->has_file()) {
      file_ = part->file();
    } else {
      write(part->chunk());
    }
    operation_->restore();
  }
}

void Download::write(const std::string& chunk) {
  errno = 0;
  if (!out_.write(chunk.data(), static_cast<std::streamsize>(chunk.size()))) refuse(path_);
  digest_.add(chunk);
  question_.set_offset(question_.offset() + static_cast<std::int64_t>(chunk.size()));
  if (on_progress_) on_progress_({question_.offset(), file_ ? file_->size_bytes() : 0});
}

void Download::check() {
  if (!file_ || digest_.write() != file_->sha256()) {
    fail("what came is not the whole file as it was uploaded: download it again",
         {grpc::StatusCode::DATA_LOSS, "", "", "", {}, {}});
  }
}

}  // namespace idefics2::internal
