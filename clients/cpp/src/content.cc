#include "content.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <utility>

#include "digest.h"
#include "names.h"
#include "texts.h"

namespace idefics2::internal {
namespace {

/// The largest chunk that the service takes.
constexpr std::int64_t kPieceBytes = 1 << 20;

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

/// Whether it can be read only once, and so tells no size.
bool is_pipe(const std::filesystem::path& path) {
  std::error_code cause;
  const auto type = std::filesystem::status(path, cause).type();
  return type == std::filesystem::file_type::fifo || type == std::filesystem::file_type::character;
}

/// Makes a file that is new, and that nobody else may read.
std::filesystem::path make_copy() {
  auto path = (std::filesystem::temp_directory_path() / "idefics2-XXXXXX").string();
  const int file = mkstemp(path.data());
  if (file < 0) refuse(path);
  close(file);
  return path;
}

}  // namespace

std::string read_file(const std::filesystem::path& path, std::size_t max_bytes) {
  std::fstream file;
  const bool has_size = !is_pipe(path);
  if (has_size) {
    max_bytes = std::min(max_bytes, static_cast<std::size_t>(open(file, path)));
  } else {
    errno = 0;
    file.open(path, std::ios::in | std::ios::binary);
  }
  std::string bytes(max_bytes, '\0');
  file.read(bytes.data(), static_cast<std::streamsize>(max_bytes));
  const auto num_bytes = static_cast<std::size_t>(file.gcount());
  if (!file.is_open() || file.bad() || (has_size && num_bytes < max_bytes)) refuse(path);
  bytes.resize(num_bytes);
  return bytes;
}

Content::Content(const Operation& operation, const std::filesystem::path& path, std::string name)
    : name_(std::move(name)), path_(path), bytes_(&file_) {
  if (is_pipe(path)) {
    std::ifstream source(path, std::ios::binary);
    if (!source) refuse(path);
    spool(operation, source);
  } else {
    size_bytes_ = open(file_, path);
  }
  if (name_.empty()) name_ = clean_name(path.filename().string());
  measure(operation);
}

Content::Content(const Operation& operation, std::istream& source, std::string name)
    : name_(std::move(name)), path_("the stream"), bytes_(&source) {
  start_ = source.tellg();
  if (start_ < 0) {
    source.clear();
    spool(operation, source);
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
void Content::spool(const Operation& operation, std::istream& source) {
  errno = 0;
  const auto path = make_copy();
  file_.open(path, std::ios::in | std::ios::out | std::ios::binary);
  std::filesystem::remove(path);  // stays readable without its name
  if (!file_) refuse(path_);
  std::string piece(kPieceBytes, '\0');
  while (source) {
    operation.check();
    source.read(piece.data(), kPieceBytes);
    size_bytes_ += source.gcount();
    if (!file_.write(piece.data(), source.gcount())) refuse(path_);
  }
  if (source.bad() || !file_.flush()) refuse(path_);
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
