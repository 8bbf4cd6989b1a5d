#include "content.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <utility>

#include "digest.h"
#include "names.h"
#include "pipe.h"
#include "texts.h"

namespace idefics2::internal {
namespace {

/// The largest chunk that the service takes.
constexpr std::int64_t kPieceBytes = 1 << 20;
/// How much of a pipe is read at a time; they seldom hold more.
constexpr std::size_t kPipeBytes = 1 << 16;

/// Fails with what the system said last; streams do not say it themselves.
[[noreturn]] void refuse(const std::filesystem::path& path) {
  const int cause = errno != 0 ? errno : EIO;
  throw FileUnreadable(path, {cause, std::generic_category()});
}

/// Opens a file, and returns its size.
std::int64_t open(std::fstream& file, const std::filesystem::path& path) {
  errno = 0;
  file.open(path, std::ios::in | std::ios::binary);
  if (!file) refuse(path);
  std::error_code cause;
  const auto size = std::filesystem::file_size(path, cause);
  if (cause) throw FileUnreadable(path, cause);  // a directory, for one
  return static_cast<std::int64_t>(size);
}

std::string read_pipe(const std::filesystem::path& path, std::size_t max_bytes, const std::function<void()>& check) {
  PipeReader pipe(path);
  std::string bytes;
  std::string piece(kPipeBytes, '\0');
  while (bytes.size() < max_bytes) {
    const auto num_bytes = pipe.read(piece.data(), std::min(piece.size(), max_bytes - bytes.size()), check);
    if (num_bytes == 0) break;
    bytes.append(piece, 0, num_bytes);
  }
  return bytes;
}

/// Reads what a stream has ready; waits only where that is nothing. 0 at the end.
std::size_t read_ready(std::istream& source, std::string& piece) {
  if (!source.get(piece[0])) return 0;  // by itself, for a stream without a buffer has nothing ready ever
  return 1 + static_cast<std::size_t>(source.readsome(&piece[1], static_cast<std::streamsize>(piece.size() - 1)));
}

/// Makes a file that is new, and that nobody else may read.
std::filesystem::path make_copy() {
  std::error_code cause;
  const auto folder = std::filesystem::temp_directory_path(cause);
  if (cause) throw FileUnreadable("the folder for temporary files (TMPDIR)", cause);
  auto path = (folder / "idefics2-XXXXXX").string();
  const int file = mkstemp(path.data());
  if (file < 0) refuse(path);
  close(file);
  return path;
}

}  // namespace

std::string read_file(const std::filesystem::path& path, std::size_t max_bytes, const std::function<void()>& check) {
  if (is_pipe(path)) return read_pipe(path, max_bytes, check);
  std::fstream file;
  std::string bytes(std::min(max_bytes, static_cast<std::size_t>(open(file, path))), '\0');
  if (!file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()))) refuse(path);
  return bytes;
}

Quiet::Quiet(std::istream& source) : source_(source), thrown_(source.exceptions()) {
  source_.exceptions(std::ios::goodbit);
}

Quiet::~Quiet() {
  try {
    source_.exceptions(thrown_);
  } catch (...) {  // it is set, and says that the stream is at its end
  }
}

Content::Content(const Operation& operation, const std::filesystem::path& path, std::string name)
    : name_(std::move(name)), path_(path), bytes_(&file_) {
  if (is_pipe(path)) {
    PipeReader pipe(path);
    const auto check = [&operation] { operation.check(); };
    spool([&](std::string& piece) { return pipe.read(piece.data(), piece.size(), check); });
  } else {
    size_bytes_ = open(file_, path);
  }
  if (name_.empty()) name_ = clean_name(path.filename().string());
  measure(operation);
}

Content::Content(const Operation& operation, std::istream& source, std::string name)
    : name_(std::move(name)), path_("the stream"), bytes_(&source), quiet_(std::in_place, source) {
  errno = 0;
  if (source.fail()) refuse(path_);
  start_ = source.tellg();
  if (start_ < 0) {
    source.clear();
    spool([&](std::string& piece) {
      operation.check();
      return read_ready(source, piece);
    });
    if (source.bad()) refuse(path_);
  } else {
    source.seekg(0, std::ios::end);
    size_bytes_ = source.tellg() - start_;
  }
  measure(operation);
}

void Content::read(std::int64_t offset, std::string& piece) {
  piece.resize(static_cast<std::size_t>(std::min(kPieceBytes, size_bytes_ - offset)));
  errno = 0;
  bytes_->clear();
  bytes_->seekg(start_ + offset);
  if (!bytes_->read(piece.data(), static_cast<std::streamsize>(piece.size()))) refuse(path_);
}

/// Copies what can be read only once to where it can be read again; on disk, for it may be large.
void Content::spool(const std::function<std::size_t(std::string&)>& read_next) {
  errno = 0;
  const auto path = make_copy();
  file_.open(path, std::ios::in | std::ios::out | std::ios::binary);
  std::error_code ignored;
  std::filesystem::remove(path, ignored);  // stays readable without its name
  if (!file_) refuse(path_);
  std::string piece(kPieceBytes, '\0');
  while (const auto num_bytes = static_cast<std::streamsize>(read_next(piece))) {
    size_bytes_ += num_bytes;
    if (!file_.write(piece.data(), num_bytes)) refuse(path_);
  }
  if (!file_.flush()) refuse(path_);
  bytes_ = &file_;
  start_ = 0;
}

void Content::measure(const Operation& operation) {
  check_text("start.name", name_);
  Digest digest;
  std::string piece;
  for (std::int64_t offset = 0; offset < size_bytes_; offset += kPieceBytes) {
    operation.check();
    read(offset, piece);
    digest.add(piece);
  }
  sha256_ = digest.write();
}

}  // namespace idefics2::internal
