#include "cancellation.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <system_error>
#include <utility>

namespace idefics2 {
namespace {

std::atomic<int> signal_pipe{-1};
static_assert(std::atomic<int>::is_always_lock_free, "a handler of signals may use nothing else");

void write_signal(int) {
  const int saved = errno;
  // Where the pipe is full, enough is written.
  [[maybe_unused]] const auto written = write(signal_pipe, "s", 1);
  errno = saved;
}

char read_letter(int pipe) {
  char letter = 0;
  while (read(pipe, &letter, 1) < 0 && errno == EINTR) {
  }
  return letter;
}

}  // namespace

void Cancellation::State::bind(const std::shared_ptr<internal::Operation>& operation) {
  const std::lock_guard lock(mutex);
  if (is_cancelled) {
    operation->leave();
    return;
  }
  const auto is_over = [](const auto& one) { return one.expired(); };
  operations.erase(std::remove_if(operations.begin(), operations.end(), is_over), operations.end());
  operations.push_back(operation);
}

Cancellation::Cancellation() : state_(std::make_shared<State>()) {}

void Cancellation::cancel() const {
  const std::lock_guard lock(state_->mutex);
  state_->is_cancelled = true;
  for (const auto& one : std::exchange(state_->operations, {})) {
    if (const auto operation = one.lock()) operation->leave();
  }
}

bool Cancellation::is_cancelled() const {
  const std::lock_guard lock(state_->mutex);
  return state_->is_cancelled;
}

CancelOnSignal::CancelOnSignal(Cancellation cancellation, int signal) : signal_(signal) {
  if (pipe(pipe_) != 0) throw std::system_error(errno, std::generic_category(), "pipe");
  thread_ = std::thread([cancellation = std::move(cancellation), pipe = pipe_[0]] {
    if (read_letter(pipe) == 's') cancellation.cancel();
  });
  signal_pipe = pipe_[1];
  struct sigaction action = {};
  action.sa_handler = write_signal;
  action.sa_flags = static_cast<int>(SA_RESTART | SA_RESETHAND);
  sigaction(signal_, &action, &previous_);
}

CancelOnSignal::~CancelOnSignal() {
  sigaction(signal_, &previous_, nullptr);
  [[maybe_unused]] const auto written = write(pipe_[1], ".", 1);
  thread_.join();
  signal_pipe = -1;
  close(pipe_[0]);
  close(pipe_[1]);
}

}  // namespace idefics2
