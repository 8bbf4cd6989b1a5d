#include "cancellation.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <system_error>
#include <thread>
#include <utility>

namespace idefics2 {
namespace {

constexpr char kSignalled = 's';
constexpr char kOver = '.';

std::atomic<int> signal_pipe{-1};
static_assert(std::atomic<int>::is_always_lock_free, "a handler of signals may use nothing else");

void write_letter(int pipe, char letter) { [[maybe_unused]] const auto written = write(pipe, &letter, 1); }

char read_letter(int pipe) {
  char letter = 0;
  while (read(pipe, &letter, 1) < 0 && errno == EINTR) {
  }
  return letter;
}

void write_signal(int) {
  const int saved = errno;
  write_letter(signal_pipe, kSignalled);
  errno = saved;
}

/// Two ends, which no other program inherits.
class Pipe {
 public:
  Pipe() {
    if (pipe(ends_) != 0) throw std::system_error(errno, std::generic_category(), "pipe");
    for (const int end : ends_) fcntl(end, F_SETFD, FD_CLOEXEC);
  }
  ~Pipe() {
    for (const int end : ends_) close(end);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;

  int read_end() const { return ends_[0]; }
  int write_end() const { return ends_[1]; }

 private:
  int ends_[2] = {};
};

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

/// A thread that cancels, and what wakes it: a handler of signals may do no more than write a letter.
struct CancelOnSignal::State {
  State(Cancellation cancellation, int signal_number)
      : signal(signal_number), thread([this, cancellation = std::move(cancellation)] {
          if (read_letter(pipe.read_end()) == kSignalled) cancellation.cancel();
        }) {}

  ~State() {
    write_letter(pipe.write_end(), kOver);
    thread.join();
  }

  State(const State&) = delete;
  State& operator=(const State&) = delete;

  int signal;
  struct sigaction previous = {};
  Pipe pipe;
  std::thread thread;  // the last one, for it reads the pipe
};

CancelOnSignal::CancelOnSignal(Cancellation cancellation, int signal)
    : state_(std::make_unique<State>(std::move(cancellation), signal)) {
  signal_pipe = state_->pipe.write_end();
  struct sigaction action = {};
  action.sa_handler = write_signal;
  action.sa_flags = static_cast<int>(SA_RESTART | SA_RESETHAND);
  if (sigaction(signal, &action, &state_->previous) != 0) {
    const int cause = errno;
    signal_pipe = -1;
    throw std::system_error(cause, std::generic_category(), "sigaction");
  }
}

CancelOnSignal::~CancelOnSignal() {
  sigaction(state_->signal, &state_->previous, nullptr);
  signal_pipe = -1;
}

}  // namespace idefics2
