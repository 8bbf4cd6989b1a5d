#include "download.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "failures.h"
#include "flow.h"
#include "names.h"

namespace idefics2::internal {
namespace {

[[noreturn]] void refuse(const std::filesystem::path& path) {
  const std::error_code cause(errno != 0 ? errno : EIO, std::generic_category());
  throw std::filesystem::filesystem_error("cannot write", path, cause);
}

/// Makes a file beside `path` that nobody else has, for what comes before all is there.
std::filesystem::path make_part(const std::filesystem::path& path) {
  auto part = path.parent_path() / ("idefics2-" + make_name() + ".part");
  const int file = open(part.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (file < 0) refuse(path);
  close(file);
  return part;
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
  Remainder part{make_part(path)};
  errno = 0;
  out_.open(part.path, std::ios::binary);
  if (!out_) refuse(path);
  run();
  out_.close();
  if (!out_) refuse(path);
  std::filesystem::rename(part.path, path);
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
