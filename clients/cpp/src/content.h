#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <istream>
#include <optional>
#include <string>

#include "operation.h"

namespace idefics2::internal {

/// Reads a file, or a pipe, to its end or until there are `max_bytes`. `check` ends the wait for a pipe by what it
/// throws. Fails with FileUnreadable.
std::string read_file(const std::filesystem::path& path, std::size_t max_bytes,
                      const std::function<void()>& check = {});

/// While it lives, a stream tells what goes wrong by its state alone: one that throws would do so at its end too.
class Quiet {
 public:
  explicit Quiet(std::istream& source);
  ~Quiet();
  Quiet(const Quiet&) = delete;
  Quiet& operator=(const Quiet&) = delete;

 private:
  std::istream& source_;
  const std::ios::iostate thrown_;
};

/// A file to upload, measured. It is read in pieces, so that it is never held whole.
class Content {
 public:
  /// Reads the file once for its digest, which takes a while. Fails with FileUnreadable.
  Content(const Operation& operation, const std::filesystem::path& path, std::string name);
  /// Finds out where the source can be read more than once: what is left of it, if it was begun.
  Content(const Operation& operation, std::istream& source, std::string name);

  const std::string& name() const { return name_; }
  const std::string& sha256() const { return sha256_; }
  std::int64_t size_bytes() const { return size_bytes_; }
  /// Reads the next bytes from `offset` on into `piece`; none at the end.
  void read(std::int64_t offset, std::string& piece);

 private:
  void spool(const std::function<std::size_t(std::string&)>& read_next);
  void measure(const Operation& operation);

  std::string name_;
  std::filesystem::path path_;  // for messages
  std::fstream file_;
  std::istream* bytes_;
  std::optional<Quiet> quiet_;  // a caller's stream
  std::streamoff start_ = 0;
  std::int64_t size_bytes_ = 0;
  std::string sha256_;
};

}  // namespace idefics2::internal
