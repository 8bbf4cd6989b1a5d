#include "pipe.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>

#include "idefics2/error.h"

namespace idefics2::internal {
namespace {

/// How late a deadline or a cancellation may be heard.
constexpr int kSliceMilliseconds = 50;

[[noreturn]] void refuse(const std::filesystem::path& path) {
  throw FileUnreadable(path, {errno, std::generic_category()});
}

/// Waits for something to read, or an end, but not for long; false: there was neither.
bool wait(int file) {
  pollfd asked{file, POLLIN, 0};
  return poll(&asked, 1, kSliceMilliseconds) > 0;  // what cannot be polled says so at once, and is read
}

}  // namespace

bool is_pipe(const std::filesystem::path& path) {
  std::error_code cause;
  const auto type = std::filesystem::status(path, cause).type();
  return type == std::filesystem::file_type::fifo || type == std::filesystem::file_type::character;
}

PipeReader::PipeReader(const std::filesystem::path& path)
    : path_(path), file_(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY)) {
  if (file_ < 0) refuse(path_);
}

PipeReader::~PipeReader() { close(file_); }

std::size_t PipeReader::read(char* bytes, std::size_t max_bytes, const std::function<void()>& check) {
  for (;;) {
    if (check) check();
    const bool is_ready = wait(file_);
    // Before somebody writes, a read would take that for the end. Later it tells an end that poll does not.
    if (!is_ready && !has_begun_) continue;
    const auto num_bytes = ::read(file_, bytes, max_bytes);
    if (num_bytes >= 0) {
      has_begun_ = true;
      return static_cast<std::size_t>(num_bytes);
    }
    if (errno != EAGAIN && errno != EINTR) refuse(path_);
    if (is_ready) poll(nullptr, 0, kSliceMilliseconds);  // it cannot be polled, or somebody else has read
  }
}

}  // namespace idefics2::internal
