#pragma once

#include <grpcpp/client_context.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>

#include "connection.h"
#include "idefics2/options.h"

namespace idefics2::internal {

/// What a caller asked for, which may take several calls and outlive their connections. One thread drives it; any
/// thread may `leave`.
class Operation : public std::enable_shared_from_this<Operation> {
 public:
  /// Fails with InvalidRequest where the options hold what cannot be sent.
  static std::shared_ptr<Operation> begin(std::shared_ptr<const Connection> connection, const CallOptions& options);

  /// Begins one with a deadline of its own, which goes on whoever leaves this one.
  std::shared_ptr<Operation> begin_another(std::chrono::milliseconds timeout) const;

  const Connection& connection() const { return *connection_; }
  /// From now on it may take as long as when it began, and nothing was lost.
  void restart();
  /// Ends the call that runs, and all that follow.
  void leave() noexcept;
  bool has_left() const;
  /// Fails if there is no more time, or nobody waits.
  void check(const std::string& request_id = "") const;

  /// Whether something was lost since the last thing that got through.
  bool has_lost() const { return num_losses_ > 0; }
  /// The service has something of it, or perhaps: no limit is a reason to leave that there.
  void note_begun() { has_begun_ = true; }
  /// Something got through.
  void restore();
  /// Waits before the next try. To be called where `error` is caught: it goes on where trying again is no use.
  void pause_after(const Error& error);
  /// The same for calls that are made a few times only.
  void pause_or_give_up(const Error& error);

  /// Calls once.
  template <class Stub, class Question, class Answer>
  Answer ask(grpc::Status (Stub::*method)(grpc::ClientContext*, const Question&, Answer*), Stub& stub,
             const Question& question);
  /// Calls a few times where no answer comes: what only reads has the same effect and answer each time.
  template <class Stub, class Question, class Answer>
  Answer ask_repeatedly(grpc::Status (Stub::*method)(grpc::ClientContext*, const Question&, Answer*), Stub& stub,
                        const Question& question);
  /// Calls until there is an answer, or an error that will stay.
  template <class Stub, class Question, class Answer>
  Answer insist(grpc::Status (Stub::*method)(grpc::ClientContext*, const Question&, Answer*), Stub& stub,
                const Question& question);

 private:
  friend class Attempt;

  Operation(std::shared_ptr<const Connection> connection, const CallOptions& options);
  void pause(const Error& lost);
  std::unique_ptr<grpc::ClientContext> make_context() const;
  void attach(grpc::ClientContext& context);
  void detach();

  const std::shared_ptr<const Connection> connection_;
  const CallOptions options_;
  std::optional<std::chrono::system_clock::time_point> deadline_;
  int num_losses_ = 0;
  bool has_begun_ = false;
  bool waits_ = false;  // the next call waits for a service, instead of failing at once where there is none

  mutable std::mutex mutex_;
  std::condition_variable left_;
  bool has_left_ = false;
  grpc::ClientContext* running_ = nullptr;
};

/// One call of an operation; one at a time.
class Attempt {
 public:
  explicit Attempt(Operation& operation) : operation_(operation), context_(operation.make_context()) {
    operation.attach(*context_);
  }
  ~Attempt() { operation_.detach(); }
  Attempt(const Attempt&) = delete;
  Attempt& operator=(const Attempt&) = delete;

  grpc::ClientContext& context() { return *context_; }
  /// Fails where it ended by anything but OK.
  void check(const grpc::Status& status) const;

 private:
  Operation& operation_;
  std::unique_ptr<grpc::ClientContext> context_;  // never none
};

template <class Stub, class Question, class Answer>
Answer Operation::ask(grpc::Status (Stub::*method)(grpc::ClientContext*, const Question&, Answer*), Stub& stub,
                      const Question& question) {
  Attempt attempt(*this);
  Answer answer;
  attempt.check((stub.*method)(&attempt.context(), question, &answer));
  return answer;
}

template <class Stub, class Question, class Answer>
Answer Operation::ask_repeatedly(grpc::Status (Stub::*method)(grpc::ClientContext*, const Question&, Answer*),
                                 Stub& stub, const Question& question) {
  for (;;) {
    try {
      return ask(method, stub, question);
    } catch (const Error& error) {
      pause_or_give_up(error);
    }
  }
}

template <class Stub, class Question, class Answer>
Answer Operation::insist(grpc::Status (Stub::*method)(grpc::ClientContext*, const Question&, Answer*), Stub& stub,
                         const Question& question) {
  for (;;) {
    try {
      Answer answer = ask(method, stub, question);
      restore();
      return answer;
    } catch (const Error& error) {
      pause_after(error);
    }
  }
}

}  // namespace idefics2::internal
