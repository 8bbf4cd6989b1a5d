/// Asks idefics2-serving about images, over gRPC.
///
/// Whatever keeps an answer from coming is an exception of the tree in error.h, but for what the caller's own functions
/// throw, and for std::filesystem::filesystem_error where a download cannot be written.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <istream>
#include <memory>
#include <string>

#include "idefics2/cancellation.h"
#include "idefics2/error.h"
#include "idefics2/options.h"
#include "idefics2/question.h"
#include "idefics2/stream.h"
#include "idefics2/v1/files.pb.h"
#include "idefics2/v1/generation.pb.h"
#include "idefics2/v1/requests.pb.h"

namespace idefics2 {

namespace internal {
struct Connection;
}

/// A complete answer.
using Answer = v1::GenerateResponse;
/// One thing that happened to a request. What it is not is there too, and empty.
using Event = v1::Event;
/// What a question would cost.
using Cost = v1::CountTokensResponse;
/// Where a submitted request stands.
using Request = v1::Request;
/// A file that was uploaded.
using File = v1::File;

/// How far an upload or a download is.
struct Transfer {
  /// Are over, those that were there before included.
  std::int64_t num_bytes;
  /// All that there are.
  std::int64_t size_bytes;
};

/// Told how far it is, on the thread that calls.
using OnProgress = std::function<void(const Transfer&)>;

/// What may be said of an upload.
struct UploadOptions {
  /// What to call the file in lists. Default: as the file on this machine is called, else nothing.
  std::string name;
  OnProgress on_progress;
};

/// Which requests are listed.
struct Filter {
  /// Where it is set, the only one that is listed.
  v1::State state = v1::STATE_UNSPECIFIED;
  /// How many are fetched at a time, 1 to 1,000; 0 is 50.
  std::int32_t page_size = 0;
};

/// Asks one service. It may be used by many threads at a time, and moved but not copied. Its calls block; none of them
/// may still run when it is destroyed, but streams outlive it.
class Client {
 public:
  /// Does not wait for the connection. Fails with SettingInvalid or AuthenticationFailed where target, TLS or key
  /// cannot be used.
  explicit Client(const Options& options = {});

  /// Where the service is, `host:port`.
  const std::string& target() const;

  /// Returns the answer when it is complete.
  Answer generate(const Question& question, const CallOptions& options = {}) const;

  /// Yields each event as it happens, the finished one last.
  Stream<Event> stream(const Question& question, const CallOptions& options = {}) const;

  /// Returns what the question would cost, without running it.
  Cost count_tokens(const Question& question, const CallOptions& options = {}) const;

  /// Hands in a request and returns where it stands; it goes on whoever leaves.
  Request submit(const Submission& submission, const CallOptions& options = {}) const;

  /// Returns where a request stands.
  Request get_request(const std::string& request_id, const CallOptions& options = {}) const;

  /// Returns where a request stands, and its log.
  Request get_request_with_logs(const std::string& request_id, const CallOptions& options = {}) const;

  /// Yields each event after number `after`, those that happened before too, to the finished one. It outlives lost
  /// connections and servers that start anew, without gap or repeat. Events of sequence 0 tell places in the queue. The
  /// finished event holds an answer or a failure, which is no error here. Leaving does not cancel the request.
  Stream<Event> watch(const std::string& request_id, std::int64_t after = 0, const CallOptions& options = {}) const;

  /// Returns the answer of a request that has ended, or fails with the request's own error.
  Answer result(const std::string& request_id, const CallOptions& options = {}) const;

  /// Returns the answer when there is one, or fails with the request's own error. It outlives what `watch` outlives.
  /// Leaving does not cancel the request.
  Answer wait(const std::string& request_id, const CallOptions& options = {}) const;

  /// Cancels a request and returns where it stands: for a moment it may still be running.
  Request cancel(const std::string& request_id, const CallOptions& options = {}) const;

  /// Submits a request, tells `on_event` what happens to it, and returns the answer. It outlives what `watch` outlives,
  /// at every step. Whoever leaves without an answer cancels the request: by a deadline, a cancellation, or an
  /// exception of `on_event`, which goes through.
  Answer submit_and_watch(const Submission& submission, const std::function<void(const Event&)>& on_event = {},
                          const CallOptions& options = {}) const;

  /// Yields the key's requests that are still known, newest first; a page is fetched when it is needed.
  Stream<Request> list_requests(const Filter& filter = {}, const CallOptions& options = {}) const;

  /// Uploads a picture and returns what the service knows of it; a question takes that as Image::uploaded. It reads and
  /// sends a MiB at a time. It goes on after a lost connection, and where an earlier upload of the same bytes stopped,
  /// even one of another process; what the service has is not sent again. A pipe is kept on disk meanwhile.
  File upload(const std::filesystem::path& path, const UploadOptions& upload_options = {},
              const CallOptions& options = {}) const;

  /// Uploads what is left of a stream; one that cannot seek is kept on disk meanwhile. A deadline or a cancellation is
  /// heard between reads of it: a read that itself waits is not woken. What it would throw by its exceptions()
  /// meanwhile is told by FileUnreadable instead, and its end not at all.
  File upload(std::istream& source, const UploadOptions& upload_options = {}, const CallOptions& options = {}) const;

  /// Writes a file's bytes to `path`, where it appears when it is complete, and returns what it is. The file is named
  /// by its id, by its URL, or by `sha256:` and its digest. It goes on after lost connections.
  File download(const std::string& file, const std::filesystem::path& path, const OnProgress& on_progress = {},
                const CallOptions& options = {}) const;

  /// Returns what the service knows of a file, named as for `download`.
  File get_file(const std::string& file, const CallOptions& options = {}) const;

  /// Lets the service forget a file, named as for `download`, and returns what it was.
  File delete_file(const std::string& file, const CallOptions& options = {}) const;

 private:
  std::shared_ptr<const internal::Connection> connection_;
};

}  // namespace idefics2
