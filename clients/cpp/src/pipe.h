#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>

namespace idefics2::internal {

/// Whether it can be read only once, so that it tells no size, and may keep its reader waiting for ever.
bool is_pipe(const std::filesystem::path& path);

/// Reads a pipe or a terminal without being held by it.
class PipeReader {
 public:
  /// Does not wait for who writes. Fails with FileUnreadable.
  explicit PipeReader(const std::filesystem::path& path);
  ~PipeReader();
  PipeReader(const PipeReader&) = delete;
  PipeReader& operator=(const PipeReader&) = delete;

  /// Waits until there is something, and reads what is there; 0 at the end. It calls `check` before each read and again
  /// and again while it waits: what that throws ends it. Fails with FileUnreadable.
  std::size_t read(char* bytes, std::size_t max_bytes, const std::function<void()>& check);

 private:
  const std::filesystem::path path_;  // for messages
  const int file_;
  bool has_begun_ = false;
};

}  // namespace idefics2::internal
