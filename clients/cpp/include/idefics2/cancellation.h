#pragma once

#include <csignal>
#include <memory>

namespace idefics2 {

namespace internal {
class Operation;
}

/// Ends calls from outside: hand it to calls, and any thread may end them, those that begin later too. Copies are one
/// and the same.
class Cancellation {
 public:
  Cancellation();

  void cancel() const;
  bool is_cancelled() const;

 private:
  friend class internal::Operation;
  struct State;

  std::shared_ptr<State> state_;
};

/// While it lives, a signal cancels instead of ending the process; the same signal once more ends it. There may be one
/// at a time. POSIX only.
class CancelOnSignal {
 public:
  /// Fails with std::system_error where the system has no pipe or no thread left, or lets nobody take the signal.
  explicit CancelOnSignal(Cancellation cancellation, int signal = SIGINT);
  ~CancelOnSignal();
  CancelOnSignal(const CancelOnSignal&) = delete;
  CancelOnSignal& operator=(const CancelOnSignal&) = delete;

 private:
  struct State;

  std::unique_ptr<State> state_;
};

}  // namespace idefics2
